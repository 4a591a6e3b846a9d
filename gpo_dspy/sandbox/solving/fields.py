"""A value for every output field that is asked for, of the declared type."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from gpo_dspy.sandbox.reading import Field

_THOUGHT = re.compile(r"reason|rational|thought|think|explan|discuss|analysis|comment", re.I)
_PLAN = re.compile(r"plan|outline|strategy|steps", re.I)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def is_thought(name: str) -> bool:
    """Tell whether a field of this name holds thoughts and not a result."""
    return bool(_THOUGHT.search(name))


def is_plan(name: str) -> bool:
    """Tell whether a field of this name holds a plan."""
    return bool(_PLAN.search(name))


def typed(field: Field, answer: str) -> Any:
    """Turn a text into a value that parses as the field's type.

    Args:
        field: The output field.
        answer: What the model wants to say.
    """
    kind = field.kind
    if kind.startswith("Literal"):
        return _literal(kind, answer)
    if kind == "bool":
        return answer.strip().lower().startswith(("true", "yes"))
    if kind in ("int", "float"):
        found = _NUMBER.search(answer)
        number = float(found[0]) if found else 0.0
        return number if kind == "float" else int(number)
    if kind.startswith(("list", "List", "tuple", "set")):
        return [_part(kind, word) for word in answer.replace(",", " ").split()]
    if kind.startswith(("dict", "Dict")):
        return {}
    return answer


def _part(kind: str, word: str) -> Any:
    inner = re.search(r"\[(int|float)", kind)
    return typed(Field("", inner[1]), word) if inner else word


def _literal(kind: str, answer: str) -> Any:
    try:
        options = ast.literal_eval(kind[len("Literal") :])
    except (ValueError, SyntaxError):
        return answer
    for option in options:
        if str(option).lower() == answer.strip().lower():
            return option
    for option in options:
        if re.search(rf"\b{re.escape(str(option))}\b", answer, re.I):
            return option
    return "finish" if "finish" in options else options[0]


def shown(value: Any) -> str:
    """Return a value as DSPy's adapters show it."""
    return value if isinstance(value, str) else json.dumps(value)
