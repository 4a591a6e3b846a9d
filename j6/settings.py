"""One way to refuse a setting that is not of the kind it should be."""

from __future__ import annotations


def check_whole(name: str, value: object, least: int | None = None, instead: str = "") -> None:
    """Refuse what is no whole number, or too small.

    Args:
        name: Name of the setting.
        value: Its value.
        least: Smallest that is allowed, or ``None``.
        instead: What else is allowed, for the message.

    Raises:
        TypeError: If it is no ``int``; ``True`` is none here.
        ValueError: If it is below ``least``.
    """
    wrong = not isinstance(value, int) or isinstance(value, bool)
    if wrong or (least is not None and isinstance(value, int) and value < least):
        size = "" if least is None else f" from {least} up"
        msg = f"{name} is {value!r}; a whole number{size}{instead} is needed"
        raise (TypeError if wrong else ValueError)(msg)


def check_real(name: str, value: object) -> None:
    """Refuse what is no number.

    Args:
        name: Name of the setting.
        value: Its value.

    Raises:
        TypeError: If it is neither ``int`` nor ``float``; ``True`` is none here.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} is {value!r}; a number is needed"
        raise TypeError(msg)


def check_type(name: str, value: object, allowed: type | tuple[type, ...], needed: str) -> None:
    """Refuse what is of another type.

    Args:
        name: Name of the setting.
        value: Its value.
        allowed: Types that it may have.
        needed: The same in words.

    Raises:
        TypeError: If it has none of them.
    """
    if not isinstance(value, allowed):
        msg = f"{name} is {value!r:.80}; {needed} is needed"
        raise TypeError(msg)
