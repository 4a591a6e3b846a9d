"""What happened in a run, step by step; plain numbers that survive as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from j6.components import COMPONENT_NAMES
from j6.metrics import Metrics


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step, for K objectives and P groups.

    Attributes:
        step: Number of the step, from 1.
        learning_rate: Adam's step size.
        losses: Batch mean of each objective, K values.
        norms: Norm of each objective's gradient, K values.
        shares: Share of each group in each objective's squared norm, ``[K][P]``.
        cosines: Cosines between all blocks, objective by objective, ``[K·P][K·P]``.
        weights: Weights of the J6 components, which sum to 1; empty for other updates.
        refreshed: Whether all gradients are of this step's batch; else those of all objectives
            but one were kept from an earlier step (``J6Config.refresh_every``), and the norms,
            shares, cosines and weights are of what was used. The losses are always of the batch.
    """

    step: int
    learning_rate: float
    losses: list[float]
    norms: list[float]
    shares: list[list[float]]
    cosines: list[list[float]]
    weights: list[float]
    refreshed: bool = True

    @property
    def agreement(self) -> list[float]:
        """Cosine of the first two objectives within each group, P values; below 0: conflict."""
        n_groups = len(self.shares[0])
        return [self.cosines[p][n_groups + p] for p in range(n_groups)]

    @property
    def components(self) -> dict[str, float]:
        """The six components on their common scale; empty unless K = P = 2."""
        if len(self.shares) != 2 or len(self.shares[0]) != 2:
            return {}
        (hf, wf), (hc, wc) = self.shares
        aligned, crossed = self.cosines[0][3], self.cosines[2][1]
        values = (hf, aligned, wf, hc, wc, crossed)
        return dict(zip(COMPONENT_NAMES, values, strict=True))


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One look at the validation set.

    Attributes:
        step: Steps taken before it.
        metrics: What was measured.
        score: What must improve, lower is better.
    """

    step: int
    metrics: Metrics
    score: float


@dataclass
class History:
    """All steps and looks of a run.

    Attributes:
        objectives: Names of the K objectives.
        groups: Names of the P groups: ``h`` or one ``h_<layer>`` per layer, then ``w``.
        weight_names: What each of a step's weights belongs to; empty unless J6 updates.
        steps: The steps.
        evaluations: The looks at the validation set; the first is before any step.
        untuned: The model without the prompt on the validation set, where there is one.
    """

    objectives: list[str]
    groups: list[str]
    weight_names: list[str] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    evaluations: list[EvalRecord] = field(default_factory=list)
    untuned: Metrics | None = None

    def to_json(self) -> dict[str, Any]:
        """The history as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> History:
        """Read back what :meth:`to_json` gave.

        Args:
            value: The JSON object.

        Returns:
            The history.
        """
        return cls(
            objectives=value["objectives"],
            groups=value["groups"],
            weight_names=value["weight_names"],
            steps=[StepRecord(**step) for step in value["steps"]],
            evaluations=[
                EvalRecord(look["step"], Metrics(**look["metrics"]), look["score"])
                for look in value["evaluations"]
            ],
            untuned=None if value["untuned"] is None else Metrics(**value["untuned"]),
        )


def comparable(steps: Sequence[StepRecord]) -> Sequence[StepRecord]:
    """The steps that tell whether objectives agree; whatever shows cosines asks here.

    A kept gradient is of another batch, and for that alone less like the step's own.

    Args:
        steps: Steps of a run.

    Returns:
        Those at which all gradients were computed, or all of them if there is none.
    """
    return [step for step in steps if step.refreshed] or steps


def group_names(layers: Sequence[int]) -> list[str]:
    """Names of the groups of a soft prompt.

    Args:
        layers: Layers with an h.

    Returns:
        ``["h", "w"]`` for one layer, ``["w"]`` for none, else one ``h_<layer>`` each and ``w``.
    """
    hs = ["h"] if len(layers) == 1 else [f"h_{layer}" for layer in layers]
    return [*hs, "w"]
