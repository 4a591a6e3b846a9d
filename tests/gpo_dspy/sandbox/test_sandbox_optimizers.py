"""DSPy's own optimizers run to the end on the simulated models."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from gpo_dspy import sandbox

# Deprecations and leaks of the optimizers themselves are no concern of these tests.
pytestmark = pytest.mark.filterwarnings(
    "default", "ignore:Item '.*' on TypedDict class:UserWarning"
)

TRAIN = sandbox.make_dataset("word_sorting", 12, seed=1)
VALID = sandbox.make_dataset("word_sorting", 8, seed=2)


@pytest.fixture
def rewriter() -> Iterator[Any]:
    with dspy.context(lm=sandbox.solver(cache=False)):
        yield sandbox.rewriter(cache=False)


def program() -> Any:
    return sandbox.program_for("word_sorting")


def test_copro(rewriter: Any) -> None:
    options = {"num_threads": 1, "display_progress": False}
    optimizer = dspy.COPRO(prompt_model=rewriter, metric=sandbox.exact_match, breadth=3, depth=2)
    assert optimizer.compile(program(), trainset=TRAIN, eval_kwargs=options) is not None


def test_gepa(rewriter: Any) -> None:
    optimizer = dspy.GEPA(
        metric=sandbox.metric_with_feedback,
        max_metric_calls=120,
        reflection_lm=rewriter,
        num_threads=1,
    )
    assert optimizer.compile(program(), trainset=TRAIN, valset=VALID) is not None


def test_gepa_on_two_modules(rewriter: Any) -> None:
    data = sandbox.make_dataset("plan_then_answer", 16, seed=1)
    optimizer = dspy.GEPA(
        metric=sandbox.metric_with_feedback,
        max_metric_calls=60,
        reflection_lm=rewriter,
        num_threads=1,
    )
    student = sandbox.program_for("plan_then_answer")
    assert optimizer.compile(student, trainset=data[:8], valset=data[8:]) is not None


def test_simba(rewriter: Any) -> None:
    optimizer = dspy.SIMBA(
        metric=sandbox.exact_match,
        bsize=6,
        num_candidates=2,
        max_steps=2,
        prompt_model=rewriter,
        num_threads=1,
    )
    assert optimizer.compile(program(), trainset=TRAIN, seed=0) is not None


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="MIPROv2 needs optuna")
def test_mipro(rewriter: Any) -> None:
    optimizer = dspy.MIPROv2(
        metric=sandbox.exact_match,
        prompt_model=rewriter,
        task_model=dspy.settings.lm,
        auto=None,
        num_candidates=3,
        num_threads=1,
        max_bootstrapped_demos=1,
        max_labeled_demos=1,
    )
    compiled = optimizer.compile(
        program(), trainset=TRAIN, valset=VALID, num_trials=3, minibatch=False
    )
    assert compiled is not None


def test_advice_for_the_modules_of_a_program(rewriter: Any) -> None:
    from dspy.teleprompt.simba_utils import OfferFeedback

    text = dict.fromkeys(OfferFeedback.input_fields, "")
    sorting = "Sort the following words alphabetically: List: fig pear fig"
    text |= {
        "program_inputs": f'{{"question": "{sorting}"}}',
        "oracle_metadata": '{"answer": "fig fig pear"}',
        "worse_program_trajectory": f'[{{"module_name": "self", "inputs": {{"question": "{sorting}"'
        '}, "outputs": {"answer": "fig pear"}}]',
        "module_names": '["self"]',
    }
    with dspy.context(lm=rewriter):
        advice = dspy.Predict(OfferFeedback)(**text).module_advice
    assert list(advice) == ["self"]
    assert advice["self"]
