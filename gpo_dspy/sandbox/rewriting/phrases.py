"""The rewriter's stock of advice, several wordings each.

A wording without a full stop is an imperative that is put into one of several frames; one with a
full stop is used as it is. Written independently of what the solver understands.
"""

from __future__ import annotations

from functools import lru_cache

from gpo_dspy.sandbox.dice import Dice

ADVICE: dict[str, tuple[str, ...]] = {
    "all_letters": (
        "compare words letter by letter, not just by their first letter",
        "look at the second and following letters when words begin alike",
        "use the full spelling of every word when ordering",
        "break ties between words by comparing the next letters",
        "mind words that begin alike",
        "Sorting by the first letter alone is not enough; go on to the later letters.",
    ),
    "ignore_case": (
        "ignore capitalization when comparing words",
        "treat uppercase and lowercase letters as equal",
        "sort without regard to upper or lower case",
        "Capital letters do not come first.",
        "disregard letter case in the ordering",
    ),
    "duplicates": (
        "keep duplicate words",
        "write a repeated word as often as it occurs",
        "Do not remove duplicates.",
        "A word that appears twice in the input must be listed twice.",
        "preserve every repetition of a word",
        "mind words that come up again",
    ),
    "complete": (
        "include every single element of the input",
        "Do not leave anything out.",
        "go through the whole input until the end",
        "process all the items, including the last ones",
        "Never stop early; handle each item and every step.",
        "check that nothing is missing",
        "be thorough",
    ),
    "bare": (
        "give only the final answer",
        "output nothing but the answer itself",
        "reply with just the answer, without any explanation",
        "Do not add any other text around the answer.",
        "respond only with the result",
        "mind the form of the answer",
    ),
    "spaces": (
        "separate the parts of the answer by single spaces",
        "put one space between elements",
        "use spaces, not commas, as separators",
        "Elements are separated with spaces.",
        "mind the separators",
    ),
    "quantities": (
        "add up the quantities given for each thing",
        "use the number stated before every item",
        "take the amount of each thing into account",
        "mention the exact number in every step or item",
        "Numbers matter: state how many of each there are.",
        "multiply things by how many there are",
        "pay attention to plurals",
    ),
    "only_asked": (
        "count only the things of the category asked for",
        "ignore things that do not belong to the requested kind",
        "exclude other kinds of things than the one asked about",
        "restrict yourself to the category named in the question",
        "think about what the question wants",
    ),
    "articles": (
        "count things introduced by 'a' or 'an' as one",
        "An item without a number counts as one.",
        "remember that an article such as 'a' means one",
        "include single things, written with 'a' or 'an', as one each",
    ),
    "digits": (
        "write the number in digits",
        "answer with an integer in digits, not words",
        "use numerals for the final number",
        "give the result as a plain integer",
    ),
    "precedence": (
        "respect operator precedence",
        "apply operators in their order of precedence",
        "Do not evaluate strictly from left to right.",
        "Operators that bind tighter go first.",
        "apply the usual rules of algebra",
        "let multiplication come before addition, and 'and' before 'or'",
    ),
    "parentheses": (
        "resolve parentheses first",
        "start with the innermost parentheses",
        "evaluate what is inside the parentheses before the rest",
        "Each parenthesis is computed separately.",
    ),
    "double_negation": (
        "let two negations cancel each other",
        "apply each 'not' one by one",
        "An even number of nots has no effect.",
        "mind negations",
        "count the negations: every 'not' flips the value",
    ),
    "signs": (
        "watch the signs of negative numbers",
        "be careful when subtracting a negative number",
        "keep track of minus signs",
        "remember that minus a negative is plus",
    ),
    "calculate": (
        "compute each intermediate result carefully",
        "check every calculation",
        "write down the result of each operation",
        "verify the arithmetic after each step",
    ),
    "month_lengths": (
        "use the real number of days in each month",
        "take leap years and the length of each month into account",
        "Do not assume that months have 30 days.",
        "think of the calendar",
        "consider which months have 28, 30 or 31 days",
    ),
    "start_day": (
        "start counting with the day after today",
        "Do not count today itself.",
        "begin on the following day, so tomorrow is one day away",
        "The starting day is not counted.",
    ),
    "carry_year": (
        "change the year when passing the end of December",
        "adjust the year if the date crosses New Year",
        "update the year as needed",
        "check whether the year changes",
    ),
    "direction": (
        "go back in time when the question says 'ago'",
        "subtract days for 'ago'",
        "Read 'ago' as earlier, so move backward.",
        "mind the direction in time",
    ),
    "date_form": (
        "write the date as MM/DD/YYYY",
        "put the month first, then day and year",
        "use the format MM/DD/YYYY with two digits each",
        "give the month before the day in the answer",
    ),
    "reverse": (
        "close the most recently opened bracket first",
        "close brackets in reverse order of opening",
        "use a stack: last opened, first closed",
        "mirror the beginning at the end",
        "work from the innermost open bracket outwards",
    ),
    "skip_closed": (
        "ignore brackets that are already closed",
        "close only those brackets that are still open",
        "first cross out all matched pairs",
        "skip pairs that are already matched",
    ),
    "matching": (
        "use the closing bracket of the same type as the opening one",
        "match each bracket with its own kind",
        "pair each opening symbol with its correct counterpart",
        "let every closing bracket correspond in shape to its opening bracket",
    ),
    "only_rest": (
        "write only the missing part",
        "Do not repeat the input.",
        "give just the continuation, not the given sequence",
        "output only the closing brackets that are missing",
    ),
    "heading": (
        "keep track of the direction you are facing",
        "update the heading after every turn",
        "note which way you face at each moment",
        "follow how turns change your orientation",
    ),
    "around": (
        "treat 'turn around' as reversing the direction",
        "Turning around means a turn of 180 degrees.",
        "let 'around' flip the direction to its opposite",
        "remember that to turn around is to face the opposite way",
    ),
    "position": (
        "track the position with x and y coordinates",
        "use the number of steps of each move",
        "add up the distance walked in each direction",
        "keep coordinates of your location",
        "imagine a map",
    ),
    "yes_no": (
        "answer Yes or No",
        "reply with either 'Yes' or 'No'",
        "The answer is yes or no.",
        "respond using Yes/No",
    ),
    "true_false": (
        "answer True or False",
        "reply with either 'True' or 'False'",
        "The output is True or False.",
        "write True/False as the result",
    ),
    "in_order": (
        "keep the order in which things happen",
        "list operations in the sequence of events",
        "follow the chronological order",
        "mind what happens when",
        "let the steps appear in the same order as in the text",
    ),
    "irrelevant": (
        "ignore facts that do not matter",
        "leave out irrelevant numbers",
        "disregard details that have nothing to do with the question",
        "use only relevant numbers",
        "beware of distractions",
    ),
    "follow_plan": (
        "follow the plan exactly",
        "carry out every step of the plan",
        "execute the plan from start to end",
        "use the numbers in the plan as they are",
    ),
    "step_by_step": (
        "think step by step",
        "work through the problem one step at a time",
        "solve it step by step",
        "reason step by step before answering",
    ),
    "verify": (
        "double-check your answer",
        "verify the solution before answering",
        "review your work carefully",
        "check the result again",
    ),
}

FILLER: dict[str, tuple[str, ...]] = {
    "step_by_step": ADVICE["step_by_step"],
    "verify": ADVICE["verify"],
    "concise": ("be concise", "keep the answer short", "Your answer should be concise."),
    "brief": ("answer briefly, in one word", "be concise and answer with one word"),
    "creative": ("be creative", "find a creative way to the solution"),
    "explain": (
        "explain your reasoning in detail in the answer",
        "justify why your answer is right",
    ),
    "dedup": ("remove duplicates", "list each unique word once"),
    "left_to_right": ("work strictly from left to right", "read the input left to right"),
    "by_length": ("order words by length where helpful",),
    "group": ("group similar items together first", "group the input by kind"),
    "simplify": ("simplify the input first", "simplify the problem before solving it"),
    "estimate": ("estimate the result first", "make a rough estimate and round it"),
    "inclusive": ("count both the starting day and the last day, that is inclusive",),
    "expert": (
        "You are an expert in this field.",
        "You are a careful and helpful assistant.",
        "Act as a world-class specialist.",
    ),
    "attention": (
        "read the question carefully",
        "pay close attention to the details",
        "This is very important.",
        "The quality of your answer matters a great deal.",
    ),
}

_FRAMES = (
    "{A}.",
    "{A}.",
    "Always {a}.",
    "Make sure to {a}.",
    "Be sure to {a}.",
    "Remember to {a}.",
)


def word(key: str, dice: Dice, at_most: int | None = None) -> str:
    """Write one sentence of advice.

    Args:
        key: A key of ``ADVICE`` or ``FILLER``.
        dice: Source of chance.
        at_most: Prefer a sentence of no more than so many words.
    """
    bank = ADVICE.get(key) or FILLER[key]
    for wording in dice.shuffled(bank):
        frame = dice.choice(_FRAMES)
        sentence = wording if wording.endswith(".") else _framed(frame, wording)
        if at_most is None or len(sentence.split()) <= at_most:
            return sentence
    shortest = min(bank, key=lambda wording: len(wording.split()))
    return shortest if shortest.endswith(".") else _framed("{A}.", shortest)


@lru_cache(maxsize=4096)
def topic(sentence: str) -> str:
    """Return which advice a sentence gives; ``""`` if it is none of the stock.

    Args:
        sentence: A sentence of a prompt.
    """
    told = sentence.lower()
    for bank in (ADVICE, FILLER):
        for key, wordings in bank.items():
            if any(wording.rstrip(".").lower() in told for wording in wordings):
                return key
    return ""


def _framed(frame: str, wording: str) -> str:
    return frame.format(a=wording, A=wording[0].upper() + wording[1:])
