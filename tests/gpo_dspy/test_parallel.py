"""Mapping in threads: order, context, errors, interruption."""

from __future__ import annotations

import itertools
import random
import threading
import time
from contextvars import ContextVar

import dspy
import pytest
from fakes import scripted_lm, toy_solver

from gpo_dspy.parallel import ordered_map

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_results_come_in_item_order(threads: int) -> None:
    rng = random.Random(0)
    naps = [rng.random() / 200 for _ in range(40)]

    def work(item: int) -> int:
        time.sleep(naps[item])
        return item * item

    assert list(ordered_map(work, range(40), num_threads=threads)) == [i * i for i in range(40)]


def test_no_items_no_threads() -> None:
    before = threading.active_count()
    assert list(ordered_map(lambda item: item, [], num_threads=8)) == []
    assert threading.active_count() == before


def test_never_more_at_a_time_than_asked_for() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    list(ordered_map(work, range(30), num_threads=5))
    assert 2 <= most <= 5


def test_the_callers_context_is_carried_along() -> None:
    COLOUR.set("blue")
    lm = scripted_lm(toy_solver)
    with dspy.context(lm=lm):
        seen = list(
            ordered_map(lambda _: (COLOUR.get(), dspy.settings.lm), range(6), num_threads=3)
        )
    assert seen == [("blue", lm)] * 6


def test_an_error_is_not_hidden_behind_a_slow_first_item() -> None:
    release = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            release.wait(10)
        if item == 1:
            raise KeyError("refused")
        return item

    began = time.monotonic()
    with pytest.raises(KeyError, match="refused"):
        list(ordered_map(work, range(100), num_threads=2))
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
        list(ordered_map(work, range(1_000), num_threads=4))
    assert len(begun) < 200


@pytest.mark.parametrize("threads", [1, 4])
def test_results_before_the_failing_one_are_delivered(threads: int) -> None:
    received: list[int] = []

    def work(item: int) -> int:
        if item == 5:
            time.sleep(0.05)  # the others are quicker
            raise KeyError("fifth")
        return item

    results = ordered_map(work, range(6), num_threads=threads)
    received.extend(itertools.islice(results, 5))
    with pytest.raises(KeyError, match="fifth"):
        next(results)
    assert received == [0, 1, 2, 3, 4]
