"""Each direction shows the prompts it promises, in ascending order of score."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_trajectory import Compass, prompt, texts

from gpo_dspy.direction import (
    DEFAULT_K,
    Direction,
    Importance,
    NoDirection,
    Recency,
    Reflection,
    Relevance,
    RelevanceAndScore,
    Summary,
    WrittenDirection,
    as_direction,
)
from gpo_dspy.journal.identity import _setting
from gpo_dspy.state import ScoredPrompt
from gpo_dspy.trajectory import Trajectory

# Angle and score, oldest first.
HAND_MADE = [
    ("0", 0.5),
    ("5", 0.4),
    ("20", 0.7),
    ("40", 0.6),
    ("90", 0.9),
    ("170", 0.8),
    ("8", 0.4),
]
EVERY: list[Direction] = [
    *(Relevance(), Recency(), Importance(), RelevanceAndScore(), NoDirection()),
    *(Relevance(1), Recency(9), Importance(9), RelevanceAndScore(9)),
    *(Summary(), Reflection(), Reflection(Recency(3)), Reflection(Summary(newest=5))),
]


def most(direction: Any) -> int:
    """Return how many prompts a direction shows at most."""
    return int(getattr(getattr(direction, "momentum", direction), "k", 0))


def made(entries: Sequence[tuple[str, float]]) -> Trajectory:
    return Trajectory(Compass(), [prompt(text, score) for text, score in entries])


def shown(direction: Direction, current: str = "0") -> list[str]:
    return texts(direction(made(HAND_MADE), prompt(current)))


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (Relevance(3), ["5", "8", "20"]),
        (Recency(3), ["8", "170", "90"]),
        (Importance(3), ["20", "170", "90"]),
        (NoDirection(), []),
        (RelevanceAndScore(3, weight=0), ["5", "8", "20"]),
        (RelevanceAndScore(3, weight=1), ["20", "170", "90"]),
        (RelevanceAndScore(3, weight=0.5), ["40", "20", "90"]),
        (RelevanceAndScore(2, weight=1, pool=3), ["5", "20"]),
    ],
    ids=str,
)
def test_shows_what_it_promises(direction: Direction, expected: list[str]) -> None:
    assert shown(direction) == expected


@pytest.mark.parametrize("direction", EVERY, ids=str)
class TestContract:
    """What every direction promises."""

    @given(
        entries=st.lists(
            st.tuples(st.integers(0, 359).map(str), st.sampled_from([0.0, 0.5, 0.7, 1.0])),
            max_size=12,
        ),
        current=st.integers(0, 359).map(str),
    )
    def test_is_ascending_without_the_current_prompt(
        self, direction: Direction, entries: list[tuple[str, float]], current: str
    ) -> None:
        trajectory = made([(current, 0.6), *entries])
        found = direction(trajectory, prompt(current))
        keys = [(one.score, trajectory.age(one.text)) for one in found]
        assert keys == sorted(keys)
        assert current not in texts(found)
        assert len(found) == min(most(direction), len(trajectory) - 1)

    def test_an_empty_trajectory_shows_nothing(self, direction: Direction) -> None:
        assert direction(made([]), prompt("0")) == ()

    def test_the_current_prompt_need_not_be_in_the_trajectory(self, direction: Direction) -> None:
        assert len(shown(direction, current="1")) == min(most(direction), 7)

    def test_it_is_a_value(self, direction: Direction) -> None:
        again = pickle.loads(pickle.dumps(direction))  # noqa: S301 - our own
        assert again == direction
        assert hash(again) == hash(direction)
        assert sum(other == direction for other in EVERY) == 1
        assert _setting(direction) == repr(direction), "what a run is known by"

    def test_the_kinds_of_texts_are_told(self, direction: Direction) -> None:
        kinds = getattr(direction, "kinds", ())
        assert isinstance(direction, WrittenDirection) is bool(kinds)
        assert set(kinds) <= {"summary", "reflection"}


class TestAsDirection:
    """Names and directions."""

    @pytest.mark.parametrize("kinds", [("critique",), (), ("summary", "critique")])
    def test_a_text_that_no_request_would_show_is_refused(self, kinds: tuple[str, ...]) -> None:
        class Written:
            def __init__(self) -> None:
                self.kinds = kinds

            def __call__(self, trajectory: Trajectory, current: Any) -> tuple[()]:
                return ()

            def questions(self, view: Any) -> tuple[()]:
                return ()

        with pytest.raises(TypeError, match="'reflection', 'summary'"):
            as_direction(Written())

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("relevance", Relevance(DEFAULT_K)),
            ("recency", Recency(DEFAULT_K)),
            ("importance", Importance(DEFAULT_K)),
            ("relevance_and_score", RelevanceAndScore(DEFAULT_K, 0.5)),
            ("summary", Summary(newest=16, words=200)),
            ("reflection", Reflection(NoDirection(), failures=6, words=200)),
            ("none", NoDirection()),
        ],
    )
    def test_names(self, name: str, expected: Direction) -> None:
        assert as_direction(name) == expected

    def test_a_direction_or_a_function_is_returned_as_it_is(self) -> None:
        def oldest(trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
            return tuple(trajectory)[:1]

        assert as_direction(oldest) is oldest
        assert as_direction(Relevance(5)) == Relevance(5)

    def test_an_unknown_name_lists_what_is_allowed(self) -> None:
        with pytest.raises(
            ValueError, match=r"'relevance', .*'summary', 'reflection', .*; found 'relevant'"
        ):
            as_direction("relevant")

    @pytest.mark.parametrize("value", [None, 3, Relevance])
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(TypeError, match="direction must be one of"):
            as_direction(value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Relevance(0), "k must be at least 1, found 0"),
        (lambda: Recency(-1), "k must be at least 1, found -1"),
        (lambda: Importance(0), "k must be at least 1, found 0"),
        (lambda: RelevanceAndScore(0), "k must be at least 1, found 0"),
        (lambda: Summary(newest=0), "newest must be at least 1, found 0"),
        (lambda: Summary(words=0), "words must be at least 1, found 0"),
        (lambda: Reflection(failures=0), "failures must be at least 1, found 0"),
        (lambda: Reflection(words=-1), "words must be at least 1, found -1"),
        (lambda: Reflection(Reflection()), "momentum must be a direction without a reflection"),
        (lambda: RelevanceAndScore(weight=1.5), r"weight must be in \[0, 1\], found 1.5"),
        (lambda: RelevanceAndScore(k=3, pool=2), "pool must be at least k=3, found 2"),
    ],
)
def test_bad_arguments_are_refused(build: Callable[[], Direction], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("momentum", [Relevance, "relevance", None])
def test_a_momentum_that_is_no_direction_is_refused(momentum: Any) -> None:
    with pytest.raises(TypeError, match=r"momentum must be a Direction such as Relevance\(k=3\)"):
        Reflection(momentum)


def test_a_function_in_a_direction_is_known_by_its_source() -> None:
    def oldest(trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        return tuple(trajectory)[:1]

    described = _setting(Reflection(oldest))
    assert " at 0x" not in described
    assert described == _setting(Reflection(oldest)) != _setting(Reflection(oldest, failures=5))
