# ruff: noqa: E501 - one instruction a line
"""Instructions as people and prompt models write them, by language; some mixed, some technical."""

from __future__ import annotations

PLAIN: dict[str, list[str]] = {
    "en": [
        "Answer the question. Think step by step and give only the final answer.",
        "Sort the words alphabetically. Compare letter by letter, keep duplicates, and separate the words with single spaces.",
        "You are a careful assistant. Read the passage, find the sentence that answers the question, and copy the shortest span that is still complete.",
        "Classify the review as positive or negative. If it mentions both, decide by the last sentence.",
        "Extract the invoice number, the date and the total from the text. If a value is missing, write null.",
        "Given a premise and a hypothesis, decide whether the hypothesis follows. Do not use outside knowledge.",
        "Write a polite reply to the customer. Mention the order number, apologise once, and offer a refund or a replacement.",
        "Count how many of the listed objects are vegetables. Ignore adjectives, and treat plurals by their number.",
        "Evaluate the Boolean expression from the inside out: first parentheses, then not, then and, then or.",
        "Translate the sentence into German. Keep names as they are, and prefer the informal form of address.",
        "Solve the maths problem. Write each intermediate result on its own line and finish with the number alone.",
        "Rewrite the query as a search phrase of at most six words without stop words.",
    ],
    "de": [
        "Beantworte die Frage. Denke Schritt für Schritt und gib nur die endgültige Antwort an.",
        "Sortiere die Wörter alphabetisch. Vergleiche Buchstabe für Buchstabe und trenne die Wörter durch Leerzeichen.",
        "Du bist ein sorgfältiger Assistent. Lies den Abschnitt, finde den Satz, der die Frage beantwortet, und gib die kürzeste vollständige Stelle wieder.",
        "Ordne die Rezension als positiv oder negativ ein. Wenn beides vorkommt, entscheidet der letzte Satz.",
        "Entnimm dem Text Rechnungsnummer, Datum und Gesamtbetrag. Fehlt ein Wert, schreibe null.",
        "Prüfe, ob die Hypothese aus der Voraussetzung folgt. Verwende kein Wissen von außen.",
        "Schreibe eine höfliche Antwort an die Kundin. Nenne die Bestellnummer und biete eine Erstattung an.",
        "Zähle, wie viele der genannten Gegenstände Gemüse sind. Beachte den Plural.",
        "Fasse den Text in zwei Sätzen zusammen und verzichte auf Wertungen.",
        "Löse die Aufgabe und schreibe jedes Zwischenergebnis in eine eigene Zeile.",
    ],
    "fr": [
        "Réponds à la question. Réfléchis étape par étape et donne uniquement la réponse finale.",
        "Classe les mots par ordre alphabétique et sépare-les par une seule espace.",
        "Tu es un assistant attentif. Lis le passage, trouve la phrase qui répond à la question et recopie l'extrait le plus court possible.",
        "Indique si l'avis est positif ou négatif. S'il contient les deux, la dernière phrase décide.",
        "Extrais du texte le numéro de facture, la date et le montant total. Si une valeur manque, écris null.",
        "Rédige une réponse polie au client, rappelle le numéro de commande et propose un remboursement.",
        "Compte combien d'objets de la liste sont des légumes sans tenir compte des adjectifs.",
        "Résume le texte en deux phrases, sans donner ton avis.",
    ],
    "es": [
        "Responde a la pregunta. Piensa paso a paso y da solo la respuesta final.",
        "Ordena las palabras alfabéticamente y sepáralas con un solo espacio.",
        "Eres un asistente cuidadoso. Lee el pasaje, busca la frase que responde a la pregunta y copia el fragmento más corto.",
        "Clasifica la reseña como positiva o negativa. Si menciona ambas cosas, decide según la última frase.",
        "Extrae del texto el número de factura, la fecha y el importe total. Si falta un dato, escribe null.",
        "Escribe una respuesta amable al cliente, menciona el número de pedido y ofrece un reembolso.",
        "Cuenta cuántos de los objetos de la lista son verduras sin fijarte en los adjetivos.",
        "Resume el texto en dos frases y no añadas opiniones.",
    ],
    "it": [
        "Rispondi alla domanda. Ragiona passo dopo passo e dai solo la risposta finale.",
        "Ordina le parole in ordine alfabetico e separale con un solo spazio.",
        "Leggi il brano, trova la frase che risponde alla domanda e copia il frammento più breve.",
        "Classifica la recensione come positiva o negativa. Se contiene entrambe le cose, decidi in base all'ultima frase.",
        "Estrai dal testo il numero della fattura, la data e l'importo totale. Se manca un valore, scrivi null.",
    ],
    "pt": [
        "Responda à pergunta. Pense passo a passo e dê apenas a resposta final.",
        "Ordene as palavras alfabeticamente e separe-as com um único espaço.",
        "Leia o trecho, encontre a frase que responde à pergunta e copie o fragmento mais curto.",
        "Classifique a avaliação como positiva ou negativa. Se houver as duas coisas, decida pela última frase.",
        "Extraia do texto o número da fatura, a data e o valor total. Se faltar um valor, escreva null.",
    ],
    "nl": [
        "Beantwoord de vraag. Denk stap voor stap en geef alleen het eindantwoord.",
        "Sorteer de woorden alfabetisch en scheid ze met één spatie.",
        "Lees de passage, zoek de zin die de vraag beantwoordt en neem het kortste fragment over.",
        "Bepaal of de recensie positief of negatief is. Als beide voorkomen, beslist de laatste zin.",
    ],
    "pl": [
        "Odpowiedz na pytanie. Myśl krok po kroku i podaj tylko ostateczną odpowiedź.",
        "Posortuj słowa alfabetycznie i oddziel je pojedynczymi spacjami.",
        "Przeczytaj fragment, znajdź zdanie, które odpowiada na pytanie, i przepisz najkrótszy wycinek.",
    ],
    "ru": [
        "Ответь на вопрос. Рассуждай шаг за шагом и дай только окончательный ответ.",
        "Отсортируй слова по алфавиту и раздели их одиночными пробелами.",
        "Прочитай отрывок, найди предложение, которое отвечает на вопрос, и выпиши самый короткий фрагмент.",
        "Определи, положительный это отзыв или отрицательный. Если есть и то и другое, решает последнее предложение.",
    ],
    "tr": [
        "Soruyu yanıtla. Adım adım düşün ve yalnızca son yanıtı ver.",
        "Kelimeleri alfabetik olarak sırala ve aralarına tek boşluk koy.",
        "Metni oku, soruyu yanıtlayan cümleyi bul ve en kısa bölümü yaz.",
    ],
    "zh": [
        "请回答问题。一步一步地思考，只给出最后的答案。",
        "把单词按字母顺序排列，用一个空格隔开。",
        "仔细阅读文章，找到能回答问题的句子，并摘录最短的片段。",
        "判断评论是正面的还是负面的。如果两者都有，以最后一句为准。",
    ],
    "ja": [
        "質問に答えてください。段階的に考え、最終的な答えだけを書いてください。",
        "単語をアルファベット順に並べ、半角スペースで区切ってください。",
        "文章を読み、質問に答えている文を見つけて、最も短い部分を抜き出してください。",
        "レビューが肯定的か否定的かを判断してください。両方ある場合は最後の文で決めます。",
    ],
    "ko": [
        "질문에 답하세요. 단계별로 생각하고 최종 답만 쓰세요.",
        "단어를 알파벳 순서로 정렬하고 공백 하나로 구분하세요.",
        "글을 읽고 질문에 답하는 문장을 찾아 가장 짧은 부분을 옮겨 쓰세요.",
    ],
    "ar": [
        "أجب عن السؤال. فكر خطوة بخطوة وقدم الإجابة النهائية فقط.",
        "رتب الكلمات أبجديا وافصل بينها بمسافة واحدة.",
    ],
    "hi": [
        "प्रश्न का उत्तर दें। चरण दर चरण सोचें और केवल अंतिम उत्तर दें।",
        "शब्दों को वर्णानुक्रम में क्रमबद्ध करें और उन्हें एक रिक्ति से अलग करें।",
    ],
}
"""Prose in one language."""

TECHNICAL: dict[str, list[str]] = {
    "en": [
        "Given the fields `question`, produce the fields `answer`.",
        "Given the fields `context`, `question`, produce the fields `reasoning`, `answer`.",
        "Answer.",
        "Be concise.",
        "question -> answer",
        'Return JSON: {"name": str, "age": int, "tags": [str]}',
        "Output only A, B, C or D.",
        "Generate a SQL query. Schema: orders(id, customer_id, total, created_at), customers(id, name).",
        "Write `answer` as ISO 8601 (YYYY-MM-DD); use UTC.",
        "Use search(query) to find pages, then lookup(title), then finish(answer).",
        'Extract entities: PER, LOC, ORG, MISC. Format: <entity type="PER">Angela Merkel</entity>.',
        "Regex: ^\\d{4}-\\d{2}$ must match. No prose.",
        "def solve(x): return the number of primes below x. Reply with code only.",
        "Final answer in \\boxed{}. Simplify fractions: \\frac{2}{4} = \\frac{1}{2}.",
        "Normalize units (km, m, cm, mm, µm, nm) -> SI; round to 3 s.f.",
        "NER on biomedical text: gene, protein, cell_line, cell_type, DNA, RNA (JNLPBA tags, BIO scheme).",
        "Predict ICD-10-GM codes, e.g. E11.9, I10, J45.0, for the diagnosis.",
        "step 1: parse expr\nstep 2: apply not > and > or\nstep 3: True/False",
        "Sentiment: pos / neg / neu.",
        "Label: toxic, severe_toxic, obscene, threat, insult, identity_hate (multi-label).",
    ],
    "de": [
        "Antworte kurz.",
        'Gib JSON zurück: {"name": str, "alter": int}',
        "Felder: `frage`, `antwort`. Nur A, B, C oder D.",
        "SQL schreiben: Tabelle kunden(id, name, plz), bestellungen(id, kunde_id, summe).",
    ],
    "fr": ["Réponds brièvement.", 'Renvoie du JSON : {"nom": str, "age": int}'],
    "es": ["Responde brevemente.", 'Devuelve JSON: {"nombre": str, "edad": int}'],
    "zh": ["简短回答。", '输出 JSON：{"name": str, "age": int}，不要解释。'],
    "ja": ["簡潔に。", 'JSON で出力：{"name": str, "age": int}'],
    "ru": ["Отвечай кратко.", 'Верни JSON: {"name": str, "age": int}'],
}
"""Short, with code, field names and labels."""

MIXED: dict[str, list[str]] = {
    "en": [
        "Translate from German to English. For example, 'Der Zug nach München fährt heute leider nicht' becomes 'Unfortunately the train to Munich is not running today'.",
        'Correct the French sentence. Typical mistakes: "je suis allé au le marché", "il faut que je vais", "les chevals sont beau".',
        "Decide the language of the text: deutsch, français, español, italiano, português, nederlands or svenska.",
        "Answer the customer in Spanish, politely, and close with «Muchas gracias por su paciencia y disculpe las molestias».",
        "Summarise the Chinese article in English. Keep names such as 北京大学 and 中国人民银行 in Chinese.",
        "Give the Japanese reading in hiragana: 東京 is とうきょう, 大阪 is おおさか. Answer with the reading only.",
        "Extract `rechnungsnummer`, `rechnungsdatum`, `gesamtbetrag` and `mehrwertsteuer` from the invoice; dates look like 3. März 2024.",
        "Map the Russian adjective to its adverb:\n- хороший -> хорошо\n- быстрый -> быстро\n- плохой -> плохо\nAnswer with one word.",
        "Label the clause types: Hauptsatz, Nebensatz, Relativsatz, Infinitivsatz. Say which one the underlined clause is.",
        "Find the error in the sentence.\nInput: Ich habe gestern ein Buch gelesen und bin dann nach Hause gegangen.\nInput: Wir sind seit drei Jahren in dieser Stadt gewohnt.\nWrite the corrected sentence only.",
    ],
    "de": [
        "Übersetze ins Englische, zum Beispiel: 'Unfortunately the train to Munich is not running today, please use the bus.'",
        "Gib die Felder `question`, `context` und `answer` aus; lass `reasoning` weg.",
        "Erkläre den Fachbegriff (machine learning, gradient descent, overfitting, prompt engineering) in einem Satz.",
        'Ordne das Ticket ein: "account locked", "password reset", "billing issue" oder "feature request".',
    ],
    "zh": [
        '把下面的英文句子翻译成中文，例如 "The train to Munich is not running today" 译为“今天去慕尼黑的火车停运”。',
        "输出字段 `question`, `context`, `answer`，并说明 machine learning 和 deep learning 的区别。",
    ],
    "ja": [
        '次の英文を日本語に訳してください。例："The train is late" は「電車が遅れています」となります。',
    ],
    "fr": [
        "Traduis en anglais, par exemple « The train to Munich is not running today » et garde les noms propres.",
        "Explique le terme (machine learning, overfitting, prompt engineering) en une phrase simple.",
    ],
}
"""One language of instruction, with others quoted in it."""
