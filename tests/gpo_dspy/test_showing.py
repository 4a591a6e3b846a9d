"""Which failures are shown, and how."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import dspy
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.runner import Evaluation, Outcome, PredictorCall
from gpo_dspy.showing import (
    deal,
    failing_shares,
    failures_through,
    informative,
    show_example,
    show_failure,
)

EXAMPLE = dspy.Example(question="2 + 2", answer="4").with_inputs("question")


def _evaluation(score: float, *predictors: str, feedback: str = "") -> Evaluation:
    calls = tuple(
        PredictorCall(name, {"seen": f"{name} in {i}"}, {"said": f"{name} out {i}"})
        for i, name in enumerate(predictors)
    )
    prediction = dspy.Prediction(answer="5", said="outer")
    return Evaluation(score, Outcome.SCORED, feedback, prediction, calls)


def test_only_what_went_through_the_predictor_is_held_against_it() -> None:
    results = {
        1: _evaluation(0.0, "plan", "answer"),
        2: _evaluation(0.0, "plan"),
        3: _evaluation(1.0, "answer"),
        4: _evaluation(0.1, "answer"),
    }
    assert failures_through(results, ["answer"]) == [1, 4]
    assert failures_through(results, ["plan"]) == [1, 2]
    assert failures_through(results, ["plan", "answer"]) == [1, 2, 4]


def test_a_failure_without_a_trace_may_be_the_predictors() -> None:
    results = {1: _evaluation(0.0, "plan"), 2: _evaluation(0.0), 3: _evaluation(0.0, "answer")}
    assert failures_through(results, ["plan"]) == [1, 2]


def test_partial_scores_are_failures_up_to_the_mean() -> None:
    results = {i: _evaluation(score, "plan") for i, score in enumerate([0.2, 0.3, 0.8, 0.9, 1.0])}
    assert failures_through(results, ["plan"]) == [0, 1]


def test_without_any_trace_of_the_predictor_all_failures_count() -> None:
    assert failures_through({1: _evaluation(0.0, "plan"), 2: _evaluation(0.0)}, ["other"]) == [1, 2]
    assert failures_through({1: _evaluation(1.0, "plan")}, ["plan"]) == []


def test_shares_tell_how_many_failures_go_through_a_predictor() -> None:
    results = {
        1: _evaluation(0.0, "plan", "answer"),
        2: _evaluation(0.0, "plan"),
        3: _evaluation(1.0, "answer"),
        4: _evaluation(0.0),
    }
    shares = failing_shares(results, ["plan", "answer", "other"])
    assert shares == {"plan": 1.0, "answer": 0.5, "other": 0.0}
    assert failing_shares({}, ["plan", "other"]) == {"plan": 1.0, "other": 1.0}


@given(
    count=st.integers(0, 30),
    hands=st.integers(1, 8),
    size=st.integers(0, 6),
    seed=st.integers(0, 3),
)
def test_dealing_is_even_and_without_repeats_in_a_hand(
    count: int, hands: int, size: int, seed: int
) -> None:
    dealt = deal(range(count), hands=hands, size=size, random_state=random.Random(seed))
    if not (count and size):
        assert not any(dealt)
        return
    assert len(dealt) == hands
    for hand in dealt:
        assert len(set(hand)) == len(hand) <= min(size, count)
        assert hand
        assert set(hand) <= set(range(count))
    shown = [index for hand in dealt for index in hand]
    if hands * min(size, count) >= count:
        assert set(shown) == set(range(count)), "each failure is shown at least once"
    assert dealt == deal(range(count), hands=hands, size=size, random_state=random.Random(seed))


def test_an_example_shows_its_inputs_and_labels() -> None:
    assert show_example(EXAMPLE) == "Input question: 2 + 2\nExpected answer: 4"


def test_a_failure_shows_what_this_predictor_saw_said_and_should_have_led_to() -> None:
    text = show_failure(EXAMPLE, _evaluation(0.0, "plan", "answer", feedback="off by one"), "plan")
    assert text.splitlines() == [
        "Input seen: plan in 0",
        "Output said: plan out 0",
        "The whole program's output answer: 5",
        "Expected answer: 4",
        "Feedback: off by one",
    ]


def test_feedback_on_the_predictor_stands_in_place_of_that_on_the_program() -> None:
    evaluation = replace(
        _evaluation(0.0, "plan", "answer", feedback="wrong"),
        predictor_feedback=(("plan", "too short"), ("other", "fine")),
    )
    assert show_failure(EXAMPLE, evaluation, "plan").endswith("\nFeedback: too short")
    assert show_failure(EXAMPLE, evaluation, "answer").endswith("\nFeedback: wrong")


def test_of_several_calls_the_last_is_shown() -> None:
    text = show_failure(EXAMPLE, _evaluation(0.0, "step", "step", "step"), "step")
    assert "step out 2" in text
    assert "step out 1" not in text


def test_without_a_trace_the_programs_own_inputs_and_outputs_are_shown() -> None:
    text = show_failure(EXAMPLE, _evaluation(0.0), "plan")
    assert "Input question: 2 + 2" in text
    assert "Output answer: 5" in text
    failed = Evaluation(0.0, Outcome.PROGRAM_ERROR, "The program raised KeyError: 'x'")
    assert "KeyError" in show_failure(EXAMPLE, failed, "plan")


def test_long_values_are_shortened() -> None:
    example = dspy.Example(question="x" * 100_000, answer="4").with_inputs("question")
    assert len(show_failure(example, _evaluation(0.0), "plan")) < 3_000
    assert "characters left out" in show_example(example)


SCORES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6)


@given(st.dictionaries(st.integers(0, 30), SCORES), st.integers(0, 12), st.integers(0, 9))
def test_as_many_failures_are_drawn_as_can_be_shown(
    scores: dict[int, list[float]], count: int, seed: int
) -> None:
    failed = list(scores)
    drawn = informative(failed, scores, count, random.Random(seed))
    assert len(drawn) == min(count, len(failed))
    assert drawn == [index for index in failed if index in drawn]
    assert drawn == informative(failed, scores, count, random.Random(seed))


def test_failures_that_tell_much_are_drawn_more_often() -> None:
    scores = {
        "never right": [0.0] * 12,
        "seen once": [0.0],
        "near the boundary": [0.0, 1.0],
        "near it, by many": [0.0, 1.0] * 6,
        "nearly right": [0.5, 0.5],
    }
    by_index = dict(enumerate(scores.values()))
    rng = random.Random(0)
    drawn = Counter(
        index for _ in range(4000) for index in informative(list(by_index), by_index, 1, rng)
    )
    often = [drawn[index] for index in range(len(scores))]
    never, once, boundary, many, partly = often
    assert never < once < boundary < many
    assert abs(partly - boundary) < 0.15 * boundary, "a score of 0.5 is half right"
