"""Count things of one kind (BBH ``object_counting``)."""

from __future__ import annotations

import re

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form

_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
"""
NUMBER_WORDS = _NUMBERS.split()
_PATTERN = re.compile(r"I have (.+?)\.\s*How many (.+?) do I have\?", re.DOTALL)
_QUANTITY = {word: number for number, word in enumerate(NUMBER_WORDS)} | {"a": 1, "an": 1}
_NAMES = {
    "fruits": "apple banana orange strawberry peach plum raspberry grape nectarine blackberry",
    "vegetables": "garlic yam celery cabbage potato onion lettuce cauliflower broccoli carrot",
    "animals": "dog cat rabbit goat pig mouse frog snail duck chicken donkey cow bear fish snake",
    "musical instruments": "flute piano trombone violin accordion clarinet drum trumpet",
    "objects": "stove lamp fridge chair microwave couch bed oven table car toaster",
}
_KINDS = {kind: tuple(names.split()) for kind, names in _NAMES.items()}
_PLURAL = {"strawberry": "strawberries", "raspberry": "raspberries", "mouse": "mice",
           "blackberry": "blackberries", "peach": "peaches", "potato": "potatoes",
           "couch": "couches", "fish": "fish"}  # fmt: skip
_SINGULAR = {plural: single for single, plural in _PLURAL.items()}


def _kind(thing: str) -> str:
    words = [_SINGULAR.get(word, word) for word in thing.lower().split()]
    words += [word.removesuffix("s") for word in words]
    return next((kind for kind, names in _KINDS.items() if set(words) & set(names)), "")


def _things(listing: str) -> list[tuple[str, str]]:
    parts = re.split(r",\s*(?:and\s+)?|\s+and\s+", listing)
    found = [part.strip().partition(" ") for part in parts if part.strip()]
    return [(amount.lower(), thing) for amount, _, thing in found]


def _amount(word: str) -> int:
    return int(word) if word.isdigit() else _QUANTITY.get(word, 1)


def _asked(item: Item) -> list[tuple[str, str]]:
    things: list[tuple[str, str]] = item.data["things"]
    kind = item.data["asked"]
    if kind in ("objects", "things", "items"):
        return things
    return [(amount, thing) for amount, thing in things if _kind(thing) in (kind, "")]


def _differs(item: Item, number: int) -> str | None:
    return str(number) if str(number) != item.answer else None


def _kinds_only(item: Item) -> str | None:
    return _differs(item, len(_asked(item)))


def _everything(item: Item) -> str | None:
    return _differs(item, sum(_amount(amount) for amount, _ in item.data["things"]))


def _no_articles(item: Item) -> str | None:
    return _differs(item, sum(_amount(a) for a, _ in _asked(item) if a not in ("a", "an")))


def _lose_tail(item: Item) -> str | None:
    asked = _asked(item)
    return _differs(item, sum(_amount(a) for a, _ in asked[: len(asked) * 2 // 3]))


def _in_words(answer: str) -> str:
    return NUMBER_WORDS[int(answer)] if int(answer) < len(NUMBER_WORDS) else f"{answer} of them"


class ObjectCounting:
    """How many fruits, animals, ... in a list with quantities."""

    name = "object_counting"
    ideal = (
        "Add up the quantities, not the kinds of things. Count only the things that belong to the "
        "category asked for. An item with 'a' or 'an' counts as one. Go through the whole list to "
        "the end. Answer with the number only, in digits."
    )
    modes = (
        Mode("kinds", 0.3, _kinds_only, ("quantities",), {"group": 0.35},
             "The kinds were counted, not how many there are of each."),
        Mode("everything", 0.45, _everything, ("only_asked",), {},
             "Things of another category were counted too."),
        Mode("articles", 0.22, _no_articles, ("articles",), {},
             "Single things (a, an) were not counted."),
        Mode("loses the tail", 0.15, _lose_tail, ("complete",), {"concise": 0.15, "verify": 0.1},
             "The last things of the list were not counted."),
        Mode("words", 0.18, as_form(_in_words), ("digits",), {"brief": 0.3, "concise": 0.05},
             "The number is written in words.", True),
        Mode("sentence", 0.1, as_form(lambda a: f"You have {a} in total."), ("bare",),
             {"step_by_step": 0.05, "explain": 0.4, "creative": 0.3},
             "There is text around the number.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item of 4 to 10 things, some of another kind."""
        kind = dice.choice([name for name in _KINDS if name != "objects"])
        things = dice.sample(_KINDS[kind], dice.integer(4, 7))
        if dice.chance(0.6):
            others = [n for name, names in _KINDS.items() if name != kind for n in names]
            things += dice.sample(others, dice.integer(1, 3))
        listed = [self._amount_of(thing, dice) for thing in dice.shuffled(things)]
        return f"I have {', '.join(listed[:-1])}, and {listed[-1]}. How many {kind} do I have?"

    @staticmethod
    def _amount_of(thing: str, dice: Dice) -> str:
        number = dice.choice([1, 1, 1, 2, 3, 4])
        if number == 1:
            return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
        return f"{NUMBER_WORDS[number]} {_PLURAL.get(thing, thing + 's')}"

    def parse(self, text: str) -> Item | None:
        """Find the list and add up what is asked for."""
        found = _PATTERN.search(text)
        if not found:
            return None
        data = {"things": _things(found[1]), "asked": found[2].strip().lower()}
        item = Item(self.name, found[0], "", data)
        total = sum(_amount(amount) for amount, _ in _asked(item))
        return Item(self.name, found[0], str(total), data)
