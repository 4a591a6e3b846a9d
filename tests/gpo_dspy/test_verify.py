"""What the first results tell: a broken metric or program, or an LM that refuses."""

from __future__ import annotations

import pytest

from gpo_dspy.errors import BackendUnavailable, GPOError, MetricError, ProgramError
from gpo_dspy.evaluation.runner import Evaluation, Outcome
from gpo_dspy.evaluation.verify import verify_first


def _verify(*outcomes: Outcome) -> None:
    verify_first({i: Evaluation(0.0, outcome, f"why {i}") for i, outcome in enumerate(outcomes)})


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Outcome.METRIC_ERROR, MetricError),
        (Outcome.PROGRAM_ERROR, ProgramError),
        (Outcome.REFUSED, BackendUnavailable),
    ],
)
def test_what_fails_on_all_of_several_examples_is_broken(
    outcome: Outcome, error: type[GPOError]
) -> None:
    with pytest.raises(error, match=r"failed on all of 3 examples\. why 0"):
        _verify(outcome, outcome, outcome)
    _verify(outcome)  # one alone may be bad luck
    for other in (Outcome.SCORED, Outcome.UNPARSABLE):
        _verify(outcome, outcome, other)


def test_a_value_that_is_no_score_is_a_mistake_however_rare() -> None:
    with pytest.raises(MetricError, match="why 2"):
        _verify(Outcome.SCORED, Outcome.SCORED, Outcome.METRIC_INVALID)


def test_unparsable_replies_are_what_a_better_prompt_may_mend() -> None:
    _verify(*[Outcome.UNPARSABLE] * 12)
    _verify(*[Outcome.SCORED] * 12)
    _verify()
