"""Functions that are given as arguments: can they be called, and who is to blame if they raise?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpo_dspy.errors import ArgumentFailed, GPOError


def check_takes(argument: str, function: Callable[..., Any], *parameters: str) -> None:
    """Refuse a function that cannot be called with so many positional arguments.

    Args:
        argument: The argument that it was given as.
        function: The function.
        parameters: What it will be called with, by name.

    Raises:
        TypeError: It takes others.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins and C extensions tell none
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        raise TypeError(
            f"{argument} is called with ({', '.join(parameters)}); found {function!r}, which takes "
            f"{signature}."
        ) from None


@contextmanager
def blamed_on(argument: str) -> Iterator[None]:
    """Say which argument it was that raised.

    Args:
        argument: The argument.

    Raises:
        ArgumentFailed: Something in the block raised what is no error of ours.
    """
    try:
        yield
    except GPOError:
        raise
    except Exception as error:
        said = " ".join(str(error).splitlines()[:1])
        raise ArgumentFailed(f"{argument} raised {type(error).__name__}: {said}") from error
