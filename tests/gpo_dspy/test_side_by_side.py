"""Steps side by side: each knows what was known when it began, whatever is quicker."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    NO_WAITING,
    Gauge,
    Prompted,
    evaluate,
    napping,
    rewriter_lm,
    scripted_lm,
    story,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)

from gpo_dspy import GPO, GPOResult
from gpo_dspy.budget import BudgetSpent
from gpo_dspy.demo_search import DEMO_EVERY
from gpo_dspy.direction import Reflection, Summary
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.evaluation.metric_calls import MetricCalls
from gpo_dspy.evaluation.runner import Runner
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.loop import optimize
from gpo_dspy.program_state import ProgramState
from gpo_dspy.search import Search
from gpo_dspy.state import StopReason

TRAIN, VAL = toy_examples(24), toy_examples(24, start=100)
QA = "question -> answer"


def _compile(
    solver: Callable[[Prompted], Any] = toy_solver,
    rewriter: Callable[[Prompted], Any] = toy_rewriter,
    **arguments: Any,
) -> GPOResult:
    with dspy.context(lm=scripted_lm(solver)):
        optimizer = toy_gpo(prompt_model=rewriter_lm(rewriter), **arguments)
        compiled = optimizer.compile(dspy.Predict(QA), trainset=TRAIN, valset=VAL)
    result: GPOResult = compiled.detailed_results
    return result


def seldom_useful(prompted: Prompted) -> Any:
    """Write something of use in one of five requests, known by the request itself."""
    luck = random.Random(prompted.user).random()
    if luck < 0.2:
        return toy_rewriter(prompted)
    current, variation = prompted.fields["current_prompt"], prompted.fields.get("variation", "")
    return {"improved_prompt": f"{current} perhaps {luck:.6f} {variation[-12:]}"}


# --- a run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_the_same_run_however_long_its_calls_last(at_once: int) -> None:
    stories = [
        story(
            _compile(
                napping(toy_solver, seed),
                napping(seldom_useful, seed),
                num_threads=threads,
                steps_at_once=at_once,
                max_metric_calls=400,
            )
        )
        for seed, threads in enumerate([1, 5, 24])
    ]
    assert stories[0] == stories[1] == stories[2]
    assert len(stories[0]["records"]) > 8


def test_there_are_the_more_steps_at_once_the_longer_none_has_found_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    begin = Search.begin

    def watched(search: Search, take: Any, state: Any, under_way: Any) -> Any:
        begun = begin(search, take, state, under_way)
        if begun is not None:
            fruitless = 0
            for record in reversed(state.records):
                if record.accepted is not None:
                    break
                fruitless += 1
            seen.append((len(under_way) + 1, fruitless))
        return begun

    monkeypatch.setattr(Search, "begin", watched)
    result = _compile(rewriter=seldom_useful, steps_at_once=4, max_metric_calls=400)
    assert max(under_way for under_way, _ in seen) == 4
    assert all(under_way <= min(4, 1 + fruitless) for under_way, fruitless in seen)
    assert [record.step for record in result.records] == list(range(1, len(result.records) + 1))


def test_requests_to_the_prompt_model_run_beside_each_other() -> None:
    within = Gauge()

    def useless(prompted: Prompted) -> Any:
        with within:
            time.sleep(0.02)
        return {"improved_prompt": f"{prompted.fields['current_prompt']} {random.random()}"}

    _compile(rewriter=useless, steps_at_once=6, num_threads=2, max_metric_calls=250)
    assert within.most == 2, "as many as there are threads, of all steps together"


def test_demos_are_drawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: dict[int, int] = {}
    begin = Search.begin

    def watched(search: Search, take: Any, state: Any, under_way: Any) -> Any:
        begun = begin(search, take, state, under_way)
        for step in [*under_way, begun] if begun else []:
            number = step.parts.state.next_step
            alone[number] = max(alone.get(number, 0), len(under_way) + 1)
        return begun

    monkeypatch.setattr(Search, "begin", watched)
    result = _compile(
        rewriter=seldom_useful,
        steps_at_once=5,
        max_bootstrapped_demos=2,
        max_metric_calls=600,
        seed=3,  # finds no perfect prompt before the second drawing
    )
    due = [record.step for record in result.records if record.step % DEMO_EVERY == 1]
    assert len(due) > 1
    assert {alone[step] for step in due} == {1}
    assert max(alone.values()) > 1


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_are_not_exceeded(epochs: int) -> None:
    result = _compile(
        rewriter=seldom_useful, steps_at_once=6, epochs=epochs, batch_size=8, max_metric_calls=600
    )
    assert len(result.records) == 3 * epochs
    assert result.stop_reason is StopReason.EPOCHS


def test_a_backend_that_goes_away_leaves_what_all_steps_have_found() -> None:
    answered, lock = Counter[str](), threading.Lock()

    def failing(prompted: Prompted) -> Any:
        with lock:
            if answered["calls"] >= 150:
                raise lm15.ServerError("gone", status=503)
            answered["calls"] += 1
        time.sleep(0.001)
        return toy_solver(prompted)

    with pytest.raises(BackendUnavailable) as raised:
        _compile(failing, seldom_useful, steps_at_once=6, num_threads=8, max_metric_calls=400)
    result: Any = raised.value.result
    assert result.stop_reason is StopReason.BACKEND
    assert result.metric_calls == answered["calls"] == 150, "nothing that was answered is lost"
    assert result.best_score >= result.start_score


def test_the_paper_takes_one_step_at_a_time() -> None:
    with pytest.raises(ValueError, match=r"steps_at_once=2 contradicts acceptance='best_new'"):
        GPO.paper(toy_metric, steps_at_once=2)
    assert GPO.paper(toy_metric, steps_at_once=1)


def test_a_summary_is_carried_on_from_step_to_step() -> None:
    with pytest.raises(
        ValueError, match=r"steps_at_once=3 contradicts a direction that is carried"
    ):
        GPO(toy_metric, direction="summary", steps_at_once=3)
    with pytest.raises(ValueError, match="leave steps_at_once out"):
        GPO(toy_metric, direction=Reflection(Summary()), steps_at_once=3)
    assert GPO(toy_metric, direction="reflection", steps_at_once=3)
    assert _compile(direction="relevance", max_metric_calls=1_000).plan.steps_at_once == 4


# --- what ends a run while steps are under way ----------------------------------------------------


class Names(tuple[str, ...]):
    """A state: the names of the steps that are done."""

    @property
    def step(self) -> int:
        return len(self)


class ScriptedSearch:
    """Begins three steps; each comes to what it is told to."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = deque(outcomes)
        self.asked = 0

    def stop_reason(self, state: Names, under_way: Any = ()) -> StopReason | None:
        return None if self.outcomes else StopReason.METRIC_CALLS

    def begin(self, take: Any, state: Any, under_way: Any) -> Any:
        return self.outcomes.popleft()

    def stop(self, error: BaseException) -> None:
        self.stopped = error

    def finish(self, begun: Any) -> Any:
        if isinstance(begun, BaseException):
            raise begun
        return begun

    def record(self, state: Names, done: Any) -> Names:
        return Names((*state, done.name))


class Done:
    def __init__(self, name: str, stopped_by: BaseException | None = None) -> None:
        self.name, self.stopped_by = name, stopped_by


@pytest.mark.parametrize(
    ("outcomes", "kept", "ends"),
    [
        ((Done("a"), Done("b")), ("a", "b"), StopReason.METRIC_CALLS),
        ((BudgetSpent(StopReason.COST), Done("b"), Done("c")), ("b", "c"), StopReason.COST),
        ((Done("a"), BudgetSpent(StopReason.COST), Done("c")), ("a", "c"), StopReason.COST),
        ((Done("a", KeyboardInterrupt()), Done("b")), ("a", "b"), KeyboardInterrupt),
        ((KeyboardInterrupt(), KeyboardInterrupt(), Done("c")), ("c",), KeyboardInterrupt),
        ((BudgetSpent(StopReason.COST), KeyboardInterrupt(), Done("c")), ("c",), KeyboardInterrupt),
        ((Done("a"), RuntimeError("a bug"), Done("c")), ("a", "c"), RuntimeError),
        # Nothing was left to do: the backend is not missed.
        ((Done("a", BackendUnavailable("away")),), ("a",), StopReason.METRIC_CALLS),
        # There was: a step is lost, which the run that is carried on will have.
        ((Done("a"), BackendUnavailable("away"), Done("c")), ("a", "c"), BackendUnavailable),
    ],
)
def test_what_ends_a_run_leaves_the_other_steps(
    outcomes: tuple[Any, ...], kept: tuple[str, ...], ends: Any
) -> None:
    told: list[Any] = []
    search: Any = ScriptedSearch(*outcomes)
    state: Any = Names()
    if isinstance(ends, StopReason):
        state, reason = optimize(search, state, told.append)
        assert (state, reason) == (kept, ends)
    else:
        with pytest.raises(ends):
            optimize(search, state, told.append)
    assert told[-1] == kept


# --- what a step knows ----------------------------------------------------------------------------


def _board(metric: Callable[..., Any] = toy_metric) -> tuple[Scoreboard, dspy.LM]:
    student = dspy.Predict(QA)
    student.lm = scripted_lm(toy_solver)
    runner = Runner(Metric(metric), 4, NO_WAITING)
    return Scoreboard(MetricCalls(student, TRAIN, runner, 100)), student.lm


def _state(text: str) -> ProgramState:
    return ProgramState((("self", text),))


def test_a_step_knows_what_was_known_when_it_began_and_what_it_asks_for() -> None:
    board, lm = _board()
    alpha = _state("alpha")
    evaluate(board, [(alpha, 0), (alpha, 1)])
    first, second = board.begin(10, None), board.begin(20, None)
    assert (first.remaining, second.remaining) == (10, 20)

    evaluate(first, [(alpha, 2), (alpha, 3)])
    assert list(first.results(alpha)) == [0, 1, 2, 3]
    assert list(second.results(alpha)) == list(board.results(alpha)) == [0, 1]
    assert (first.remaining, second.remaining, board.metric_calls) == (8, 20, 2)

    evaluate(second, [(alpha, 3), (alpha, 4)])  # of which one was paid for by the first
    assert list(second.results(alpha)) == [0, 1, 3, 4]
    assert second.remaining == 18, "as if it had paid: nobody knows who is quicker"
    assert len(lm.engine.prompts) == board.calls.count == 5

    board.take_in(first)
    assert (list(board.results(alpha)), board.metric_calls) == ([0, 1, 2, 3], 4)
    board.take_in(second)
    assert (list(board.results(alpha)), board.metric_calls) == ([0, 1, 2, 3, 4], 5)
    assert list(first.results(alpha)) == [0, 1, 2, 3], "a step is not told of others"


def test_names_of_scores_are_known_with_the_results_that_have_them() -> None:
    board, _ = _board(lambda example, prediction, trace=None: {"b": 1.0, "a": 0.5})
    first, second = board.begin(10, None), board.begin(10, None)
    evaluate(first, [(_state("alpha"), 0)])
    assert (first.names, second.names, board.names) == (("a", "b"), (), ())
    board.take_in(first)
    assert board.names == board.begin(10, None).names == ("a", "b")


def test_what_two_steps_want_at_the_same_time_is_evaluated_once() -> None:
    board, lm = _board()
    scheduler = board.calls.runner.scheduler
    steps = [board.begin(50, None) for _ in range(3)]
    wanted = [[(_state("alpha"), i) for i in range(n, n + 12)] for n in (0, 6, 3)]
    tasks = [
        scheduler.begin(step.evaluate(pairs)) for step, pairs in zip(steps, wanted, strict=True)
    ]
    for task in reversed(tasks):
        scheduler.finish(task)
    paid = Counter(prompted.fields["question"] for prompted in lm.engine.prompts)
    assert paid == {TRAIN[i].question: 1 for i in range(18)}
    for step, pairs in zip(steps, wanted, strict=True):
        assert step.missing(pairs) == []
        assert step.metric_calls == 12
        board.take_in(step)
    assert board.metric_calls == 18
