"""What a direction is: it chooses earlier prompts, and may be put into words too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gpo_dspy.state import DirectionText, ScoredPrompt

if TYPE_CHECKING:
    from gpo_dspy.prompt_model import Question
    from gpo_dspy.trajectory import Trajectory


@runtime_checkable
class Direction(Protocol):
    """Chooses the earlier prompts to show."""

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        """Return earlier prompts in ascending order of score, the older first on ties.

        Args:
            trajectory: Everything tried so far.
            current: The prompt to be rewritten; it is never among those returned.
        """
        ...


@dataclass(frozen=True, slots=True)
class View:
    """What is known when a direction is put into words, for one predictor.

    Attributes:
        step: The step to come, from 1.
        task_description: What the program and the predictor do.
        trajectory: Everything tried so far.
        current: The prompt to be rewritten.
        former: The latest texts of earlier steps, by kind.
        failures: Draws so many failures of the current prompt, as text; fewer if there are fewer.
        objective: What the score is made of, if of several scores.
    """

    step: int
    task_description: str
    trajectory: Trajectory
    current: ScoredPrompt
    former: Mapping[str, DirectionText]
    failures: Callable[[int], tuple[str, ...]]
    objective: str = ""


@runtime_checkable
class WrittenDirection(Direction, Protocol):
    """A direction that the prompt model puts into words before it writes the rewrites.

    Attributes:
        kinds: What texts it has: "summary", "reflection" or both.
    """

    @property
    def kinds(self) -> Sequence[str]: ...  # noqa: D102 - see above

    def questions(self, view: View) -> Sequence[Question]:
        """Return what to ask the prompt model: a question of each kind that has anything to ask.

        Args:
            view: What is known.
        """
        ...


def kinds_of(direction: Direction) -> tuple[str, ...]:
    """Return what texts a direction has; none if it only chooses prompts."""
    return tuple(getattr(direction, "kinds", ()))


def is_carried_on(direction: Direction) -> bool:
    """Tell whether a direction has a text that goes on from that of the step before."""
    return "summary" in kinds_of(direction)


def at_least_one(direction: Direction, *names: str) -> None:
    """Check attributes of a direction.

    Raises:
        ValueError: One is below 1.
    """
    for name in names:
        value = getattr(direction, name)
        if value < 1:
            raise ValueError(f"{name} must be at least 1, found {value!r}.")
