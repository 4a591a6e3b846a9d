"""What a run depends on, as hashes that change when the thing changes, and only then.

Equal in every process and in Python 3.10 to 3.13, so that a run can be found again and its results
used by others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import dspy

from gpo_dspy.fingerprint import code, data, programs  # noqa: F401 - they register what they know
from gpo_dspy.fingerprint.describer import Describer
from gpo_dspy.fingerprint.digests import digest, to_text
from gpo_dspy.fingerprint.readable import example_json

__all__ = [
    "digest",
    "example_fingerprint",
    "example_json",
    "metric_fingerprint",
    "program_fingerprint",
    "program_fingerprints",
]


def example_fingerprint(example: dspy.Example) -> str:
    """Fingerprint an example: its fields, of whatever types, and which of them are inputs."""
    return digest(to_text(Describer(content=True)(example)))


def metric_fingerprint(function: Callable[..., Any]) -> str:
    """Fingerprint a metric: its code and the values and functions it uses.

    Comments, layout and docstrings do not count, nor does what the metric changes itself, such as
    a counter. The user's own functions and classes are followed; those of libraries are named. A
    judge (an LM or a DSPy program that the metric uses) counts with its model and prompts.

    Args:
        function: A function, lambda, method, partial, callable object or DSPy module.
    """
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    home = getattr(inner, "__module__", None)
    return digest(to_text(Describer(home=home)(function)))


def program_fingerprints(program: dspy.Module) -> dict[str, str]:
    """Fingerprint a program part by part, so that a person can be told what changed.

    Returns:
        Fingerprints by part: ``program`` (classes, their code and settings), ``predictors``
        (signatures without the instructions, which are the parameter), ``demos``, ``lm`` (models
        and generation settings, never keys or addresses), ``tools`` and ``adapter``.
    """
    return {name: digest(to_text(part(program))) for name, part in programs.PARTS.items()}


def program_fingerprint(program: dspy.Module) -> str:
    """Fingerprint a program, without the instructions of its predictors."""
    return digest(*(f"{name}={value}" for name, value in program_fingerprints(program).items()))
