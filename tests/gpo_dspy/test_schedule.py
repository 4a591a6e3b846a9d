"""The word budget keeps to its schedule."""

from __future__ import annotations

import doctest
import pickle
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy import schedule as module
from gpo_dspy.schedule import (
    Checked,
    Constant,
    Cosine,
    Joined,
    Linear,
    Schedule,
    WarmRestarts,
    WarmUp,
    WidenOnPlateau,
    as_schedule,
)


def shrinking(step: int, steps: int, scores: Sequence[float] = ()) -> int:
    return max(1, 40 // step)


EVERY: list[Schedule] = [
    Constant(7),
    Linear(50, 10),
    Linear(3, 30),
    Cosine(50, 10),
    Cosine(1, 1),
    Joined(Constant(5), Linear(9, 2), boundary=4),
    WarmUp(Cosine(50, 10), steps=3, start=5),
    WarmRestarts(50, 10, cycles=3),
    WidenOnPlateau(Cosine(50, 10)),
    WidenOnPlateau(WarmUp(Linear(20, 2))),
    Checked(shrinking),
]

every_schedule = pytest.mark.parametrize("schedule", EVERY, ids=str)


def values(schedule: Schedule, steps: int) -> list[int]:
    return [schedule(step, steps) for step in range(1, steps + 1)]


class TestContract:
    """What every schedule promises."""

    @every_schedule
    @given(step=st.integers(1, 300), steps=st.integers(1, 200), scores=st.lists(st.floats(0, 1)))
    def test_is_a_whole_number_of_at_least_one_word(
        self, schedule: Schedule, step: int, steps: int, scores: list[float]
    ) -> None:
        words = schedule(step, steps, scores)
        assert type(words) is int
        assert words >= 1

    @every_schedule
    @pytest.mark.parametrize("step", [0, -3])
    def test_refuses_steps_before_the_first(self, schedule: Schedule, step: int) -> None:
        with pytest.raises(ValueError, match=f"step is counted from 1, found {step}"):
            schedule(step, 10)

    @every_schedule
    def test_refuses_a_plan_without_steps(self, schedule: Schedule) -> None:
        with pytest.raises(ValueError, match="steps must be at least 1, found 0"):
            schedule(1, 0)

    @every_schedule
    def test_is_a_comparable_printable_value(self, schedule: Schedule) -> None:
        assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301
        assert str(schedule).startswith(type(schedule).__name__)
        assert hash(schedule) == hash(pickle.loads(pickle.dumps(schedule)))  # noqa: S301

    @every_schedule
    def test_last_value_holds_for_ever(self, schedule: Schedule) -> None:
        if not isinstance(schedule, Checked):
            assert schedule(13, 12) == schedule(10_000, 12) == schedule(12, 12)


@pytest.mark.parametrize("shape", [Linear, Cosine])
class TestDecay:
    """Linear and Cosine share their ends and their direction."""

    @given(start=st.integers(1, 500), end=st.integers(1, 500), steps=st.integers(2, 200))
    def test_goes_from_start_to_end_and_never_back(
        self, shape: Callable[..., Schedule], start: int, end: int, steps: int
    ) -> None:
        words = values(shape(start, end), steps)
        assert (words[0], words[-1]) == (start, end)
        assert words == sorted(words, reverse=start > end)

    def test_a_single_step_has_the_start_value(self, shape: Callable[..., Schedule]) -> None:
        assert shape(50, 10)(1, 1) == 50
        assert shape(50, 10)(2, 1) == 10


def test_golden_values() -> None:
    assert values(Constant(50), 3) == [50, 50, 50]
    assert values(Linear(50, 10), 5) == [50, 40, 30, 20, 10]
    assert values(Cosine(50, 10), 5) == [50, 44, 30, 16, 10]
    assert values(Joined(Constant(5), Linear(9, 3), boundary=2), 6) == [5, 5, 9, 7, 5, 3]
    assert values(WarmUp(Linear(50, 10), steps=3, start=10), 8) == [10, 30, 50, 50, 40, 30, 20, 10]
    assert values(WarmRestarts(50, 10, cycles=2), 6) == [50, 30, 10, 50, 30, 10]
    assert values(WarmRestarts(50, 10, cycles=2), 5) == [50, 10, 50, 30, 10]


def test_joined_gives_the_second_schedule_only_its_own_scores() -> None:
    seen: list[tuple[int, int, Sequence[float]]] = []

    def spy(step: int, steps: int, scores: Sequence[float]) -> int:
        seen.append((step, steps, tuple(scores)))
        return 1

    Joined(Constant(5), Checked(spy), boundary=2)(4, 10, (0.1, 0.2, 0.3))
    assert seen == [(2, 8, (0.3,))]


def test_a_plan_that_ends_inside_the_warm_up_works() -> None:
    assert values(WarmUp(Cosine(50, 10), steps=5, start=10), 2) == [10, 20]


def test_more_cycles_than_steps_restart_at_every_step() -> None:
    assert values(WarmRestarts(50, 10, cycles=9), 3) == [50, 50, 50]


class TestWidenOnPlateau:
    """The budget grows while nothing improves, and only then."""

    schedule = WidenOnPlateau(Constant(10), patience=2, factor=2.0, ceiling=30)

    @pytest.mark.parametrize(
        ("scores", "words"),
        [
            ((), 10),
            ((0.5,), 10),
            ((0.5, 0.5), 10),
            ((0.5, 0.5, 0.5), 20),
            ((0.5, 0.5, 0.5, 0.5, 0.5), 30),
            ((0.5, 0.5, 0.5, 0.6), 10),
            ((0.5, 0.4, 0.3), 20),
        ],
    )
    def test_widens_once_per_patience(self, scores: Sequence[float], words: int) -> None:
        assert self.schedule(len(scores) + 1, 20, scores) == words

    def test_a_gain_must_exceed_min_gain(self) -> None:
        strict = WidenOnPlateau(Constant(10), patience=1, factor=2.0, min_gain=0.05)
        assert strict(3, 20, (0.50, 0.54)) == 20
        assert strict(3, 20, (0.50, 0.56)) == 10

    def test_leaves_an_inner_value_above_the_ceiling(self) -> None:
        assert WidenOnPlateau(Constant(80), patience=1, ceiling=30)(4, 9, (0.1, 0.1, 0.1)) == 80

    def test_survives_a_very_long_plateau(self) -> None:
        assert self.schedule(1, 9, (0.5,) * 100_000) == 30


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(0), "words must be a whole number of at least 1, found 0"),
        (lambda: Constant(True), "words must be .*, found True"),
        (lambda: Linear(start=-5), "start must be .*, found -5"),
        (lambda: Linear(end=cast(int, 2.5)), "end must be .*, found 2.5"),
        (lambda: Cosine(start=0), "start must be .*, found 0"),
        (lambda: Joined(Constant(), Constant(), 0), "boundary must be .*, found 0"),
        (lambda: WarmUp(Constant(), steps=0), "steps must be .*, found 0"),
        (lambda: WarmRestarts(cycles=0), "cycles must be .*, found 0"),
        (lambda: WidenOnPlateau(patience=0), "patience must be .*, found 0"),
        (lambda: WidenOnPlateau(ceiling=0), "ceiling must be .*, found 0"),
        (lambda: WidenOnPlateau(factor=1.0), "factor must be a finite number above 1, found 1.0"),
        (lambda: WidenOnPlateau(factor=float("nan")), "factor must be .*, found nan"),
        (lambda: WidenOnPlateau(min_gain=-1), "min_gain must be .*, found -1"),
    ],
)
def test_bad_arguments_are_refused(build: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


class TestAsSchedule:
    """Names, schedules and plain functions."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("constant", Constant(40)),
            ("linear", Linear(40, 8)),
            ("cosine", Cosine(40, 8)),
            ("warm_restarts", WarmRestarts(40, 8)),
            ("plateau", WidenOnPlateau(Cosine(40, 8))),
        ],
    )
    def test_names(self, name: str, expected: Schedule) -> None:
        assert as_schedule(name, start=40, end=8) == expected

    def test_a_schedule_is_returned_as_it_is(self) -> None:
        schedule = Cosine()
        assert as_schedule(schedule) is schedule

    def test_a_plain_function_works(self) -> None:
        assert values(as_schedule(lambda step, steps, scores: 10 * step), 3) == [10, 20, 30]

    @pytest.mark.parametrize("words", [0, -1, 2.5, None])
    def test_a_plain_function_is_checked(self, words: int) -> None:
        schedule = as_schedule(lambda step, steps, scores: words)
        with pytest.raises(ValueError, match=rf"at step 2 of 9 must be .*, found {words}"):
            schedule(2, 9)

    def test_an_unknown_name_lists_what_is_allowed(self) -> None:
        with pytest.raises(ValueError, match=r"'cosine', 'warm_restarts', .*; found 'consine'"):
            as_schedule("consine")

    @pytest.mark.parametrize("value", [50, None, Cosine])
    def test_anything_else_is_refused(self, value: Schedule) -> None:
        with pytest.raises(TypeError, match="schedule must be one of"):
            as_schedule(value)


def test_examples_in_the_documentation_run() -> None:
    assert doctest.testmod(module).failed == 0
