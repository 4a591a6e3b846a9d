"""Deciding a step and writing down why, with one wait for the device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from j6.blocks import block_geometry
from j6.components import COMPONENT_NAMES
from j6.tuner.config import Update
from j6.tuner.history import StepRecord
from j6.update import J6Update


class Decision(NamedTuple):
    """A direction and what led to it.

    Attributes:
        direction: One row per group, shape ``[P, m]``.
        record: The step in numbers.
        finite: Whether losses, gradients and direction are all finite.
    """

    direction: Tensor
    record: StepRecord
    finite: bool


def decide(
    update: Update,
    losses: Tensor,
    jacobian: Tensor,
    step: int,
    learning_rate: float,
    *,
    refreshed: bool = True,
) -> Decision:
    """Apply an update and observe it.

    Args:
        update: The update.
        losses: Batch mean of each objective, shape ``[K]``.
        jacobian: Their gradients, shape ``[K, P, m]``.
        step: Number of the step.
        learning_rate: Its step size.
        refreshed: Whether all gradients were computed for it.

    Returns:
        The decision.

    Raises:
        ValueError: If the update gives a direction of another shape.
    """
    if isinstance(update, J6Update):
        taken = update.step(jacobian)
        direction, geometry, weights = taken.direction, taken.geometry, taken.attention
    else:
        direction, geometry = update(jacobian), block_geometry(jacobian)
        weights = losses.new_zeros(0)
    if direction.shape != jacobian.shape[1:]:
        msg = (
            f"update gave shape {list(direction.shape)} for a jacobian of shape "
            f"{list(jacobian.shape)}; {list(jacobian.shape[1:])} is needed"
        )
        raise ValueError(msg)
    parts = [
        losses.detach(),
        geometry.norms,
        geometry.shares.flatten(),
        geometry.cosines.flatten(),
        weights,
        direction.isfinite().all()[None],
    ]
    numbers = torch.cat([part.detach().double() for part in parts]).cpu()  # the one wait
    finite = bool(numbers.isfinite().all()) and bool(numbers[-1])
    loss, norms, shares, cosines, attention, _ = torch.split_with_sizes(
        numbers, [part.numel() for part in parts]
    )
    k, p = geometry.shares.shape
    record = StepRecord(
        step=step,
        learning_rate=learning_rate,
        losses=loss.tolist(),
        norms=norms.tolist(),
        shares=shares.reshape(k, p).tolist(),
        cosines=cosines.reshape(k * p, k * p).tolist(),
        weights=attention.tolist(),
        refreshed=refreshed,
    )
    return Decision(direction, record, finite)


def weight_names(update: Update, objectives: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Names of the components that a J6 update weighs.

    Args:
        update: The update.
        objectives: Names of the objectives.
        groups: Names of the groups.

    Returns:
        One name per weight; the paper's for two objectives and the groups h and w, where
        ``update`` reads the components as the paper does. Empty for other updates.
    """
    if not isinstance(update, J6Update):
        return []
    names = [f"{group}_{objective}" for objective, group in product(objectives, groups)]
    if update.components == "paper" and list(groups) == ["h", "w"] and len(objectives) == 2:
        return [*names, COMPONENT_NAMES[1], COMPONENT_NAMES[5]]
    pairs = update.interactions(len(objectives), len(groups))
    blocks = [
        (f"{groups[p]}_{objectives[o]}", f"{groups[q]}_{objectives[r]}") for o, p, r, q in pairs
    ]
    return [*names, *(f"{first}~{second}" for first, second in blocks)]
