"""Coroutines side by side: their calls in threads or an executor, errors, interrupts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial

import dspy
import pytest
from fakes import Gauge, scripted_lm, toy_solver

from gpo_dspy.execution import scheduler
from gpo_dspy.execution.executors import submit_here
from gpo_dspy.execution.scheduler import Scheduler
from gpo_dspy.execution.threads import DaemonThreads

COLOUR: ContextVar[str] = ContextVar("colour", default="none")

Submit = Callable[[int], Future[int]]


async def _made(
    side_by_side: Scheduler, submit: Submit, count: int, note: Callable[[int, int], None]
) -> None:
    await side_by_side.made(submit, count, note)


def _threads(side_by_side: Scheduler, function: Callable[[int], int]) -> Submit:
    return partial(submit_here, side_by_side.threads, function)


def _results(
    submit: Submit,
    count: int,
    *,
    most: int,
    gate: Callable[[], None] = lambda: None,
    received: dict[int, int] | None = None,
) -> dict[int, int]:
    """Make calls and return what came of each."""
    found = {} if received is None else received
    side_by_side = Scheduler(most, gate)
    side_by_side.run(_made(side_by_side, submit, count, found.__setitem__))
    return found


# --- calls of own threads -------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 50])
def test_every_call_is_made_once_and_never_more_than_allowed_at_a_time(most: int) -> None:
    rng, within = random.Random(0), Gauge()
    naps = [rng.random() / 200 for _ in range(60)]

    def work(item: int) -> int:
        with within:
            time.sleep(naps[item])
        return item * item

    side_by_side = Scheduler(most)
    found: list[tuple[int, int]] = []
    tasks = [
        side_by_side.begin(
            _made(
                side_by_side,
                lambda i, first=first: submit_here(side_by_side.threads, work, first + i),  # type: ignore[misc]
                20,
                lambda *result: found.append(result),
            )
        )
        for first in (0, 20, 40)
    ]
    for task in tasks:
        side_by_side.finish(task)
    assert sorted(result for _, result in found) == [i * i for i in range(60)]
    assert within.most <= most
    assert most == 1 or within.most > 1


def test_with_one_thread_calls_are_made_in_the_calling_thread() -> None:
    side_by_side = Scheduler(1)
    found: dict[int, int] = {}
    submit = _threads(side_by_side, lambda _: threading.get_ident())
    side_by_side.run(_made(side_by_side, submit, 3, found.__setitem__))
    aside = side_by_side.run(side_by_side.aside(threading.get_ident))
    assert {*found.values(), aside} == {threading.get_ident()}


def test_one_waits_while_another_goes_on() -> None:
    """The first waits for a call that ends only when the second is through with three blocks."""
    side_by_side, through = Scheduler(2), threading.Event()
    order: list[str] = []

    async def slow() -> None:
        await side_by_side.made(_threads(side_by_side, lambda _: int(through.wait(10))), 1, _forget)
        order.append("slow")

    async def quick() -> None:
        for _ in range(3):
            await side_by_side.made(_threads(side_by_side, int), 4, _forget)
        through.set()
        order.append("quick")

    first, second = side_by_side.begin(slow()), side_by_side.begin(quick())
    side_by_side.finish(first)
    side_by_side.finish(second)
    assert order == ["quick", "slow"]


def test_the_oldest_is_served_first() -> None:
    side_by_side, order = Scheduler(1), []

    def submit(first: int) -> Submit:
        def one(position: int) -> Future[int]:
            order.append(first + position)
            return submit_here(side_by_side.threads, int, 0)

        return one

    tasks = [
        side_by_side.begin(_made(side_by_side, submit(first), 3, _forget)) for first in (0, 10, 20)
    ]
    side_by_side.finish(tasks[2])
    assert order == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert all(task.ended for task in tasks)


def test_what_runs_aside_takes_no_place() -> None:
    side_by_side, release = Scheduler(2), threading.Event()
    both = threading.Barrier(3)

    def work(_: int) -> int:
        both.wait(10)
        release.set()
        return 0

    def beside() -> str:
        both.wait(10)
        return "beside"

    first = side_by_side.begin(side_by_side.aside(beside))
    second = side_by_side.begin(_made(side_by_side, _threads(side_by_side, work), 2, _forget))
    assert side_by_side.finish(first) == "beside"
    side_by_side.finish(second)


def test_progress_is_any_call_of_another() -> None:
    side_by_side = Scheduler(2)
    seen: list[int] = []

    async def watch() -> None:
        while len(seen) < 5:
            await side_by_side.progress()

    submit = _threads(side_by_side, lambda i: i)
    watching = side_by_side.begin(watch())
    side_by_side.begin(_made(side_by_side, submit, 5, lambda i, _: seen.append(i)))
    side_by_side.finish(watching)
    assert sorted(seen) == list(range(5))


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("error", [KeyError("refused"), KeyboardInterrupt()], ids=["error", "^C"])
def test_an_error_is_raised_in_all_and_each_saves_what_it_has(
    most: int, error: BaseException
) -> None:
    side_by_side = Scheduler(most)
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 4:
            raise error
        return item

    async def saving(first: int, count: int) -> list[int]:
        found: list[int] = []
        try:
            submit = partial(submit_here, side_by_side.threads, lambda i: work(first + i))
            await side_by_side.made(submit, count, lambda _, result: found.append(result))
        except (KeyError, KeyboardInterrupt):
            found.append(-1)
        return found

    async def losing(first: int, count: int) -> None:
        submit = partial(submit_here, side_by_side.threads, lambda i: work(first + i))
        await side_by_side.made(submit, count, _forget)

    kept, lost = side_by_side.begin(saving(0, 20)), side_by_side.begin(losing(20, 1_000))
    found = side_by_side.finish(kept)
    assert found[-1] == -1
    assert 4 not in found
    with pytest.raises(type(error)):
        side_by_side.finish(lost)
    assert len(begun) < 200, "what had not begun was dropped"
    # Nothing of it is left when all have ended.
    again: dict[int, int] = {}
    side_by_side.run(_made(side_by_side, _threads(side_by_side, lambda i: i), 3, again.__setitem__))
    assert again == {0: 0, 1: 1, 2: 2}


def test_who_asks_for_more_after_an_error_is_refused() -> None:
    side_by_side = Scheduler(2)
    made: list[int] = []

    def fail(_: int) -> int:
        raise KeyError("down")

    async def stubborn() -> str:
        for _ in range(3):
            try:
                await side_by_side.made(_threads(side_by_side, fail), 1, _forget)
            except KeyError:
                await side_by_side.made(_threads(side_by_side, made.append), 1, _forget)  # type: ignore[arg-type]
        return "never"

    with pytest.raises(KeyError, match="down"):
        side_by_side.run(stubborn())
    assert made == []


def test_an_error_of_a_coroutine_stops_the_others() -> None:
    side_by_side = Scheduler(2)
    release = threading.Event()

    async def wrong() -> None:
        raise ValueError("a bug")

    submit = _threads(side_by_side, lambda _: int(release.wait(0.2)))
    other = side_by_side.begin(_made(side_by_side, submit, 50, _forget))
    with pytest.raises(ValueError, match="a bug"):
        side_by_side.run(wrong())
    with pytest.raises(ValueError, match="a bug"):
        side_by_side.finish(other)


def test_results_are_told_in_the_thread_that_schedules() -> None:
    side_by_side, told = Scheduler(4), set()
    submit = _threads(side_by_side, lambda i: i)
    side_by_side.run(_made(side_by_side, submit, 20, lambda *_: told.add(threading.get_ident())))
    assert told == {threading.get_ident()}


def test_ctrl_c_does_not_wait_for_what_an_error_waits_for() -> None:
    side_by_side, release = Scheduler(2), threading.Event()

    def work(item: int) -> int:
        if item == 1:
            raise KeyError("down")
        release.wait(10)
        return item

    task = side_by_side.begin(_made(side_by_side, _threads(side_by_side, work), 2, _forget))
    threading.Timer(0.1, side_by_side.stop, [KeyboardInterrupt()]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        side_by_side.finish(task)
    assert time.monotonic() - began < 5
    release.set()


def test_a_late_error_of_what_was_given_up_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LINGER", 0.05)
    side_by_side, release = Scheduler(3), threading.Event()

    def work(item: int) -> int:
        if item == 0:
            raise KeyError("spent")
        release.wait(10)
        raise ValueError("late")

    with pytest.raises(KeyError, match="spent"):
        side_by_side.run(_made(side_by_side, _threads(side_by_side, work), 2, _forget))

    def claim(_: int) -> int:
        release.set()
        time.sleep(0.1)
        return 1

    found: dict[int, int] = {}
    side_by_side.run(_made(side_by_side, _threads(side_by_side, claim), 4, found.__setitem__))
    assert found == dict.fromkeys(range(4), 1)


def test_what_runs_aside_is_stopped_at_its_next_gate() -> None:
    side_by_side, passed = Scheduler(2), []
    release = threading.Event()

    def asking() -> int:
        while True:
            side_by_side.gate()
            passed.append(1)
            release.wait(10)

    task = side_by_side.begin(side_by_side.aside(asking))
    threading.Timer(0.1, side_by_side.stop, [KeyboardInterrupt()]).start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side.finish(task)
    side_by_side.close()
    release.set()
    with pytest.raises((CancelledError, KeyboardInterrupt)):
        side_by_side.gate()
    assert len(passed) == 1


def test_stopping_what_has_ended_does_nothing() -> None:
    side_by_side = Scheduler(2)
    side_by_side.run(side_by_side.aside(int))
    side_by_side.stop(KeyError("late"))
    assert side_by_side.run(side_by_side.aside(int)) == 0


def test_threads_serve_whatever_comes_when(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls come in bursts of all sizes, while threads are begun, idle, and end."""
    monkeypatch.setattr("gpo_dspy.execution.threads.IDLE", 0.005)
    threads, rng = DaemonThreads(3), random.Random(0)
    for _ in range(60):
        calls = [threads.submit(time.sleep, rng.random() / 500) for _ in range(rng.randrange(1, 9))]
        for call in calls:
            assert call.result(10) is None
        time.sleep(rng.choice([0, 0, 0.01]))


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpo_dspy.execution.threads.IDLE", 0.02)
    before = set(threading.enumerate())
    threads = DaemonThreads(8)
    for _ in range(3):  # also after they have ended
        naps = [threads.submit(time.sleep, 0.01) for _ in range(40)]
        assert [nap.result(10) for nap in naps] == [None] * 40
        begun = set(threading.enumerate()) - before
        assert len(begun) <= 8
        for thread in begun:
            thread.join(10)
            assert not thread.is_alive()


def _forget(*_: object) -> None:
    pass


# --- calls of an executor of the user's ---------------------------------------------------------


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool
        assert pool.submit(int, "7").result(10) == 7, "it was not shut down"


def _in(pool: Executor, function: Callable[[int], int]) -> Submit:
    return partial(submit_here, pool, function)


def test_an_executor_gives_the_same_results(pool: ThreadPoolExecutor) -> None:
    def work(item: int) -> int:
        time.sleep((item * 7 % 5) / 500)
        return item * item

    assert _results(_in(pool, work), 40, most=3) == {i: i * i for i in range(40)}
    assert not _results(_in(pool, work), 0, most=3)


@pytest.mark.parametrize("most", [1, 3])
def test_never_more_is_submitted_than_may_be_under_way(pool: ThreadPoolExecutor, most: int) -> None:
    ended: list[int] = []
    ahead: list[int] = []

    def work(item: int) -> int:
        time.sleep(0.002)
        ended.append(item)
        return item

    def submit(item: int) -> Future[int]:
        ahead.append(item - len(ended))
        return submit_here(pool, work, item)

    assert len(_results(submit, 20, most=most)) == 20
    assert max(ahead) < most


def test_the_callers_context_is_carried_into_an_executor(pool: ThreadPoolExecutor) -> None:
    COLOUR.set("green")
    lm = scripted_lm(toy_solver)
    with dspy.context(lm=lm):
        submit = partial(submit_here, pool, lambda _: (COLOUR.get(), dspy.settings.lm))
        assert _results(submit, 6, most=3) == dict.fromkeys(range(6), ("green", lm))  # type: ignore[arg-type]


def test_after_an_error_an_executor_gets_nothing_more(pool: ThreadPoolExecutor) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise KeyError("stop")
        time.sleep(0.05)
        return item

    received: dict[int, int] = {}
    with pytest.raises(KeyError, match="stop"):
        _results(_in(pool, work), 100, most=6, received=received)
    pool.submit(int).result(10)
    assert sorted(received) == sorted({*begun} - {3}), "those under way are paid for"
    assert len(begun) < 12


def test_an_error_lingers_for_an_executor_too(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "LINGER", 0.1)
    release = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            raise KeyError("refused")
        release.wait(10)
        return item

    began = time.monotonic()
    with pytest.raises(KeyError, match="refused"):
        _results(_in(pool, work), 9, most=3)
    assert time.monotonic() - began < 5
    release.set()


def test_the_gate_is_asked_before_each_submission(pool: ThreadPoolExecutor) -> None:
    asked: list[int] = []
    submitted_items: list[int] = []

    def gate() -> None:
        asked.append(1)
        if len(asked) > 7:
            raise TimeoutError("closed")

    def submit(item: int) -> Future[int]:
        submitted_items.append(item)
        return submit_here(pool, int, item)

    received: dict[int, int] = {}
    with pytest.raises(TimeoutError, match="closed"):
        _results(submit, 50, most=3, gate=gate, received=received)
    assert submitted_items == list(range(7))
    assert set(received) <= set(submitted_items), "what had not begun by then is cancelled"
    assert len(received) >= 4
    assert len(asked) == 8


def test_an_interrupt_does_not_wait_for_an_executor(pool: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def work(item: int) -> int:
        if item == 2:
            raise KeyboardInterrupt
        release.wait(10)
        return item

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _results(_in(pool, work), 9, most=3)
    assert time.monotonic() - began < 1
    release.set()


def test_an_executor_that_is_shut_down_says_so() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        _results(_in(pool, int), 3, most=2)


def test_calls_that_an_executor_drops_are_missed() -> None:
    pool = ThreadPoolExecutor(1)
    release = threading.Event()

    def work(item: int) -> int:
        release.wait(10)
        return item

    threading.Timer(
        0.05, lambda: (pool.shutdown(False, cancel_futures=True), release.set())
    ).start()
    with pytest.raises(CancelledError, match="dropped a call"):
        _results(_in(pool, work), 3, most=3)
