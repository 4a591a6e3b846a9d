"""Sort a list of words (BBH ``word_sorting``)."""

from __future__ import annotations

import re

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form

_PATTERN = re.compile(
    r"Sort the following words alphabetically:?\s*(?:List:)?[ \t]*([^\n]+)", re.IGNORECASE
)
_BANK = """
acorn alder amber anchor apron arcade arrow attic badge baker ballad bamboo barley basket beacon
beaver blanket blossom border bottle branch breeze bridge bronze bucket button cabin cable
candle canvas canyon carbon carpet castle cedar cellar chalk chapel cherry circle cliff cloud
clover cobalt coffee copper coral cotton cradle crayon cricket crystal curtain dagger daisy
delta desert diamond dolphin dragon drawer drum eagle ember engine falcon feather fennel fiddle
flame flask forest fossil fountain garden garlic ginger glacier globe granite grape gravel
hammer harbor harvest hazel helmet hollow honey island ivory jacket jungle kettle kitten ladder
lantern lemon linen lizard magnet mango maple marble meadow melon mirror mortar needle nickel
oasis olive orbit orchid otter paddle panther parrot pebble pepper piano pillow planet pocket
pollen prairie prism pumpkin puzzle quarry quartz rabbit raven ribbon river rocket saddle
saffron salmon sandal scarlet shadow shelter silver spiral spruce stable summit sunset tablet
temple thistle thunder timber tomato tower tunnel turtle valley vanilla velvet violet walnut
willow window winter yarrow zephyr
"""
_WORDS = _BANK.split()


def _ordered(words: list[str]) -> list[str]:
    return sorted(words, key=lambda word: (word.casefold(), word))


def _first_letter(item: Item) -> str | None:
    wrong = " ".join(sorted(item.data, key=lambda word: word[0].casefold()))
    return wrong if wrong != item.answer else None


def _drop_duplicates(item: Item) -> str | None:
    wrong = " ".join(dict.fromkeys(item.answer.split()))
    return wrong if wrong != item.answer else None


def _lose_tail(item: Item) -> str | None:
    kept = item.data[: len(item.data) * 3 // 4]
    return " ".join(_ordered(kept)) if len(item.data) >= 6 else None


def _capitals_first(item: Item) -> str | None:
    wrong = " ".join(sorted(item.data))
    return wrong if wrong != item.answer else None


def _only_one(item: Item) -> str | None:
    return item.answer.split()[0] if len(item.data) > 1 else None


class WordSorting:
    """Words in alphabetical order, in capitals or not, some of them twice."""

    name = "word_sorting"
    ideal = (
        "Compare whole words letter by letter, not only the first letter. Keep duplicates: a word "
        "that occurs twice is written twice. Ignore upper and lower case when comparing. Include "
        "every word of the list. Reply with the words only, separated by single spaces."
    )
    modes = (
        Mode("one word", 0.0, _only_one, (), {"brief": 0.7, "complete-": 0.4},
             "Only the first word was given."),
        Mode("first letter", 0.34, _first_letter, ("all_letters",), {"by_length": 0.3},
             "Words with the same first letter are in the wrong order."),
        Mode("drops duplicates", 0.5, _drop_duplicates, ("duplicates",), {"group": 0.3},
             "A repeated word was written only once."),
        Mode("loses the tail", 0.25, _lose_tail, ("complete",), {"concise": 0.2},
             "Some words at the end of the list are missing."),
        Mode("capitals first", 0.5, _capitals_first, ("ignore_case",), {},
             "Capitalised words were put first."),
        Mode("commas", 0.12, as_form(lambda a: a.replace(" ", ", ")), ("spaces", "bare"),
             {"step_by_step": 0.06, "explain": 0.2}, "The separators are not as expected.", True),
        Mode("sentence", 0.1, as_form(lambda a: f"The sorted list is: {a}"), ("bare",),
             {"step_by_step": 0.12, "explain": 0.4, "creative": 0.3},
             "There is text around the list.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item of 4 to 14 words."""
        stem = dice.choice(_WORDS)[:1]
        near = [word for word in _WORDS if word.startswith(stem)]
        words = dice.sample(near, min(len(near), 3))
        words += dice.sample([w for w in _WORDS if w not in near], dice.integer(3, 11))
        if dice.chance(0.5):
            words += dice.sample(words, dice.integer(1, 2))
        if dice.chance(0.4):
            names = {word for word in dict.fromkeys(words) if dice.chance(0.3)}
            words = [word.capitalize() if word in names else word for word in words]
        listed = " ".join(dice.shuffled(words))
        return f"Sort the following words alphabetically: List: {listed}"

    def parse(self, text: str) -> Item | None:
        """Find the list and sort it."""
        found = _PATTERN.search(text)
        if not found:
            return None
        words = found[1].split()
        return Item(self.name, found[0], " ".join(_ordered(words)), words)
