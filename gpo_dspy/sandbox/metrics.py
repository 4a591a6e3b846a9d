"""Metrics for the simulated tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tasks import TASKS, recognise
from .tasks.plan_then_answer import PlanTask

if TYPE_CHECKING:
    import dspy


def exact_match(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Tell whether the predicted ``answer`` is the expected one, up to white space.

    Args:
        example: Has ``answer``.
        prediction: Has ``answer``.
        trace: Not used; DSPy passes it.
    """
    del trace
    return _tidy(example.answer) == _tidy(getattr(prediction, "answer", ""))


def metric_with_feedback(
    example: Any,
    prediction: Any,
    trace: Any = None,
    pred_name: str | None = None,
    pred_trace: Any = None,
) -> dspy.Prediction:
    """Score like `exact_match` and say what seems to be wrong.

    The comment is found from the item and the answer alone, as a person would who knows the usual
    mistakes: it is not told what the simulated solver did.

    Args:
        example: Has ``question`` and ``answer``.
        prediction: Has ``answer``.
        trace: Not used.
        pred_name: Not used; GEPA passes the predictor's name.
        pred_trace: Not used.

    Returns:
        A prediction with ``score`` (0.0 or 1.0) and ``feedback``.
    """
    import dspy

    del trace, pred_name, pred_trace
    if exact_match(example, prediction):
        return dspy.Prediction(score=1.0, feedback="Correct.")
    said = _tidy(getattr(prediction, "answer", ""))
    told = f"Wrong. Expected '{_tidy(example.answer)}' but got '{said}'."
    hint = _hint(str(example.get("question", "")), said)
    return dspy.Prediction(score=0.0, feedback=f"{told} {hint}".strip())


def _hint(question: str, said: str) -> str:
    item = recognise(question)
    if item is None:
        return ""
    task = TASKS[item.task]
    for mode in task.modes:
        if mode.hint and _tidy(mode.wrong(item)) == said:
            return mode.hint
    if isinstance(task, PlanTask):
        return next((m.hint for m in task.plan_modes if said == task.result(m.wrong(item))), "")
    return ""


def _tidy(answer: Any) -> str:
    return " ".join(str(answer).split())
