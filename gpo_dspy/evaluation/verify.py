"""The first results tell whether a run can go on at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpo_dspy.errors import BackendUnavailable, GPOError, MetricError, ProgramError
from gpo_dspy.evaluation.runner import Evaluation, Outcome
from gpo_dspy.state import Fate, Rewrite

FATAL_IF_ALL: dict[Outcome, tuple[type[GPOError], str]] = {
    Outcome.METRIC_ERROR: (MetricError, "metric"),
    Outcome.PROGRAM_ERROR: (ProgramError, "student"),
    Outcome.TIMED_OUT: (ProgramError, "student"),
    Outcome.REFUSED: (BackendUnavailable, "the LM"),
}


def verify_first(results: Mapping[int, Evaluation]) -> None:
    """Refuse a metric or a program that is broken, not only unlucky.

    A value that is no score is a mistake in the metric however rare it is; what raises on some
    examples may be the prompt's fault, on all of several it is not.

    Raises:
        MetricError: The metric gave no score in [0, 1], or raised on every example.
        ProgramError: The program raised on every example.
        BackendUnavailable: The LM refused every request.
    """
    evaluations = list(results.values())
    for evaluation in evaluations:
        if evaluation.outcome is Outcome.METRIC_INVALID:
            raise MetricError(evaluation.feedback)
    outcomes = {evaluation.outcome for evaluation in evaluations}
    if len(evaluations) > 1 and len(outcomes) == 1:
        error, who = FATAL_IF_ALL.get(outcomes.pop(), (None, ""))
        if error is not None:
            raise error(
                f"{who}: it failed on all of {len(evaluations)} examples. {evaluations[0].feedback}"
            )


def verify_rewrites(rewrites: Sequence[Rewrite], model: str) -> None:
    """Refuse a prompt model that refuses every request of the first step.

    Args:
        rewrites: The rewrites of the first step.
        model: The prompt model's name.

    Raises:
        BackendUnavailable: None of the requests was answered.
    """
    if all(rewrite.fate is Fate.UNANSWERED for rewrite in rewrites):
        raise BackendUnavailable(
            f"prompt_model: {model} refused every request of the first step; its reason is "
            "in the log. Check the model's name and the settings of its dspy.LM."
        )
