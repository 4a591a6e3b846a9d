"""A trajectory keeps every text once, in order of age, and finds it again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from gpo_dspy.state import ScoredPrompt
from gpo_dspy.trajectory import Trajectory


class Compass:
    """Texts are angles in degrees; counts what it embeds."""

    name = "compass"

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def prompt(text: str, score: float = 0.5, step: int = 1) -> ScoredPrompt:
    return ScoredPrompt(text=text, score=score, evaluations=10, step=step)


def texts(prompts: Sequence[ScoredPrompt]) -> list[str]:
    return [found.text for found in prompts]


def trajectory(**scores: float) -> Trajectory:
    return Trajectory(Compass(), [prompt(name[1:], score) for name, score in scores.items()])


def test_iterates_in_order_of_age() -> None:
    found = trajectory(_0=0.1, _90=0.3, _45=0.2)
    assert texts(list(found)) == ["0", "90", "45"]
    assert [found.age(text) for text in ("0", "90", "45")] == [0, 1, 2]
    assert len(found) == 3


def test_contains_and_get() -> None:
    found = trajectory(_0=0.1, _90=0.3)
    assert "90" in found
    assert "91" not in found
    assert found.get("90") == prompt("90", 0.3)
    assert found.get("91") is None


def test_nearest_are_most_similar_first_with_cosines() -> None:
    found = trajectory(_0=0.1, _90=0.3, _30=0.2, _180=0.9).nearest("10", 3)
    assert texts([near for near, _ in found]) == ["0", "30", "90"]
    angles = np.radians([10, 20, 80])
    assert [similarity for _, similarity in found] == pytest.approx(np.cos(angles), abs=1e-6)


def test_nearest_ties_go_to_the_older() -> None:
    found = trajectory(_30=0.1, _390=0.3, _750=0.2).nearest("30", 2)
    assert texts([near for near, _ in found]) == ["30", "390"]


def test_more_than_there_are_gives_all() -> None:
    found = trajectory(_0=0.1, _90=0.3)
    assert len(found.nearest("0", 9)) == len(found.latest(9)) == len(found.best(9)) == 2


def test_latest_and_best() -> None:
    found = trajectory(_0=0.3, _1=0.9, _2=0.3, _3=0.9, _4=0.1)
    assert texts(found.latest(2)) == ["4", "3"]
    assert texts(found.best(3)) == ["1", "3", "0"]


def test_only_new_texts_are_embedded() -> None:
    compass = Compass()
    found = Trajectory(compass)
    for text in ("0", "90", "0", "90"):
        found.append(prompt(text))
        found.nearest(text, 1)
    assert compass.embedded == ["0", "90"]


def test_a_text_that_is_there_is_updated_in_place() -> None:
    found = trajectory(_0=0.1, _90=0.3, _45=0.2)
    found.append(prompt("0", 0.8, step=7))
    assert len(found) == 3
    assert texts(list(found)) == ["0", "90", "45"]
    assert found.get("0") == prompt("0", 0.8, step=7)
    assert [near.score for near, _ in found.nearest("0", 1)] == [0.8]
    assert texts(found.best(1)) == ["0"]


def test_duplicates_in_one_extend_keep_the_first_age_and_the_last_score() -> None:
    found = trajectory()
    found.extend([prompt("0", 0.1), prompt("90", 0.2), prompt("0", 0.6)])
    assert list(found) == [prompt("0", 0.6), prompt("90", 0.2)]


def test_a_failing_embedder_leaves_nothing_half_done() -> None:
    found = trajectory(_0=0.1)
    with pytest.raises(ValueError, match="could not convert"):
        found.append(prompt("not an angle"))
    assert len(found) == len(found.nearest("0", 9)) == 1
    assert "not an angle" not in found


def test_an_empty_trajectory_finds_nothing() -> None:
    found = trajectory()
    assert found.nearest("0", 3) == []
    assert found.latest(3) == found.best(3) == list(found) == []


def test_large_trajectories_use_the_graph() -> None:
    found = Trajectory(Compass(), map(prompt, map(str, range(360))), exact_below=100)
    assert texts([near for near, _ in found.nearest("10.2", 3)]) == ["10", "11", "9"]


@pytest.mark.parametrize("method", ["latest", "best"])
def test_k_must_be_positive(method: str) -> None:
    with pytest.raises(ValueError, match="k must be at least 1, found 0"):
        getattr(trajectory(_0=0.1), method)(0)
