"""A simulated pair of language models: offline, deterministic, free of charge.

``sandbox/solver`` really solves items of a few tasks, and fails in mechanical ways that advice in
its instruction prevents. ``sandbox/rewriter`` reads an optimizer's meta-prompt, compares outputs
with what was expected, guesses causes and words advice, sometimes wrong. Both see chat messages and
nothing else, and the same request always gets the same reply. **They are simulated**: what an
optimizer gains here says how it searches, not what it would gain with a real model.

    >>> from gpo_dspy import sandbox
    >>> train = sandbox.make_dataset("word_sorting", n=2, seed=0)
    >>> len(train)
    2

A real model is swapped in by changing one string:

    import dspy
    from gpo_dspy import sandbox

    sandbox.register()
    dspy.configure(lm=dspy.LM("sandbox/solver", engine="litellm"))

`register` is explicit; importing this package imports neither LiteLLM nor DSPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .datasets import make_dataset
from .metrics import exact_match, metric_with_feedback
from .provider import register
from .tasks import TASKS

if TYPE_CHECKING:
    import dspy

    from .programs import PlanThenAnswer, program_for

__all__ = [
    "TASK_NAMES",
    "PlanThenAnswer",
    "configure",
    "exact_match",
    "make_dataset",
    "metric_with_feedback",
    "program_for",
    "register",
    "rewriter",
    "solver",
]

TASK_NAMES: tuple[str, ...] = tuple(TASKS)


def solver(**options: Any) -> dspy.LM:
    """Return the simulated solver as a DSPy language model.

    Args:
        **options: Passed on to ``dspy.LM``, e.g. ``cache=False``.
    """
    return _model("solver", options)


def rewriter(**options: Any) -> dspy.LM:
    """Return the simulated rewriter as a DSPy language model.

    Args:
        **options: Passed on to ``dspy.LM``.
    """
    return _model("rewriter", options)


def configure(**options: Any) -> tuple[dspy.LM, dspy.LM]:
    """Return the simulated pair (solver, rewriter) after making the solver DSPy's default model.

    Args:
        **options: Passed on to both ``dspy.LM``.
    """
    import dspy

    pair = solver(**options), rewriter(**options)
    dspy.configure(lm=pair[0])
    return pair


def _model(name: str, options: dict[str, Any]) -> dspy.LM:
    import dspy

    register()
    return dspy.LM(f"sandbox/{name}", engine="litellm", **options)


def __getattr__(name: str) -> Any:
    # These are DSPy classes, and importing DSPy takes seconds.
    if name in ("PlanThenAnswer", "program_for"):
        from . import programs

        return getattr(programs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
