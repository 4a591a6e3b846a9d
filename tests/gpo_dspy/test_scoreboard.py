"""Metric calls are remembered, counted, and never made twice or beyond the limit."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import dspy
import pytest
from dspy import lm15
from fakes import (
    NO_WAITING,
    Prompted,
    evaluate,
    scripted_lm,
    toy_examples,
    toy_metric,
    toy_solver,
)
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.budget import BudgetSpent
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.evaluation.metric_calls import BudgetExceeded, MetricCalls
from gpo_dspy.evaluation.runner import Outcome, Runner
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.ledger import Ledger
from gpo_dspy.program import state_of
from gpo_dspy.program_state import ProgramState
from gpo_dspy.state import StopReason

EXAMPLES = toy_examples(12)


def _state(text: str) -> ProgramState:
    return ProgramState((("self", text),))


def _board(
    limit: int = 1_000,
    *,
    reply: Callable[[Prompted], Any] = toy_solver,
    threads: int = 1,
    gate: Callable[[], None] = lambda: None,
    **options: Any,
) -> tuple[Scoreboard, dspy.LM]:
    lm = scripted_lm(reply)
    student = dspy.Predict("question -> answer")
    student.lm = lm
    runner = Runner(Metric(toy_metric), threads, NO_WAITING, gate)
    return Scoreboard(MetricCalls(student, EXAMPLES, runner, limit, **options)), lm


def _paid(lm: dspy.LM) -> Counter[tuple[str, str]]:
    """Count the LM calls by instruction and question."""
    return Counter((p.instruction, p.fields["question"]) for p in lm.engine.prompts)


_pairs = st.lists(
    st.tuples(
        st.sampled_from([_state(t) for t in ("alpha", "beta gamma", "none")]), st.integers(0, 11)
    ),
    max_size=25,
)


@given(
    requests=st.lists(_pairs, max_size=5), limit=st.integers(0, 40), threads=st.sampled_from([1, 4])
)
def test_no_pair_is_paid_twice_and_the_limit_holds(
    requests: Sequence[Sequence[tuple[ProgramState, int]]], limit: int, threads: int
) -> None:
    board, lm = _board(limit, threads=threads)
    for pairs in requests:
        before = board.metric_calls
        wanted = len(board.missing(pairs))
        if wanted > board.remaining:
            with pytest.raises(BudgetExceeded):
                evaluate(board, pairs)
            assert board.metric_calls == before
        else:
            evaluate(board, pairs)
            assert board.metric_calls == before + wanted
            assert board.missing(pairs) == []
    paid = _paid(lm)
    assert sum(paid.values()) == board.metric_calls <= limit
    assert board.remaining == limit - board.metric_calls
    assert set(paid.values()) <= {1}
    assert sum(board.calls.outcomes.values()) == board.metric_calls


def test_scores_follow_the_instructions() -> None:
    board, _ = _board()
    evaluate(board, ((_state("alpha delta"), index) for index in range(8)))
    assert board.scores(_state("alpha delta"), range(8)) == [1, 0, 0, 1, 1, 0, 0, 1]
    assert board.scores(_state("alpha delta"), [3, 1]) == [1, 0]
    assert list(board.results(_state("alpha delta"))) == list(range(8))
    assert not board.results(_state("never tried"))


def test_results_cannot_be_changed_from_outside() -> None:
    board, _ = _board()
    evaluate(board, [(_state("alpha"), 0)])
    with pytest.raises(TypeError):
        board.results(_state("alpha"))[0] = None  # type: ignore[index]


@pytest.mark.parametrize("threads", [1, 16])
def test_timing_changes_nothing(threads: int) -> None:
    rng = random.Random(0)

    def slow(prompted: Prompted) -> Any:
        time.sleep(rng.random() / 200)
        return toy_solver(prompted)

    board, _ = _board(reply=slow, threads=threads)
    evaluate(board, ((_state(t), index) for index in range(12) for t in ("alpha", "beta", "none")))
    assert sorted(board.results(_state("alpha"))) == list(range(12))
    assert board.scores(_state("alpha"), range(12)) == [1, 0, 0, 0] * 3
    assert board.scores(_state("beta"), range(12)) == [0, 1, 0, 0] * 3


def test_every_metric_call_is_told_with_its_number() -> None:
    numbers: list[int] = []
    board, _ = _board(on_result=lambda: numbers.append(board.calls.count))
    evaluate(board, ((_state("alpha"), index) for index in range(5)))
    assert numbers == [1, 2, 3, 4, 5]


def test_what_was_finished_before_an_outage_is_kept_and_not_paid_again() -> None:
    down = True

    def reply(prompted: Prompted) -> Any:
        if down and prompted.fields["question"].startswith("item 6 "):
            raise lm15.ServerError("down", status=503)
        return toy_solver(prompted)

    board, lm = _board(reply=reply)
    pairs = [(_state("alpha"), index) for index in range(12)]
    with pytest.raises(BackendUnavailable):
        evaluate(board, pairs)
    assert (board.metric_calls, len(board.results(_state("alpha")))) == (6, 6)
    assert set(board.calls.outcomes) == {Outcome.SCORED}

    down = False
    evaluate(board, pairs)
    assert board.metric_calls == 12
    del lm.engine.prompts[6 : 6 + NO_WAITING.attempts]  # those that were not answered
    assert set(_paid(lm).values()) == {1}


@pytest.mark.parametrize("failing", range(0, 12, 3))
@pytest.mark.parametrize(
    "error", [lm15.AuthError("bad key", status=401), KeyboardInterrupt()], ids=["401", "interrupt"]
)
def test_with_eight_threads_nothing_is_lost_or_paid_twice(
    failing: int, error: BaseException
) -> None:
    broken = True
    answered: Counter[str] = Counter()
    lock = threading.Lock()
    rng = random.Random(failing)

    def reply(prompted: Prompted) -> Any:
        time.sleep(rng.random() / 50)
        question = prompted.fields["question"]
        if broken and question.startswith(f"item {failing} "):
            raise error
        with lock:
            answered[question] += 1
        return toy_solver(prompted)

    told: list[int] = []
    board, _ = _board(reply=reply, threads=8, on_result=lambda: told.append(board.calls.count))
    pairs = [(_state("alpha"), index) for index in range(12)]
    before = set(threading.enumerate())
    with pytest.raises((BackendUnavailable, KeyboardInterrupt)):
        evaluate(board, pairs)
    known = set(board.results(_state("alpha")))
    assert told == list(range(1, len(known) + 1))
    assert board.metric_calls == sum(board.calls.outcomes.values()) == len(known)
    assert failing not in known
    if isinstance(error, Exception):
        assert {EXAMPLES[index].question for index in known} == set(answered)
    for thread in set(threading.enumerate()) - before:  # an interrupt does not wait for them
        thread.join(10)
    abandoned = set(answered) - {EXAMPLES[index].question for index in known}
    assert len(abandoned) <= (0 if isinstance(error, Exception) else 8), "at most those under way"

    broken = False
    evaluate(board, pairs)
    assert board.metric_calls == 12
    assert set(board.calls.outcomes) == {Outcome.SCORED}
    assert {question for question, paid in answered.items() if paid > 1} == abandoned
    assert board.scores(_state("alpha"), range(12)) == [1, 0, 0, 0] * 3


@pytest.mark.parametrize("threads", [1, 8])
def test_what_is_under_way_when_a_limit_is_reached_is_paid_and_kept(threads: int) -> None:
    passed, lock = 0, threading.Lock()

    def gate() -> None:
        nonlocal passed
        with lock:
            if passed == 9:
                raise BudgetSpent(StopReason.COST)
            passed += 1

    def slow(prompted: Prompted) -> Any:
        time.sleep(0.02)
        return toy_solver(prompted)

    board, lm = _board(reply=slow, threads=threads, gate=gate)
    with pytest.raises(BudgetSpent):
        evaluate(board, ((_state(text), i) for text in ("alpha", "beta") for i in range(12)))
    assert 9 - threads < board.metric_calls == len(lm.engine.prompts) <= 9, "one may not have begun"


def test_an_interrupt_between_two_results_keeps_what_was_told() -> None:
    def interrupt() -> None:
        if board.calls.count == 7:
            raise KeyboardInterrupt

    board, lm = _board(threads=8, on_result=interrupt)
    pairs = [(_state(text), index) for text in ("alpha", "beta") for index in range(12)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(board, pairs)
    assert board.metric_calls == sum(board.calls.outcomes.values()) >= 7, "and what came with it"
    known = {(s, i) for s in (_state("alpha"), _state("beta")) for i in board.results(s)}
    assert len(known) == board.metric_calls < 24
    evaluate(board, pairs)
    assert board.metric_calls == 24
    paid = _paid(lm)
    assert {
        paid[state.instruction("self"), EXAMPLES[index].question] for state, index in known
    } == {1}


def test_more_programs_than_are_kept_at_hand() -> None:
    board, lm = _board()
    states = [_state(f"alpha {number}") for number in range(40)]
    for index in (0, 1):
        evaluate(board, ((state, index) for state in states))
    assert board.metric_calls == 80
    assert set(_paid(lm).values()) == {1}


def test_programs_do_not_hoard_the_history_of_their_calls() -> None:
    programs: list[dspy.Module] = []

    class Student(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.ChainOfThought("question -> answer")

        def forward(self, question: str) -> Any:
            programs.append(self)
            return self.ask(question=question)

    student, lm, ledger = Student(), scripted_lm(toy_solver), Ledger()
    student.set_lm(lm)
    runner = Runner(Metric(toy_metric), 1, NO_WAITING, ledger=ledger)
    board = Scoreboard(MetricCalls(student, EXAMPLES, runner, 100))
    start = state_of(student)
    evaluate(board, ((start, index) for index in range(12)))
    assert len(programs) == 12
    for program in programs:
        assert not any(module.history for _, module in program.named_sub_modules(dspy.Module))
    assert len(lm.history) == ledger.usage.lm_calls == 12
    student(question=EXAMPLES[0].question)
    assert len(student.history) == 1, "the student keeps its own"
