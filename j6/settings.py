"""One way to refuse a setting that is not of the kind it should be."""

from __future__ import annotations

from typing import Any


def whole(name: str, value: object, least: int | None = None, instead: str = "") -> int:
    """Return a setting that is a whole number, of whatever library.

    Args:
        name: Name of the setting.
        value: Its value.
        least: Smallest that is allowed, or ``None``.
        instead: What else is allowed, for the message.

    Returns:
        The number as Python's own.

    Raises:
        TypeError: If it is no whole number; ``True`` is none here.
        ValueError: If it is below ``least``.
    """
    number = plain(value)
    size = "" if least is None else f" from {least} up"
    msg = f"{name} is {value!r}; a whole number{size}{instead} is needed"
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(msg)
    if least is not None and number < least:
        raise ValueError(msg)
    return number


def real(name: str, value: object) -> float:
    """Return a setting that is a number, of whatever library.

    Args:
        name: Name of the setting.
        value: Its value.

    Returns:
        The number as Python's own.

    Raises:
        TypeError: If it is no real number; ``True`` is none here.
    """
    number = plain(value)
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        msg = f"{name} is {value!r}; a number is needed"
        raise TypeError(msg)
    return float(number)


def plain(value: Any) -> Any:
    """Return a number or numbers of NumPy or torch as Python's own, and all else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def put(settings: object, **values: object) -> None:
    """Set attributes of a frozen dataclass, while it is made."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)


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
