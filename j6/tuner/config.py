"""Settings of a tuning run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

from j6.metrics import Metrics
from j6.objectives import Objective, ObjectiveFunction, resolve_objectives
from j6.settings import check_type, put, real, whole
from j6.soft_prompt.config import SoftPromptConfig
from j6.update import J6Update

Update = Callable[[Tensor], Tensor]
Schedule = Literal["cosine", "constant"]
ProperScore = Literal["nll", "brier"]


@dataclass(frozen=True)
class J6Config:
    """How a soft prompt is tuned.

    w and h are measured in units of the local activations' size, so that one learning rate fits
    all models.

    Attributes:
        objectives: What is minimised: names of built-in objectives, :class:`j6.Objective`, or
            functions ``(logits, labels, mask) -> [B]``. ``J6Update(priority=…)`` protects one of
            them by its name; the first one's training loss tells divergence.
        update: Combines the objectives' gradients, ``[K, P, m] -> [P, m]``: a
            :class:`j6.J6Update`, a :class:`j6.aggregation.AggregatorUpdate` or any function.
        prompt: What the soft prompt looks like.
        learning_rate: Adam's step size at the start, in units of the activations' size.
        schedule: ``"cosine"`` falls to a tenth at ``max_steps``; ``"constant"`` stays.
        max_steps: Most optimiser steps.
        batch_size: Examples per step.
        refresh_every: Steps n from one computation of all gradients to the next, after lazy
            regularisation (https://arxiv.org/abs/1912.04958, section 3.1). In between, only the
            priority's gradient is computed (that of ``J6Update(priority=…)``; without a priority,
            or with another update, the first objective's), the others' last ones are used again.
            So what J6 promises about its priority holds on the current batch, whatever n is. 2
            saves a sixth of the time; above 1, high learning rates are less safe (docs/j6.md).
        eval_every: Steps between looks at the validation set.
        patience: Looks without improvement after which the run stops; ``None``: never.
        stop_on: What must improve on the validation set, lower is better: a proper score
            (``"nll"`` or ``"brier"``), under which confident wrong answers cost most, or a
            function of :class:`j6.Metrics`.
        checkpoint_every: Steps between checkpoints, where a folder for them is given.
        seed: Seed of the order of examples. The prompt's start has a seed of its own.
    """

    objectives: Sequence[str | Objective | ObjectiveFunction] = ("factuality", "confidence")
    update: Update = field(default_factory=J6Update)
    prompt: SoftPromptConfig = field(default_factory=SoftPromptConfig)
    learning_rate: float = 0.3
    schedule: Schedule = "cosine"
    max_steps: int = 200
    batch_size: int = 16
    refresh_every: int = 1
    eval_every: int = 20
    patience: int | None = 5
    stop_on: ProperScore | Callable[[Metrics], float] = "nll"
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        update: object = self.update
        if not callable(update) or isinstance(update, type):
            msg = f"update is {self.update!r}; a function [K, P, m] -> [P, m] is needed, no class"
            raise TypeError(msg)
        check_type("prompt", self.prompt, SoftPromptConfig, "a SoftPromptConfig")
        self.named_update()
        put(self, learning_rate=real("learning_rate", self.learning_rate))
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            msg = f"learning_rate is {self.learning_rate}; a finite number above 0 is needed"
            raise ValueError(msg)
        for name in ("max_steps", "batch_size", "refresh_every", "eval_every", "checkpoint_every"):
            put(self, **{name: whole(name, getattr(self, name), 1)})
        if self.patience is not None:
            put(self, patience=whole("patience", self.patience, 1, ", or None for no stop,"))
        put(self, seed=whole("seed", self.seed))
        if self.schedule not in get_args(Schedule):
            msg = f"schedule is {self.schedule!r}; allowed are 'cosine', 'constant'"
            raise ValueError(msg)
        if not callable(self.stop_on) and self.stop_on not in get_args(ProperScore):
            msg = f"stop_on is {self.stop_on!r}; allowed are 'nll', 'brier' or a function"
            raise ValueError(msg)

    def named_update(self) -> Update:
        """The update with the objectives' names resolved to rows.

        Returns:
            The update that is applied.

        Raises:
            ValueError: If a J6 update gives priority to an objective that is not there.
        """
        names = [objective.name for objective in resolve_objectives(self.objectives)]
        update = self.update
        return update.for_objectives(names) if isinstance(update, J6Update) else update

    def fresh_objective(self) -> int:
        """Number of the objective whose gradient is computed at every step.

        Returns:
            The J6 update's priority; without one, or with another update, 0.
        """
        update = self.named_update()
        priority = update.priority if isinstance(update, J6Update) else None
        return priority if isinstance(priority, int) else 0

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step.

        Args:
            step: Number of the step, from 1.

        Returns:
            ``learning_rate · (0.1 + 0.9 · (1 + cos(π t)) / 2)`` with t the part of the run that
            is over, clamped at the end; or the constant.
        """
        if self.schedule == "constant":
            return self.learning_rate
        over = min((step - 1) / self.max_steps, 1.0)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * over)))

    def score(self, metrics: Metrics) -> float:
        """What must improve, lower is better.

        Args:
            metrics: Measured on the validation set.

        Returns:
            The score.

        Raises:
            TypeError: If ``stop_on`` gives no number.
        """
        if callable(self.stop_on):
            score: Any = self.stop_on(metrics)
            try:
                return float(score)
            except (TypeError, ValueError, RuntimeError) as error:
                msg = f"stop_on gave {score!r:.80}; one number, lower is better, is needed"
                raise TypeError(msg) from error
        return metrics.nll if self.stop_on == "nll" else metrics.brier

    def describe(self) -> dict[str, Any]:
        """The settings as a JSON object; functions by name. Equal runs have equal ones."""
        named = callable(self.stop_on)
        return {
            "objectives": [objective.name for objective in resolve_objectives(self.objectives)],
            "update": _name(self.update),
            "prompt": {k: _plain(v) for k, v in asdict(self.prompt).items()},
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "max_steps": self.max_steps,
            "batch_size": self.batch_size,
            "refresh_every": self.refresh_every,
            "eval_every": self.eval_every,
            "patience": self.patience,
            "stop_on": _name(self.stop_on) if named else self.stop_on,
            "seed": self.seed,
        }


def _name(function: Any) -> str:
    """Name a function so that another process gives it the same; an address would differ."""
    if isinstance(function, functools.partial):
        given = [_name(value) for value in function.args]
        given += [f"{key}={_name(value)}" for key, value in function.keywords.items()]
        return f"partial({', '.join([_name(function.func), *given])})"
    kind: Any = type(function)
    nameless = kind.__qualname__ if kind.__repr__ is object.__repr__ else repr(function)
    return getattr(function, "__name__", "") or nameless


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
