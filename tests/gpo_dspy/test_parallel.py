"""Mapping in threads: order, context, errors, interruption."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import dspy
import pytest
from fakes import Gauge, scripted_lm, toy_solver

from gpo_dspy.execution import parallel
from gpo_dspy.execution.executors import places
from gpo_dspy.execution.parallel import as_completed, ordered_map

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_results_come_in_item_order(threads: int) -> None:
    rng = random.Random(0)
    naps = [rng.random() / 200 for _ in range(40)]

    def work(item: int) -> int:
        time.sleep(naps[item])
        return item * item

    squares = [i * i for i in range(40)]
    assert ordered_map(work, range(40), num_threads=threads) == squares
    assert sorted(as_completed(work, range(40), num_threads=threads)) == list(enumerate(squares))


def test_no_items_no_threads() -> None:
    before = threading.active_count()
    assert ordered_map(lambda item: item, [], num_threads=8) == []
    assert threading.active_count() == before


def test_never_more_at_a_time_than_asked_for() -> None:
    gauge = Gauge()

    def work(item: int) -> None:
        with gauge:
            time.sleep(0.002)

    ordered_map(work, range(30), num_threads=5)
    assert 2 <= gauge.most <= 5


def test_the_callers_context_is_carried_along() -> None:
    COLOUR.set("blue")
    lm = scripted_lm(toy_solver)
    with dspy.context(lm=lm):
        seen = ordered_map(lambda _: (COLOUR.get(), dspy.settings.lm), range(6), num_threads=3)
    assert seen == [("blue", lm)] * 6


def test_what_finishes_first_comes_first() -> None:
    release = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            release.wait(10)
        return item

    finished = as_completed(work, range(4), num_threads=2)
    assert sorted(next(finished) for _ in range(3)) == [(1, 1), (2, 2), (3, 3)]
    release.set()
    assert list(finished) == [(0, 0)]


def test_an_error_is_not_hidden_behind_a_slow_first_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LINGER", 0.1)
    release = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            release.wait(10)
        if item == 1:
            raise KeyError("refused")
        return item

    began = time.monotonic()
    with pytest.raises(KeyError, match="refused"):
        ordered_map(work, range(100), num_threads=2)
    assert time.monotonic() - began < 5
    release.set()


def test_after_an_error_what_has_not_begun_is_dropped() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.001)
        if item == 3:
            raise KeyError("stop")
        return item

    with pytest.raises(KeyError, match="stop"):
        ordered_map(work, range(1_000), num_threads=4)
    assert len(begun) < 200


@pytest.mark.parametrize("threads", [1, 4])
def test_results_before_the_failing_one_are_delivered(threads: int) -> None:
    received: list[tuple[int, int]] = []

    def work(item: int) -> int:
        if item == 5:
            time.sleep(0.05)  # the others are quicker
            raise KeyError("fifth")
        return item

    with pytest.raises(KeyError, match="fifth"):
        received.extend(as_completed(work, range(6), num_threads=threads))
    assert sorted(received) == [(i, i) for i in range(5)]


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("failing", [0, 3, 19])
@pytest.mark.parametrize("error", [KeyError("oh"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_what_has_finished_when_an_error_comes_is_delivered(
    threads: int, failing: int, error: BaseException
) -> None:
    begun: list[int] = []
    finished: list[int] = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            begun.append(item)
        if item == failing:
            raise error
        with lock:
            finished.append(item)
        return item

    delivered: list[tuple[int, int]] = []
    with pytest.raises(type(error)):
        delivered.extend(as_completed(work, range(20), num_threads=threads))
    received = [result for _, result in delivered]
    assert delivered == [(result, result) for result in received]
    assert len(begun) == len(set(begun))
    assert failing not in received
    if isinstance(error, Exception):
        assert sorted(received) == sorted(finished) == sorted({*begun} - {failing})
    else:
        assert set(received) <= set(finished)
        assert len(finished) - len(received) <= threads, "all but those under way"


def test_an_error_waits_for_the_calls_under_way() -> None:
    under_way = threading.Barrier(8)

    def work(item: int) -> int:
        under_way.wait(10)
        if item == 0:
            raise KeyError("first")
        time.sleep(0.1)
        return item

    received: list[int] = []
    with pytest.raises(KeyError, match="first"):
        received.extend(position for position, _ in as_completed(work, range(8), num_threads=8))
    assert sorted(received) == list(range(1, 8)), "they are paid for"


def test_of_several_errors_the_first_is_raised() -> None:
    def work(item: int) -> int:
        time.sleep(item / 20)
        raise KeyError(item)

    with pytest.raises(KeyError) as raised:
        ordered_map(work, range(4), num_threads=4)
    assert raised.value.args == (0,)


def test_who_stops_listening_stops_the_work() -> None:
    begun: list[int] = []
    before = set(threading.enumerate())

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002)
        return item

    for number, _ in enumerate(as_completed(work, range(1_000), num_threads=4)):
        if number == 10:
            break
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert len(begun) < 200


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches a subprocess otherwise on Windows")
def test_an_interrupted_program_ends_at_once() -> None:
    """Six-second calls are under way in eight threads when Ctrl-C comes."""
    program = """
        import signal, sys, time
        import dspy
        from fakes import scripted_lm, toy_examples, toy_gpo

        signal.signal(signal.SIGINT, signal.default_int_handler)  # however this was started

        asked = 0

        def slow(prompted):
            global asked
            asked += 1
            if asked > 1:  # the very first call is made alone
                if asked == 9:
                    print("under way", flush=True)
                time.sleep(6)
            return {"answer": "wrong"}

        student = dspy.Predict("question -> answer")
        student.set_lm(scripted_lm(slow))
        compiled = toy_gpo(num_threads=8).compile(student, trainset=toy_examples(40))
        result = compiled.detailed_results
        print(result.stop_reason.name, result.metric_calls, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest, _ = process.communicate(timeout=30)
        took = time.monotonic() - began
    assert rest == "INTERRUPTED 1\n"
    assert process.returncode == 0
    assert took < 4, "as long as a call under way takes would be 6 seconds"


def test_workers_are_known_where_an_executor_tells() -> None:
    class Own(Executor):
        pass

    with ThreadPoolExecutor(3) as pool:
        assert [places(pool), places(Own()), places(None)] == [3, None, None]
