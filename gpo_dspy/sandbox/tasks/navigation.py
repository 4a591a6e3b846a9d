"""Does a walk end where it began (BBH ``navigate``)."""

from __future__ import annotations

import re

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form

_PATTERN = re.compile(
    r"If you follow these instructions, do you return to the starting point\?\s*(.+)", re.DOTALL
)
_STEP = re.compile(
    r"Take (\d+) steps?(?: (forward|backward|left|right))?\.|Turn (left|right|around)\."
)
_TURNS = {"left": 1, "around": 2, "right": 3}
_SIDES = {"": 0, "forward": 0, "left": 1, "backward": 2, "right": 3}
_AHEAD = ((0, 1), (-1, 0), (0, -1), (1, 0))


def _walk(
    moves: list[tuple[str, str, str]], *, around: bool = True, turns: bool = True, one: bool = False
) -> str:
    x = y = heading = 0
    for number, side, turn in moves:
        if turn:
            if turns and (around or turn != "around"):
                heading = (heading + _TURNS[turn]) % 4
            continue
        across, along = _AHEAD[(heading + _SIDES[side]) % 4]
        length = 1 if one else int(number)
        x, y = x + across * length, y + along * length
    return "Yes" if x == y == 0 else "No"


def _differs(item: Item, text: str) -> str | None:
    return text if text != item.answer else None


def _no_turns(item: Item) -> str | None:
    return _differs(item, _walk(item.data, turns=False))


def _no_around(item: Item) -> str | None:
    return _differs(item, _walk(item.data, around=False))


def _steps_as_one(item: Item) -> str | None:
    return _differs(item, _walk(item.data, one=True))


def _lose_tail(item: Item) -> str | None:
    return _differs(item, _walk(item.data[:-1]))


def _opposite(item: Item) -> str:
    return "No" if item.answer == "Yes" else "Yes"


class Navigation:
    """Yes or no, by following turns and steps."""

    name = "navigation"
    ideal = (
        "Keep track of the position with coordinates, using the number of steps of each move. Keep "
        "track of the direction you face after every turn. Turning around reverses the direction. "
        "Follow all the instructions in order, up to the last. Answer only with Yes or No."
    )
    modes = (
        Mode("ignores turns", 0.4, _no_turns, ("heading",), {"simplify": 0.3},
             "The direction faced was not kept up to date."),
        Mode("ignores around", 0.5, _no_around, ("around",), {},
             "Turning around was not taken into account."),
        Mode("steps as one", 0.5, _steps_as_one, ("position",), {"group": 0.2, "estimate": 0.2},
             "The number of steps of each move was not used."),
        Mode("loses the tail", 0.2, _lose_tail, ("complete",), {"concise": 0.2},
             "The last move was left out."),
        Mode("second thoughts", 0.0, _opposite, (), {"verify": 0.12, "creative": 0.15},
             "The answer was turned into its opposite."),
        Mode("true or false", 0.14, as_form(lambda a: "True" if a == "Yes" else "False"),
             ("yes_no",), {}, "The answer has another notation.", True),
        Mode("sentence", 0.12, as_form(lambda a: f"{a}, you do{'' if a == 'Yes' else ' not'}."),
             ("bare",), {"explain": 0.4, "step_by_step": 0.03},
             "There is text around the answer.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item on which at least one mistake would show."""
        home = dice.chance(0.5)
        while True:
            moves = self._moves(dice)
            text = (
                "If you follow these instructions, do you return to the starting point? "
                f"{' '.join(moves)}\nOptions:\n- Yes\n- No"
            )
            item = self.parse(text)
            if item and (item.answer == "Yes") == home:
                shows = sum(mode.wrong(item) is not None for mode in self.modes[:4])
                if shows >= 2 or (shows == 1 and dice.chance(0.2)):
                    return text

    def _moves(self, dice: Dice) -> list[str]:
        moves = []
        for _ in range(dice.integer(4, 7)):
            number = dice.integer(1, 4)
            step = f"Take {number} step{'s' if number > 1 else ''}."
            turn = f"Turn {dice.choice(['left', 'right', 'around', 'around'])}."
            moves.append(dice.choice([step, step, turn]))
        return moves

    def parse(self, text: str) -> Item | None:
        """Find the moves and follow them."""
        found = _PATTERN.search(text)
        if not found:
            return None
        moves = _STEP.findall(found[1])
        if not moves:
            return None
        whole = found[0].split("\n\n")[0].strip()
        return Item(self.name, whole, _walk(moves), moves)
