"""The language of an instruction, told offline and with much reserve.

Instructions quote other languages, name fields, hold code; what is told of them must hold
nevertheless. So quotations and code are taken out, and a text counts as being in another language
only if that is clear of the whole, and no sentence of it is in the one that is wanted. A text that
changes its language midway passes; one that does not is not refused by mistake.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

LANGUAGES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian",
    "bg": "Bulgarian", "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan", "cs": "Czech",
    "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish",
    "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "ga": "Irish", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "ig": "Igbo",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "ky": "Kyrgyz", "lo": "Lao",
    "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian",
    "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Burmese", "ne": "Nepali", "nl": "Dutch",
    "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "ps": "Pashto", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian",
    "so": "Somali", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "xh": "Xhosa",
    "yo": "Yoruba", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip
"""Languages that can be told apart, by ISO 639-1 code, with their English names."""

CLEAR = 0.6
"""Probability from which on a text is clearly in a language."""

POSSIBLE = 0.1
"""Probability from which on a sentence may be in a language."""

LEAST_LETTERS = 12
"""Letters below which nothing is told; where a word is a letter, they are about as many words."""

LEAST_WORDS = 4
"""Words below which nothing is told, in scripts that put spaces between them."""

NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r"|https?://\S+"
    r"|<[^<>\n]{1,80}>"  # tags
    r"|\{[^{}]*\}"  # placeholders, JSON
    r"|\[[^\[\]]*\]"
    r"|\"[^\"\n]*\"|“[^”]{0,999}”|„[^“”]{0,999}[“”]|«[^»]{0,999}»"  # quotations
    r"|「[^」]{0,999}」|『[^』]{0,999}』|(?<!\w)['‘][^'‘’\n]{2,}['’](?!\w)"
    r"|(?<!\w)\w*[\d_]\w*"  # identifiers, numbers
    r"|\\\w+",  # LaTeX
    re.DOTALL,
)
SENTENCE_END = re.compile(r"(?<=[.!?:;。！？：；।؟])\s*|\n+")
SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Han."""


def as_code(language: str) -> str:
    """Return the ISO 639-1 code of a language given by code ("de", "pt-BR") or English name.

    Raises:
        ValueError: The language is not among those that can be told apart.
    """
    wanted = language.strip().lower() if isinstance(language, str) else ""
    codes = {name.lower(): code for code, name in LANGUAGES.items()}
    code = codes.get(wanted, re.split(r"[-_]", wanted)[0])
    if code not in LANGUAGES:
        raise ValueError(
            f"language must be an English name or an ISO 639-1 code, such as 'German' or 'de', of "
            f"{', '.join(sorted(LANGUAGES.values()))}; found {language!r}."
        )
    return code


def as_whole_word(pattern: str) -> str:
    """Return a regular expression for what stands alone, or beside a script without spaces."""
    other_letter = rf"[^\W{SPACELESS.pattern[1:-1]}]"
    return rf"(?<!{other_letter})(?:{pattern})(?!{other_letter})"


def language_name(language: str) -> str:
    """Return the English name of a language given by code or name.

    Raises:
        ValueError: The language is not among those that can be told apart.
    """
    return LANGUAGES[as_code(language)]


def language_of(text: str) -> str | None:
    """Return the code of the language that a text, and each sentence of it, is in; or None."""
    found = _clear_language(_prose(text))
    if found and all(_probabilities(s)[found] >= POSSIBLE for s in _sentences(text)):
        return found
    return None


def in_another_language(text: str, code: str) -> bool:
    """Tell whether a text, and each sentence of it, is in another language than the given one."""
    found = _clear_language(_prose(text))
    if found is None or found == code:
        return False
    return all(_probabilities(sentence)[code] < POSSIBLE for sentence in _sentences(text))


def _clear_language(prose: str) -> str | None:
    if not _enough(prose):
        return None
    language, probability = max(_probabilities(prose).items(), key=lambda item: item[1])
    return language if probability >= CLEAR else None


def _sentences(text: str) -> list[str]:
    """Return the sentences of a text that are long enough to tell their language."""
    return [sentence for sentence in SENTENCE_END.split(_prose(text)) if _enough(sentence)]


def _prose(text: str) -> str:
    return NOT_PROSE.sub(" ", text)


def _enough(text: str) -> bool:
    letters = sum(map(str.isalpha, text))
    spaceless = len(SPACELESS.findall(text))
    if spaceless * 2 > letters:
        return spaceless >= LEAST_LETTERS // 2
    return letters >= LEAST_LETTERS and len(re.findall(r"[^\W\d_]{2,}", text)) >= LEAST_WORDS


def _probabilities(text: str) -> dict[str, float]:
    return {code: float(probability) for code, probability in _identifier().rank(text)}


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second: when needed

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
