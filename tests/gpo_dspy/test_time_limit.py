"""What takes too long is left behind."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest

from gpo_dspy.execution.time_limit import Stopwatch, call_within

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


def _late() -> str:
    return "late"


def test_without_a_limit_the_call_stays_in_its_thread() -> None:
    assert call_within(None, lambda _: threading.current_thread(), threading.main_thread) is (
        threading.current_thread()
    )


def test_in_time_is_in_time() -> None:
    COLOUR.set("blue")

    def work(stopwatch: Stopwatch) -> str:
        with stopwatch.attempt():
            time.sleep(0.02)
        return COLOUR.get()

    assert call_within(5, work, _late) == "blue", "the caller's context is carried along"


def test_what_hangs_is_left_behind() -> None:
    release, ended = threading.Event(), threading.Event()

    def work(stopwatch: Stopwatch) -> str:
        with stopwatch.attempt():
            release.wait(10)
        ended.set()
        return "in time"

    began = time.monotonic()
    assert call_within(0.1, work, _late) == "late"
    assert 0.1 <= time.monotonic() - began < 2
    assert not ended.is_set()
    release.set()
    assert ended.wait(10)


def test_late_is_late_even_if_nobody_looked_in_between() -> None:
    def work(stopwatch: Stopwatch) -> str:
        with stopwatch.attempt():
            time.sleep(0.05)
        return "done"

    assert [call_within(limit, work, _late) for limit in (0.04, 0.049, 5)] == [
        "late",
        "late",
        "done",
    ]


@pytest.mark.parametrize("error", [KeyError("oh"), KeyboardInterrupt()])
def test_errors_come_through(error: BaseException) -> None:
    def work(stopwatch: Stopwatch) -> str:
        raise error

    with pytest.raises(type(error)) as raised:
        call_within(5, work, _late)
    assert raised.value is error


def test_only_attempts_that_succeed_take_time() -> None:
    stopwatch = Stopwatch()
    for fails in (True, False, True, False):
        try:
            with stopwatch.attempt():
                time.sleep(0.03)
                if fails:
                    raise OSError
        except OSError:
            time.sleep(0.1)
    assert 0.06 <= stopwatch.seconds < 0.12


def test_waiting_between_attempts_is_not_late() -> None:
    def work(stopwatch: Stopwatch) -> str:
        time.sleep(0.3)
        with stopwatch.attempt():
            return "done"

    assert call_within(0.1, work, _late) == "done"
