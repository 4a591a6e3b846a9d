"""Add days, weeks or months to a date (in the style of BBH ``date_understanding``)."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

from gpo_dspy.sandbox.dice import Dice

from .base import Item, Mode, as_form

_PATTERN = re.compile(
    r"Today is (\w+) (\d{1,2}), (\d{4})\.\s*What is the date (\d+) (day|week)s? "
    r"(from today|ago)(?: in MM/DD/YYYY)?\?"
)
_MONTHS = list(calendar.month_name)


def _shown(day: date) -> str:
    return f"{day:%m/%d/%Y}"


def _differs(item: Item, text: str) -> str | None:
    return text if text != item.answer else None


def _thirty_days(item: Item) -> str | None:
    today, shift = item.data
    number = today.year * 360 + (today.month - 1) * 30 + today.day - 1 + shift
    year, rest = divmod(number, 360)
    return _differs(item, f"{rest // 30 + 1:02}/{rest % 30 + 1:02}/{year:04}")


def _counts_today(item: Item) -> str | None:
    today, shift = item.data
    return _shown(today + timedelta(days=shift - (1 if shift > 0 else -1)))


def _same_year(item: Item) -> str | None:
    today, shift = item.data
    return _differs(item, f"{item.answer[:6]}{today.year:04}") if shift else None


def _wrong_way(item: Item) -> str | None:
    today, shift = item.data
    return _shown(today + timedelta(days=-shift)) if shift < 0 else None


def _day_first(answer: str) -> str:
    return f"{answer[3:5]}/{answer[:2]}/{answer[6:]}"


def _long_form(answer: str) -> str:
    return f"{_MONTHS[int(answer[:2])]} {int(answer[3:5])}, {answer[6:]}"


class DateArithmetic:
    """The date some days or weeks from a given one."""

    name = "date_arithmetic"
    ideal = (
        "Use the real number of days of each month and mind leap years. Do not count today itself: "
        "start with the day after. Change the year when you pass the end of December. 'Ago' means "
        "going back in time. Write the date as MM/DD/YYYY, month first. Give nothing but the date."
    )
    modes = (
        Mode("thirty days", 0.35, _thirty_days, ("month_lengths",), {"estimate": 0.4},
             "Every month was taken to have 30 days."),
        Mode("counts today", 0.2, _counts_today, ("start_day",), {"inclusive": 0.5},
             "The date is off by one day."),
        Mode("same year", 0.55, _same_year, ("carry_year",), {}, "The year was not changed."),
        Mode("wrong way", 0.3, _wrong_way, ("direction",), {}, "The date lies on the wrong side."),
        Mode("day first", 0.14, as_form(_day_first), ("date_form",), {},
             "Day and month are in the wrong order.", True),
        Mode("long form", 0.1, as_form(_long_form), ("date_form", "digits"),
             {"explain": 0.2, "creative": 0.2}, "The date is not in the expected form.", True),
        Mode("sentence", 0.08, as_form(lambda a: f"It will be {a}."), ("bare",),
             {"step_by_step": 0.04, "explain": 0.4}, "There is text around the date.", True),
    )  # fmt: skip

    def generate(self, dice: Dice) -> str:
        """Write a new item that crosses at least one month."""
        while True:
            today = date(2001, 1, 1) + timedelta(days=dice.integer(0, 9000))
            unit, high = dice.choice([("day", 75), ("week", 11)])
            number = dice.integer(3, high)
            way = dice.choice(["from today", "from today", "ago"])
            text = (
                f"Today is {_MONTHS[today.month]} {today.day}, {today.year}. What is the date "
                f"{number} {unit}s {way} in MM/DD/YYYY?"
            )
            shift = number * (7 if unit == "week" else 1) * (1 if way == "from today" else -1)
            there = today + timedelta(days=shift)
            if there.month != today.month and (there.year != today.year or dice.chance(0.4)):
                return text

    def parse(self, text: str) -> Item | None:
        """Find the date and the distance and add them."""
        found = _PATTERN.search(text)
        if not found or found[1] not in _MONTHS:
            return None
        try:
            today = date(int(found[3]), _MONTHS.index(found[1]), int(found[2]))
            days = int(found[4]) * (7 if found[5] == "week" else 1)
            shift = days if found[6] == "from today" else -days
            there = today + timedelta(days=shift)
        except (ValueError, OverflowError):
            return None
        return Item(self.name, found[0], _shown(there), (today, shift))
