"""Evaluations, steps and results as JSON text, and back.

The fields come from the type hints of the dataclasses, so a new field needs nothing here. Text
written by an older version is read as long as new fields have defaults.

What a program got and gave may be of any type. A value that JSON gives back as it was is kept;
of any other its text is kept, which is what people and the prompt model are shown of it, and the
form in which DSPy's adapters write it in a prompt, so that it can be shown as a demo.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Any, TypeVar

import cattrs
import dspy
from cattrs.gen import make_dict_unstructure_fn, override
from dspy.adapters.utils import serialize_for_json
from pydantic_core import core_schema

from gpo_dspy.errors import StorageError
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.result import GPOResult
from gpo_dspy.state import StepRecord

Kind = TypeVar("Kind")

LARGEST_INT = 10**4000
"""Python refuses to write longer ones as decimals."""

COLUMNS = frozenset({"score", "outcome", "feedback", "usage"})
"""Fields of an evaluation that are stored in columns of their own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What was shown of a value that could not be kept itself.

    Attributes:
        text: Its text.
        plain: What DSPy's adapters write of it: text, numbers, lists and dicts.
    """

    text: str
    plain: Any = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Have pydantic, and so DSPy's adapters, write it like the original."""
        as_original = core_schema.plain_serializer_function_ser_schema(lambda shown: shown.plain)
        return core_schema.is_instance_schema(cls, serialization=as_original)


def evaluation_detail(evaluation: Evaluation) -> str:
    """Write what an evaluation holds beyond score, outcome, feedback and usage."""
    fields: dict[str, Any] = _converter.unstructure(evaluation)
    return _dumps({name: value for name, value in fields.items() if name not in COLUMNS})


def evaluation_from(score: float, outcome: str, feedback: str, detail: str) -> Evaluation:
    """Read an evaluation; it is shown as the original was.

    Args:
        score: In [0, 1].
        outcome: The name of an :class:`~gpo_dspy.evaluation.runner.Outcome`.
        feedback: The feedback.
        detail: What :func:`evaluation_detail` wrote.
    """
    fields = json.loads(detail) | {"score": score, "outcome": outcome, "feedback": feedback}
    return _converter.structure(fields, Evaluation)


def step_text(record: StepRecord) -> str:
    """Write what a step did."""
    return _dumps(_converter.unstructure(record))


def step_from(text: str) -> StepRecord:
    """Read what :func:`step_text` wrote.

    Raises:
        StorageError: A version of gpo_dspy wrote it whose steps had another form.
    """
    return _read(text, StepRecord)


def result_text(result: GPOResult) -> str:
    """Write a result."""
    return _dumps(_converter.unstructure(result))


def result_from(text: str) -> GPOResult:
    """Read what :func:`result_text` wrote.

    Raises:
        StorageError: A version of gpo_dspy wrote it whose results had another form.
    """
    return _read(text, GPOResult)


def _read(text: str, kind: type[Kind]) -> Kind:
    try:
        return _converter.structure(json.loads(text), kind)
    except (cattrs.BaseValidationError, KeyError, ValueError) as error:
        raise StorageError(
            f"A stored {kind.__name__} cannot be read: another version of gpo_dspy wrote it. "
            "Export the run with that version, or begin a new one with resume=False."
        ) from error


def pack(value: Any) -> Any:
    """Return a value of any type as what JSON can write.

    Objects with keys that begin with ``$`` stand for what JSON has no form for.
    """
    try:
        return _as_it_is(value)
    except (TypeError, RecursionError):  # a list may hold itself
        return {"$text": _text(value), "$plain": _plain(value)}


def unpack(packed: Any) -> Any:
    """Return the value that :func:`pack` made this of, or a :class:`Shown`."""
    if isinstance(packed, list):
        return [unpack(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if "$text" in packed:
        return Shown(unpack(packed["$text"]), unpack(packed.get("$plain")))
    if len(packed) == 1:
        [(key, value)] = packed.items()
        if key == "$float":
            return float(value)
        if key == "$int":
            return int(value, 16)
        if key == "$points":
            return "".join(map(chr, value))
        if key == "$prediction":
            return dspy.Prediction(_items(value))  # as keywords, a field may be called `base`
        if key == "$dict":
            return _items(value)
    return _items(packed)


def _pack_prediction(value: Any) -> Any:
    """Pack what a program returned; its fields are shown one by one."""
    if isinstance(value, dspy.Prediction):
        return {"$prediction": {name: pack(field) for name, field in value.items()}}
    return pack(value)


def _items(packed: dict[str, Any]) -> dict[str, Any]:
    return {key: unpack(value) for key, value in packed.items()}


def _as_it_is(value: Any) -> Any:
    """Pack a value that comes back equal and of the same type.

    Raises:
        TypeError: It, or something in it, would not.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value if _survives(value) else {"$points": list(map(ord, value))}
    if kind is int:
        return value if abs(value) < LARGEST_INT else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind is list:
        return [_as_it_is(item) for item in value]
    if kind is dict and all(type(key) is str and _survives(key) for key in value):
        packed = {key: _as_it_is(item) for key, item in value.items()}
        looks_packed = any(key[:1] == "$" for key in packed)
        return {"$dict": packed} if looks_packed else packed
    raise TypeError


def _plain(value: Any) -> Any:
    """Pack what DSPy's adapters write of a value."""
    try:
        return _as_it_is(json.loads(json.dumps(serialize_for_json(value), default=str)))
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        return None


def _survives(text: str) -> bool:
    """Say whether JSON gives a text back: two halves of a surrogate pair would become one."""
    return text.isascii() or json.loads(json.dumps(text)) == text


def _text(value: Any) -> Any:
    try:
        return _as_it_is(str(value))
    except Exception as error:  # noqa: BLE001 - whatever the user's __str__ raises
        return f"<{type(value).__qualname__} whose text raises {type(error).__name__}>"


def _dumps(fields: Any) -> str:
    """Write JSON in ASCII: NUL, and halves of surrogate pairs, are no text for a database."""
    return json.dumps(fields, separators=(",", ":"))


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook_func(lambda kind: kind is Any, pack)
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda value, _: unpack(value))
    converter.register_unstructure_hook(enum.Enum, lambda member: member.name)
    converter.register_structure_hook(enum.Enum, lambda name, kind: kind[name])
    as_prediction = override(unstruct_hook=_pack_prediction)
    converter.register_unstructure_hook(
        Evaluation, make_dict_unstructure_fn(Evaluation, converter, prediction=as_prediction)
    )
    return converter


_converter = _make_converter()
