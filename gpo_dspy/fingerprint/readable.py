"""An example as JSON that people and other programs can read."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pydantic_core

from gpo_dspy.fingerprint.describer import ADDRESS


def example_json(example: dspy.Example) -> str:
    """Write an example as JSON text in ASCII: ``{"inputs": {...}, "labels": {...}}``.

    Values that JSON has no form for are written as what is nearest, or as their text.
    """
    inputs = getattr(example, "_input_keys", None) or ()
    fields: dict[str, dict[str, Any]] = {"inputs": {}, "labels": {}}
    for name, value in example.items():
        fields["inputs" if name in inputs else "labels"][name] = _readable(value)
    return json.dumps(fields)


def _readable(value: Any) -> Any:
    try:
        plain = pydantic_core.to_jsonable_python(value, bytes_mode="base64", fallback=_fallback)
        json.dumps(plain)
        return plain
    except (ValueError, RecursionError):  # it holds itself, a key is no text, an int is too long
        return _text(value)


def _fallback(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else _text(value)


def _text(value: Any) -> str:
    try:
        return ADDRESS.sub("...", str(value))
    except ValueError:
        return f"a {type(value).__name__}"
