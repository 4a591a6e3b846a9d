"""How a search goes about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpo_dspy.acceptance import Acceptance
from gpo_dspy.direction import Direction
from gpo_dspy.objective import Objective, Weights
from gpo_dspy.plan import EvaluationMode
from gpo_dspy.schedule import Schedule
from gpo_dspy.selector import Selector

MemoryScope = Literal[True, False, "same_kind", "same_model"]
"""Which prompts of earlier runs a run may start from: all, none, or those alike in something."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The fields are arguments of :class:`~gpo_dspy.GPO`."""

    direction: Direction
    schedule: Schedule
    evaluation: EvaluationMode
    acceptance: Acceptance
    candidates_per_step: int | None
    rewrites_per_request: int | None
    failures: int
    task_examples: int
    batch_size: int
    seed: int
    selector: Selector
    stop_after: int | None = None
    steps_at_once: int | None = None
    max_bootstrapped_demos: int = 0
    max_labeled_demos: int = 0
    language: str | None = None
    allow_examples: bool = False
    objective: Objective = Objective()  # noqa: RUF009 - frozen

    def weights(self, names: Sequence[str], step: int) -> Weights | None:
        """Return what counts in a step of several named scores; None if there is only one.

        Args:
            names: Of the metric's scores.
            step: The step, from 1.
        """
        return self.objective.drawn(names, self.seed, step)
