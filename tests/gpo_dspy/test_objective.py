"""Metrics with several named scores: what counts of them, and the front that is kept."""

from __future__ import annotations

import copy
import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import dspy
import pytest
from fakes import (
    NEEDS,
    Prompted,
    rewriter_lm,
    scripted_lm,
    toy_examples,
    toy_gpo,
    toy_rewriter,
    toy_solver,
)
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from test_resume import Shop, Stopping, comparable

from gpo_dspy import GPO, GPOResult, MetricError, ResumeRefused
from gpo_dspy.evaluation.runner import Evaluation, Outcome
from gpo_dspy.front import dominates
from gpo_dspy.objective import EQUAL, Objective, names_differ, weigh
from gpo_dspy.report import show_result
from gpo_dspy.storage.codec import evaluation_detail, evaluation_from

START = "Be brief."


def words(text: str) -> int:
    return sum(need in text.split() for need in NEEDS)


def frank_solver(prompted: Prompted) -> dict[str, str]:
    """Answer like the toy solver, and say how many of the words the instruction has."""
    answer = toy_solver(prompted)["answer"]
    return {"answer": f"{answer}, with {words(prompted.instruction)}"}


def fighting(example: Any, prediction: Any, trace: Any = None) -> dict[str, float]:
    """Score the answer, and how few of the words the instruction has: each costs a fifth."""
    answer, _, used = prediction.answer.partition(", with ")
    return {"right": float(answer == example.answer), "short": 1 - int(used) / 5}


class Fighting:
    """The same, counting its calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> Any:
        self.calls[example.question] += 1
        return fighting(example, prediction)


def run(metric: Any = fighting, **arguments: Any) -> GPOResult:
    compiled = compile_toy(metric, **arguments)
    result: GPOResult = compiled.detailed_results
    return result


def student() -> dspy.Predict:
    return dspy.Predict(dspy.Signature("question -> answer", START))


def compile_toy(metric: Any = fighting, **arguments: Any) -> dspy.Module:
    rewriter = rewriter_lm(arguments.pop("rewriter", toy_rewriter))
    with dspy.context(lm=scripted_lm(arguments.pop("solver", frank_solver))):
        return toy_gpo(metric, prompt_model=rewriter, **arguments).compile(
            student(), trainset=toy_examples(40), valset=toy_examples(60, start=100)
        )


# --- weights ----------------------------------------------------------------------------------

WEIGHTS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.floats(0.01, 100), min_size=1, max_size=4
)
EIGHTHS = st.integers(0, 8).map(lambda n: n / 8)
ALL_SCORES = st.fixed_dictionaries(dict.fromkeys("abcd", EIGHTHS))


def evaluated(scores: Mapping[str, float], score: float = 0.125) -> Evaluation:
    return Evaluation(score, Outcome.SCORED, scores=tuple(sorted(scores.items())))


@given(WEIGHTS, ALL_SCORES, st.floats(1e-3, 1e3))
def test_only_the_ratios_of_weights_count(
    weights: dict[str, float], scores: dict[str, float], factor: float
) -> None:
    one = Objective.of(weights)
    other = Objective.of({name: weight * factor for name, weight in weights.items()})
    before, after = (weigh(evaluated(scores), o.weights).score for o in (one, other))
    assert before == pytest.approx(after, abs=1e-11)


@pytest.mark.parametrize("factor", [1, 2, 10, 1 / 3])
def test_a_common_factor_leaves_no_trace(factor: float) -> None:
    weights = {"a": 0.7, "b": 0.3}
    scaled = {name: weight * factor for name, weight in reversed(weights.items())}
    assert Objective.of(scaled) == Objective.of(weights)


@given(WEIGHTS, ALL_SCORES)
def test_a_weighted_score_is_the_weighted_mean(
    weights: dict[str, float], scores: dict[str, float]
) -> None:
    exact = {name: Fraction(weight) for name, weight in weights.items()}
    mean = sum(w * Fraction(scores[n]) for n, w in exact.items()) / sum(exact.values())
    score = weigh(evaluated(scores), Objective.of(weights).weights).score
    assert score == pytest.approx(float(mean), abs=1e-9)
    assert 0 <= score <= 1
    full = dict.fromkeys(scores, 1.0)
    assert weigh(evaluated(full), Objective.of(weights).weights).score == 1.0


def test_what_has_no_named_scores_keeps_its_score() -> None:
    failed = Evaluation(0.0, Outcome.UNPARSABLE)
    assert weigh(failed, Objective.of({"a": 1}).weights) is failed
    assert weigh(evaluated({"a": 0.5}), None).score == 0.125
    assert weigh(evaluated({"a": 0.5, "b": 1.0}), EQUAL).score == 0.75


def test_the_weights_of_a_step_are_drawn_from_seed_and_step() -> None:
    pareto = Objective.of("pareto")
    drawn = {
        (seed, step): pareto.drawn(["a", "b", "c"], seed, step)
        for seed in range(3)
        for step in range(1, 200)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert pareto.drawn(["c", "b", "a"], 1, 7) == drawn[1, 7]
    for weights in drawn.values():
        assert weights is not None
        assert [name for name, _ in weights] == ["a", "b", "c"]
        assert all(weight > 0 for _, weight in weights)
        assert math.fsum(weight for _, weight in weights) == pytest.approx(1)
    above = sum(dict(w or ())["a"] > 1 / 2 for w in drawn.values())
    assert above / len(drawn) == pytest.approx(1 / 4, abs=0.06)  # of a triangle's area
    fixed = Objective.of({"a": 1, "b": 3})
    assert fixed.drawn(["a", "b"], 0, 1) == fixed.drawn(["a", "b"], 5, 9) == fixed.weights
    assert Objective.of(None).drawn(["a", "b"], 0, 1) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("accuracy", "'pareto'"),
        ({}, "'pareto'"),
        (["accuracy"], "'pareto'"),
        (0.5, "'pareto'"),
        ({"accuracy": 0}, "the weight 0 for 'accuracy'"),
        ({"accuracy": -1.0}, "the weight -1.0"),
        ({"accuracy": math.nan}, "the weight nan"),
        ({"accuracy": math.inf}, "the weight inf"),
        ({"accuracy": True}, "the weight True"),
        ({"accuracy": "much"}, "the weight 'much'"),
        ({1: 0.5}, "for 1"),
    ],
)
def test_a_wrong_objective_is_refused_at_once(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"objective must be None, \{") as raised:
        GPO(fighting, objective=value)
    assert said in str(raised.value)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "metric", "said"),
    [
        ({"right": 1, "fast": 1}, fighting, "weights for 'fast'.*the scores 'right', 'short'"),
        ({"right": 1}, lambda e, p, t=None: 0.5, "weights for 'right'.*a single score"),
        ("pareto", lambda e, p, t=None: True, "'pareto'.*a single score"),
    ],
)
def test_an_objective_that_the_metric_does_not_meet_costs_one_call(
    objective: Any, metric: Any, said: str
) -> None:
    calls = []

    def counted(example: Any, prediction: Any, trace: Any = None) -> Any:
        calls.append(example)
        return metric(example, prediction)

    with pytest.raises(MetricError, match=said):
        run(counted, objective=objective)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ({"a": 1.0, "b": 0.5}, {"a": 1.0}, "'a', 'b' at first, and now scores without 'b'"),
        ({"a": 1.0}, {"a": 1.0, "c": 0.5}, "now scores with 'c', new"),
        ({"a": 1.0}, {"A": 1.0}, "without 'a' and with 'A', new"),
        (0.5, {"a": 1.0}, "a single score at first, and now scores with 'a', new"),
        ({"a": 1.0}, 0.5, "without 'a'"),
        ({"a": 0.5}, {"a": 7.0}, "score 'a', returned 7.0"),
        ({"a": 0.5}, {}, "no names with numbers"),
    ],
)
def test_other_names_than_in_the_first_call_are_refused(first: Any, then: Any, said: str) -> None:
    values = iter([first] * 3)
    with pytest.raises(MetricError, match=said):
        run(lambda example, prediction, trace=None: next(values, then))


def test_later_in_a_run_such_a_call_fails_and_is_counted() -> None:
    def changing(example: Any, prediction: Any, trace: Any = None) -> Any:
        scores = fighting(example, prediction)
        return scores | ({"new": 1.0} if scores["short"] < 0.7 else {})

    result = run(changing, objective={"right": 1, "short": 1e-9}, max_metric_calls=300)
    assert result.outcomes["METRIC_INVALID"] > 0
    assert words(dict(result.best)["self"]) < 2


def test_names_that_are_the_same_do_not_differ() -> None:
    assert names_differ(["a", "b"], ["a", "b"]) == ""
    assert names_differ([], []) == ""


# --- runs -------------------------------------------------------------------------------------


def hand_weighted(example: Any, prediction: Any, trace: Any = None) -> float:
    scores = fighting(example, prediction)
    return 0.75 * scores["right"] + 0.25 * scores["short"]


def trajectory(result: GPOResult) -> Any:
    values = comparable(result)
    for name in ("start_scores", "best_scores", "front"):
        del values[name]
    return values


def in_quarters(example: Any, prediction: Any, trace: Any = None) -> dict[str, float]:
    """Return scores that a weight of a quarter leaves exact."""
    scores = fighting(example, prediction)
    return scores | {"short": round(scores["short"] * 4) / 4}


def in_quarters_by_hand(example: Any, prediction: Any, trace: Any = None) -> float:
    scores = in_quarters(example, prediction)
    return 0.75 * scores["right"] + 0.25 * scores["short"]


def test_a_weighted_objective_is_a_metric_weighted_by_hand() -> None:
    weighed = run(in_quarters, objective={"right": 6, "short": 2}, max_metric_calls=300)
    by_hand = run(in_quarters_by_hand, max_metric_calls=300)
    assert trajectory(weighed) == trajectory(by_hand)
    assert len(weighed.records) > 2
    assert weighed.front == ()


def test_weights_decide_what_is_best() -> None:
    right = run(objective={"right": 0.9, "short": 0.1}, max_metric_calls=400)
    short = run(objective={"right": 0.1, "short": 0.9}, max_metric_calls=400)
    assert words(dict(right.best)["self"]) >= 3
    assert words(dict(short.best)["self"]) == 0
    # An estimate: as if what examples and programs add to a score were independent.
    assert dict(right.start_scores)["right"] == pytest.approx(0.0, abs=0.1)
    assert dict(right.best_scores)["right"] > 0.5


def test_without_an_objective_the_score_given_counts_or_the_plain_mean() -> None:
    def both(example: Any, prediction: Any, trace: Any = None) -> dspy.Prediction:
        scores = fighting(example, prediction)
        return dspy.Prediction(score=scores["right"], scores=scores, feedback="")

    def only(name: str) -> Any:
        return lambda example, prediction, trace=None: fighting(example, prediction)[name]

    assert trajectory(run(both)) == trajectory(run(only("right")))
    by_mean = trajectory(run(fighting))
    equal = trajectory(run(lambda e, p, trace=None: sum(fighting(e, p).values()) / 2))
    assert by_mean == equal


@pytest.fixture(scope="module")
def compiled() -> dspy.Module:
    return compile_toy(objective="pareto", max_metric_calls=900)


def test_the_front_has_the_extremes_and_the_middle(compiled: dspy.Module) -> None:
    result: GPOResult = compiled.detailed_results
    found = [words(m.state.instruction("self")) for m in result.front]
    assert {min(found), max(found)} == {0, len(NEEDS)}
    assert set(found) & {1, 2, 3}
    assert result.front[0].scores[0] == (
        "right",
        max(dict(m.scores)["right"] for m in result.front),
    )
    for member in result.front:
        assert [name for name, _ in member.scores] == ["right", "short"]
        assert member.evaluations >= 12
        own = [score for _, score in member.scores]
        others = [[score for _, score in other.scores] for other in result.front]
        assert not any(dominates(other, own) for other in others)


def test_every_member_of_the_front_is_offered_as_a_program(
    compiled: dspy.Module, tmp_path: Path
) -> None:
    result: GPOResult = compiled.detailed_results
    again = copy.deepcopy(compiled)
    compiled.save(tmp_path / "program.json")
    for member in result.front:
        program = member.program(again)
        assert program.signature.instructions == member.state.instruction("self")
    assert again.signature.instructions == compiled.signature.instructions
    saved = student()
    saved.load(tmp_path / "program.json")
    assert result.front[0].program(saved).signature.instructions == result.front[
        0
    ].state.instruction("self")


def test_a_front_is_shown(compiled: dspy.Module) -> None:
    result: GPOResult = compiled.detailed_results
    shown = io.StringIO()
    show_result(result, Console(file=shown, width=200))
    for text in (str(result), shown.getvalue()):
        assert "Pareto front" in text
        assert "right" in text
        assert "short" in text
        for member in result.front:
            assert f"{100 * dict(member.scores)['right']:.1f} %" in text
        assert text.count("best by the plain mean") <= 1
    assert re.search(r"scores in the search: right \d\.\d % -> ", str(result))
    assert "of that, short" in shown.getvalue()
    single = run(hand_weighted)
    assert "front" not in str(single)
    assert "scores in" not in str(single)


def test_the_prompt_model_is_told_what_counts() -> None:
    asked: list[Prompted] = []

    def listening(prompted: Prompted) -> dict[str, str]:
        asked.append(prompted)
        return toy_rewriter(prompted)

    run(objective="pareto", rewriter=listening)
    said = [p.fields["objective"] for p in asked]
    assert len(set(said)) > 1, "each step has weights of its own"
    assert all("right (weight 0." in text and "short (weight 0." in text for text in said)
    assert "Scores: right 0.0 of 100, short 100.0 of 100" in asked[0].fields["failures"]
    asked.clear()
    run(hand_weighted, rewriter=listening)
    assert not any("objective" in p.fields for p in asked)


def test_the_best_and_the_scores_of_the_trajectory_are_by_the_plain_mean() -> None:
    result = run(objective="pareto", max_metric_calls=900)
    # Estimates, each cut off at 0 and 1.
    assert result.best_score == pytest.approx(sum(s for _, s in result.best_scores) / 2, abs=0.02)
    assert result.start_score == pytest.approx(sum(s for _, s in result.start_scores) / 2, abs=0.02)
    assert result.start_score == pytest.approx(0.5, abs=0.05)
    exact = {k: k / 4 / 2 + (1 - k / 5) / 2 for k in range(5)}
    finished = [p for p in result.trajectories["self"] if p.evaluations >= 16]
    assert len(finished) > 2
    for prompt in finished:
        assert prompt.score == pytest.approx(exact[words(prompt.text)], abs=0.2)


# --- storage ----------------------------------------------------------------------------------


def test_named_scores_are_stored() -> None:
    evaluation = evaluated({"b": 1 / 3, "a": 1.0}, 2 / 3)
    detail = evaluation_detail(evaluation)
    assert evaluation_from(2 / 3, "SCORED", "", detail) == evaluation


@pytest.mark.parametrize("step", [1, 3])
def test_an_interrupted_run_ends_with_the_same_front(tmp_path: Path, step: int) -> None:
    shop = Shop(tmp_path)
    shop.solver, shop.metric = scripted_lm(frank_solver), Fighting()
    pareto: dict[str, Any] = {"objective": "pareto", "max_metric_calls": 500}
    undisturbed = shop.run(student(), storage=None, **pareto)
    first = shop.run(student(), callbacks=[Stopping(step)], **pareto)
    before = shop.requests
    again = shop.run(student(), **pareto)
    assert again.front == undisturbed.front
    assert len(again.front) > 2
    assert comparable(again) == comparable(undisturbed)
    assert shop.requests[0] - before[0] == undisturbed.metric_calls - first.metric_calls
    assert shop.run(student(), **pareto) == again, "a finished run is read back whole"


def test_another_objective_is_another_run_that_shares_the_metric_calls(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.solver, shop.metric = scripted_lm(frank_solver), Fighting()
    weights = {"right": 3.0, "short": 1.0}
    first = shop.run(student(), study="toy", objective=weights)
    before = shop.requests
    swapped = dict(reversed(weights.items()))
    assert shop.run(student(), study="toy", objective=swapped) == first
    assert shop.requests == before
    with pytest.raises(ResumeRefused, match="objective"):
        shop.run(student(), study="toy", objective="pareto")
    other = shop.run(student(), objective="pareto", memory=False)
    assert other.reused > 0
    assert other.front
