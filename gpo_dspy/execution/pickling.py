"""Values on their way to another process, and which part of them cannot go."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import cloudpickle
import dspy

DEEPEST = 8
"""Steps into a value in search of the part that does not pickle."""


def pack(value: Any, name: str) -> bytes:
    """Pickle a value; by ``cloudpickle``, so that lambdas and signatures made of text may go.

    Args:
        value: Anything; the histories and callbacks of LMs in it stay behind.
        name: What it is called in the error.

    Raises:
        ValueError: It does not pickle; the part that is to blame is named.
    """
    try:
        return _dumps(value)
    except Exception as error:  # whatever the user's classes raise
        raise ValueError(
            f"executor: {_culprit(value, name)} does not pickle ({_said(error)}), so it cannot go "
            "to another process. Make locks, open files and clients where they are used, or pass a "
            "ThreadPoolExecutor."
        ) from error


def unpack(packed: bytes) -> Any:
    """Return what was pickled by :func:`pack`.

    Raises:
        ValueError: It needs a module that is not here.
    """
    try:
        return pickle.loads(packed)  # noqa: S301 - made by the process that sends it
    except Exception as error:
        raise ValueError(
            f"executor: a process cannot load what it was sent ({_said(error)}). What is defined "
            "in a module must be importable there: install the module, or start the processes "
            "where it can be found."
        ) from error


def pickles(value: Any) -> bool:
    """Tell whether a value can go to another process."""
    try:
        _dumps(value)
    except Exception:  # noqa: BLE001 - whatever a client, a lock or a handle raises
        return False
    return True


def _dumps(value: Any) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # has no types
    """Leaves out what LMs remember of earlier calls, as DSPy does for modules."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, dspy.BaseLM) and (obj.history or obj.callbacks):
            return obj.copy(callbacks=[]).__reduce_ex__(pickle.DEFAULT_PROTOCOL)
        return super().reducer_override(obj)


def _culprit(value: Any, name: str, depth: int = DEEPEST) -> str:
    """Return the path of the innermost part that does not pickle."""
    for path, part in _parts(value):
        if depth and not pickles(part):
            return _culprit(part, f"{name}{path}", depth - 1)
    return f"{name} ({type(value).__name__})"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, and how they are reached."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield from ((f"[{position}]", part) for position, part in enumerate(value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in fields(value))
    elif hasattr(value, "__self__"):  # a bound method
        yield "", value.__self__
    elif cells := getattr(value, "__closure__", None):
        names = (f".{name}" for name in value.__code__.co_freevars)
        yield from zip(names, (cell.cell_contents for cell in cells), strict=True)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
