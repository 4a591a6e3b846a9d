"""Metric calls in other processes: the same results, counted and limited as ever."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.utils.callback import BaseCallback
from fakes import (
    NO_WAITING,
    Prompted,
    Reply,
    ScriptedEngine,
    run_jobs,
    scripted_lm,
    story,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_solver,
)

from gpo_dspy import GPOResult
from gpo_dspy.budget import BudgetSpent
from gpo_dspy.errors import BackendUnavailable
from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.evaluation.runner import Evaluation, Job, Outcome, Runner
from gpo_dspy.execution.executors import in_this_process
from gpo_dspy.execution.pickling import pack
from gpo_dspy.ledger import Ledger
from gpo_dspy.state import StopReason

QA = dspy.Predict("question -> answer")
ITEMS = toy_examples(24)


class Engine(ScriptedEngine):
    """A scripted engine that pickles: its lock is made anew."""

    def __getstate__(self) -> dict[str, Any]:
        return {"reply": self.reply}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def toy_lm(reply: Reply = toy_solver) -> dspy.LM:
    return dspy.LM("toy/solver", engine=Engine(reply), cache=False, num_retries=0)


def start_worker() -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads is not safe
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=start_worker) as pool:
        yield pool
        assert pool.submit(int, "7").result(30) == 7, "it was not shut down"


def _run(
    pool: Executor,
    program: dspy.Module = QA,
    metric: Callable[..., Any] = toy_metric,
    examples: list[dspy.Example] = ITEMS[:6],
    *,
    lm: dspy.LM | None = None,
    **options: Any,
) -> list[Evaluation]:
    runner = Runner(Metric(metric), 3, NO_WAITING, executor=pool, **options)
    with dspy.context(lm=lm or toy_lm()):
        found = dict(run_jobs(runner, [Job(program, example) for example in examples]))
    return [found[position] for position in range(len(found))]


# --- as in threads -------------------------------------------------------------------------------


def _compile(**arguments: Any) -> GPOResult:
    optimizer = toy_gpo(**({"num_threads": None} | arguments))
    with dspy.context(lm=toy_lm()):
        compiled = optimizer.compile(QA, trainset=ITEMS[:12], valset=ITEMS[12:])
    result: GPOResult = compiled.detailed_results
    return result


def test_a_run_in_processes_is_the_run_in_threads(pool: ProcessPoolExecutor) -> None:
    here = _compile(max_metric_calls=90, seed=1, num_threads=1)
    there = _compile(max_metric_calls=90, seed=1, executor=pool)
    assert story(there) == story(here)
    assert there.task_usage.lm_calls == there.metric_calls > 50


def test_limits_hold_in_processes(pool: ProcessPoolExecutor) -> None:
    result = _compile(max_tokens=10_000, max_metric_calls=400, executor=pool)
    used = result.task_usage + result.prompt_usage
    assert result.stop_reason is StopReason.TOKENS
    assert 7_000 < used.input_tokens + used.output_tokens <= 10_000 + 3 * 110


def test_no_more_is_submitted_than_may_be_under_way(pool: ProcessPoolExecutor) -> None:
    asked = 0

    def gate() -> None:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise BudgetSpent(StopReason.COST)

    ledger = Ledger()
    with pytest.raises(BudgetSpent):
        _run(pool, examples=ITEMS, gate=gate, ledger=ledger)
    assert asked == 6
    assert ledger.usage.lm_calls <= 5


# --- what goes there -----------------------------------------------------------------------------


class Tell(dspy.Module):
    """Answers with what it sees of its surroundings."""

    def forward(self, question: str) -> dspy.Prediction:
        settings = dspy.settings
        return dspy.Prediction(
            process=os.getpid(),
            adapter=type(settings.adapter).__name__,
            lm=settings.lm.model,
            trace=list(settings.trace),
            callbacks=[type(callback).__name__ for callback in settings.callbacks],
        )


class Deaf(BaseCallback):
    """A callback that holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Light(BaseCallback):
    """A callback that pickles."""


def test_dspys_settings_go_along(
    pool: ProcessPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    with dspy.context(adapter=dspy.JSONAdapter(), callbacks=[Deaf(), Light()]):
        found = [e.prediction for e in _run(pool, Tell(), lambda e, p: 1.0)]
    assert os.getpid() not in {told.process for told in found}
    for told in found:
        assert (told.adapter, told.lm, told.trace) == ("JSONAdapter", "toy/solver", [])
        assert told.callbacks == ["Light", "FailureLocator"]
    assert [r.getMessage() for r in caplog.records if "Deaf" in r.getMessage()]


def test_lambdas_and_classes_of_a_function_go_there(pool: ProcessPoolExecutor) -> None:
    bonus = 0.25

    class Local(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            return self.ask(question=question)

    found = _run(pool, Local(), lambda example, prediction: bonus)
    assert [e.score for e in found] == [0.25] * 6
    assert {call.predictor for e in found for call in e.trace} == {"ask"}


def test_the_history_of_an_lm_stays_here() -> None:
    lm = toy_lm()
    bare = len(pack(lm, "lm"))
    with dspy.context(lm=lm):
        for item in ITEMS[:5]:
            QA(**item.inputs())
    assert len(pack({"lm": lm}, "lm")) < bare + 200
    assert len(lm.history) == 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"metric": "lock"}, r"metric\.lock \(lock\)"),
        ({"program": "lock"}, r"program\.parts\['tool'\] \(lock\)"),
        ({"lm": "scripted"}, r"dspy\.settings\['lm'\]\._engine_spec\.lock \(lock\)"),
        ({"example": "lock"}, r"example\._store\['question'\]\[0\] \(lock\)"),
    ],
)
def test_what_does_not_pickle_is_named_before_any_call(
    pool: ProcessPoolExecutor, change: dict[str, str], named: str
) -> None:
    lock, program, lm, items = threading.Lock(), Tell(), toy_lm(), ITEMS[:2]

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        return lock.locked()

    if "program" in change:
        program.parts = {"tool": lock}
    if "lm" in change:
        lm = scripted_lm(toy_solver)
    if "example" in change:
        items = [dspy.Example(question=[lock], answer="a").with_inputs("question")]
    used: Any = metric if "metric" in change else toy_metric
    ledger = Ledger()
    with pytest.raises(ValueError, match=rf"executor: {named} does not pickle .*ThreadPool"):
        _run(pool, program, used, items, lm=lm, ledger=ledger)
    assert ledger.usage.lm_calls == 0


class Open(dspy.Module):
    """Returns what cannot go to another process."""

    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=threading.Lock())


def test_a_prediction_that_does_not_pickle_is_named(pool: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match=r"evaluation\.prediction.*'answer'.*does not pickle"):
        _run(pool, Open(), lambda e, p: 1.0)


# --- what comes back -----------------------------------------------------------------------------


asked_here = 0
"""How often this process asked an LM that is soon away."""


def soon_away(prompted: Prompted) -> Any:
    global asked_here
    asked_here += 1
    if asked_here > 1:
        raise lm15.ServerError("gone", status=503)
    return {"answer": "yes"}


def test_a_backend_that_is_away_there_is_away_here(pool: ProcessPoolExecutor) -> None:
    lm, ledger = toy_lm(soon_away), Ledger()
    with pytest.raises(BackendUnavailable, match=r"toy/solver did not answer in 3 tries"):
        _run(pool, lm=lm, ledger=ledger, examples=ITEMS)
    assert 1 <= ledger.usage.lm_calls <= 2, "each process had one answer at most"
    assert ledger.usage.input_tokens == 100 * ledger.usage.lm_calls
    assert ledger.unpriced_models == {"toy/solver"}


def test_results_are_kept_as_they_come(pool: ProcessPoolExecutor) -> None:
    kept: dict[int, Evaluation] = {}
    runner = Runner(Metric(toy_metric), 3, executor=pool)
    with dspy.context(lm=toy_lm()):
        found = dict(run_jobs(runner, [Job(QA, item) for item in ITEMS[:5]], keep=kept.__setitem__))
    assert kept == found
    assert all(evaluation.usage.lm_calls == 1 for evaluation in kept.values())


def dies(example: Any, prediction: Any) -> float:
    os._exit(1)


def test_a_process_that_dies_is_told() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, pytest.raises(BrokenProcessPool):
        _run(pool, Tell(), dies)


# --- time ----------------------------------------------------------------------------------------


class TwoCalls(dspy.Module):
    """Takes a nap between two LM calls over the second of the items."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        self.ask(question=question)
        if question == ITEMS[1].question:
            time.sleep(0.8)
        return self.ask(question=question)


def test_an_example_that_hangs_leaves_its_process_free(pool: ProcessPoolExecutor) -> None:
    ledger = Ledger()
    options: dict[str, Any] = {"example_timeout": 0.4, "ledger": ledger}
    runner = Runner(Metric(toy_metric), 2, executor=pool, **options)
    with dspy.context(lm=toy_lm()):
        jobs = [Job(TwoCalls(), item) for item in ITEMS[:8]]
        found = dict(run_jobs(runner, jobs))
        assert [found[i].outcome is Outcome.TIMED_OUT for i in range(8)] == [
            i == 1 for i in range(8)
        ]
        time.sleep(1.0)
        for _ in range(3):
            run_jobs(runner, jobs[2:4])
    assert ledger.usage.lm_calls == 2 * 8 + 2 * 6, "late calls come with a later reply"


@pytest.mark.skipif(sys.platform != "linux", reason="the script forks")
def test_ctrl_c_does_not_wait_for_other_processes(tmp_path: Path) -> None:
    program = """
        import multiprocessing, os, signal, time
        from concurrent.futures import ProcessPoolExecutor
        import dspy
        from fakes import toy_examples, toy_gpo
        from test_courier import toy_lm

        def metric(example, prediction, trace=None):
            if os.path.exists(os.environ["FIRST"]):
                print("under way", flush=True)
                time.sleep(5)
            open(os.environ["FIRST"], "w").close()
            return 0.0

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # however this was started
            pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
            optimizer = toy_gpo(metric, executor=pool, num_threads=None)
            with dspy.context(lm=toy_lm()):
                student = dspy.Predict("question -> answer")
                result = optimizer.compile(student, trainset=toy_examples(20))
            result = result.detailed_results
            print(result.stop_reason.name, result.metric_calls, flush=True)
            for child in multiprocessing.active_children():
                child.kill()
    """
    here = Path(__file__).parent
    first = tmp_path / "first"
    script = tmp_path / "interrupted.py"
    script.write_text(textwrap.dedent(program), "utf-8")
    paths = os.pathsep.join([str(here), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "FIRST": str(first)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        ended = next(line for line in process.stdout if line != "under way\n")
        took = time.monotonic() - began
    assert ended == "INTERRUPTED 1\n"
    assert took < 2, "a second, and one for a busy machine"


# --- executors of other libraries ----------------------------------------------------------------


class AtOnce(Executor):
    """Makes each call where it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Wrapped(Executor):
    """A pool of processes by another name."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.pool.submit(fn, *args, **kwargs)


def test_an_unknown_executor_is_asked_where_it_calls(pool: ProcessPoolExecutor) -> None:
    assert in_this_process(AtOnce())
    assert not in_this_process(Wrapped(pool))
    expected = [e.score for e in _run(pool)]
    assert [e.score for e in _run(Wrapped(pool))] == expected
    assert [e.score for e in _run(AtOnce())] == expected


def test_a_whole_run_in_an_executor_that_calls_at_once() -> None:
    student = dspy.Predict("question -> answer")
    student.set_lm(scripted_lm(toy_solver))
    results = [
        toy_gpo(max_metric_calls=90, executor=executor, num_threads=3)
        .compile(student, trainset=toy_examples(30))
        .detailed_results
        for executor in (None, AtOnce())
    ]
    assert story(results[0]) == story(results[1])
