"""The J6 update: from a Jacobian of several objectives to one direction per parameter group.

The six components (:mod:`j6.components`) are scored on a common scale, weighed against one another
by a softmax (or the largest alone), and every component passes its weight on to the blocks it
stands for. From https://arxiv.org/abs/2508.12086, with the scores normalised (docs/j6.md says why):
raw inner products can never exceed the larger of the two squared norms, and so are never chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from j6.blocks import BlockGeometry, block_geometry
from j6.settings import plain, put, real, whole

OBJECTIVES = ("factuality", "confidence")
"""Names of the first two rows of a Jacobian whose objectives are not named."""
ROUNDING = 16
"""Units in the last place by which equal numbers may differ."""


class J6Step(NamedTuple):
    """What one update decided, for K objectives, P groups and I interactions.

    Attributes:
        direction: The value for ``.grad``, shape ``[P, m]``, in the Jacobian's dtype.
        mixing: Coefficients on the unit blocks that give the direction, shape ``[K, P]``:
            ``coefficients`` after projection.
        scores: The scores s, shape ``[K·P + I]``: attributions by objective and group, then
            interactions in the order of :meth:`J6Update.interactions`.
        attention: Weights a of the components, same shape; they sum to 1.
        coefficients: Weight ``α_pO`` of each block before projection, shape ``[K, P]``.
        geometry: Norms, shares and cosines of the blocks.
    """

    direction: Tensor
    mixing: Tensor
    scores: Tensor
    attention: Tensor
    coefficients: Tensor
    geometry: BlockGeometry


@dataclass(frozen=True)
class J6Update:
    """Weigh the J6 components and combine the objectives' gradients, group by group.

    The attributions are the shares ``‖u_pO‖²``; the interactions are block cosines, in one of two
    readings. ``"paper"``: between two objectives in two different groups (the components "roles
    aligned" and "roles crossed"). ``"gram"``: between two objectives within one group, which is
    where conflicts were found to sit. With ``a = softmax(s / τ)``, a block's coefficient ``α_pO``
    is the sum of the weights of all components it belongs to, and the direction of group p is
    ``d_p = Σ_O α_pO · c_pO``, where ``c_pO`` is ``u_pO`` without the part that opposes the priority
    objective's ``u_pF``:  ``c = u_pO − min(⟨u_pF, u_pO⟩, 0) / ‖u_pF‖² · u_pF``.

    Properties, for finite gradients: the direction does not depend on the scale of any objective;
    with ``priority`` set, ``⟨d_p, g_pF⟩ ≥ 0`` in every group, so a small step along ``−d`` does not
    raise F; an objective without gradient takes no part; nothing waits for the device. A NaN or
    infinity anywhere makes the direction NaN.

    Attributes:
        policy: ``"soft"``: softmax over the scores. ``"hard"``: the largest score alone; equal
            largest scores share, which is the limit of soft as the temperature goes to 0.
        components: Reading of the interactions, ``"gram"`` or ``"paper"``.
        temperature: τ of the softmax, above 0; without effect on the hard policy.
        priority: Objective whose descent is protected: its name, its row's number, or ``None`` for
            no protection. Rows have names where objectives do (:meth:`for_objectives`, as in
            :class:`j6.J6Config`); in a bare Jacobian, row 0 is ``"factuality"`` and row 1
            ``"confidence"``.
        preference: Bias on the attributions. A number is how much higher factuality's scores count
            than confidence's; for K objectives, a sequence of K biases, one per objective.
    """

    policy: Literal["soft", "hard"] = "soft"
    components: Literal["paper", "gram"] = "gram"
    temperature: float = 0.3
    priority: str | int | None = "factuality"
    preference: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        _one_of("policy", self.policy, ("soft", "hard"))
        _one_of("components", self.components, ("paper", "gram"))
        put(self, temperature=real("temperature", self.temperature))
        if not isinstance(self.priority, (str, type(None))):
            put(self, priority=whole("priority", self.priority, None, ", a name or None"))
        preference = plain(self.preference)
        if isinstance(preference, (list, tuple)):
            put(self, preference=tuple(real("preference", bias) for bias in preference))
        else:
            put(self, preference=real("preference", preference))
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            msg = (
                f"temperature is {self.temperature}; a finite number above 0 is needed: "
                "for the limit 0 use policy='hard'"
            )
            raise ValueError(msg)
        if not all(math.isfinite(bias) for bias in self._biases()):
            msg = f"preference is {self.preference}; finite numbers are needed"
            raise ValueError(msg)

    def __call__(self, jacobian: Tensor) -> Tensor:
        """Combine the objectives' gradients.

        Args:
            jacobian: Gradients of K objectives in P groups, shape ``[K, P, m]``.

        Returns:
            The direction to put into ``.grad``, shape ``[P, m]``, dtype and device of ``jacobian``.

        Raises:
            TypeError: If ``jacobian`` does not hold floating-point numbers.
            ValueError: If ``jacobian`` has the wrong shape for the priority or the preference.
        """
        return self.step(jacobian).direction

    def step(self, jacobian: Tensor) -> J6Step:
        """Like calling the update, with everything that led to the direction.

        Args:
            jacobian: Gradients of K objectives in P groups, shape ``[K, P, m]``.

        Returns:
            The direction and its reasons.

        Raises:
            TypeError: If ``jacobian`` does not hold floating-point numbers.
            ValueError: If ``jacobian`` has the wrong shape for the priority or the preference.
        """
        geometry = block_geometry(jacobian)
        n_objectives, n_groups = geometry.shares.shape
        pairs = self.interactions(n_objectives, n_groups)
        scores = torch.stack([*geometry.shares.flatten(), *(geometry.cosines[i] for i in pairs)])
        attention = self._attention(scores + self._bias(geometry.shares, len(pairs)))
        coefficients = _passed_on(attention, pairs, n_objectives, n_groups)
        mixing = self._protect(coefficients, geometry)  # [K, P]
        direction = torch.einsum("kp,kpm->pm", mixing, geometry.units)
        return J6Step(
            direction.to(jacobian.dtype), mixing, scores, attention, coefficients, geometry
        )

    def for_objectives(self, names: Sequence[str]) -> J6Update:
        """The same update for objectives of these names, wherever they stand.

        Args:
            names: Name of each row, K different ones.

        Returns:
            The update with rows in place of names: ``priority`` is a number or ``None``, and a
            ``preference`` that favours factuality or confidence is a sequence.

        Raises:
            ValueError: If the priority, or what the preference is between, is not among them.
        """
        priority, preference = self.priority, self.preference
        if isinstance(priority, str) and len(names) == 1:
            priority = None  # nothing to be protected from
        elif isinstance(priority, str):
            if priority not in names:
                msg = (
                    f"priority is {priority!r} but the objectives are {', '.join(names)}: "
                    "pass J6Update(priority=…) with one of these names, or with None"
                )
                raise ValueError(msg)
            priority = names.index(priority)
        if isinstance(preference, (int, float)) and preference:
            missing = [name for name in OBJECTIVES if name not in names]
            if missing:
                msg = (
                    f"preference is {preference}, between factuality and confidence, but the "
                    f"objectives are {', '.join(names)}: pass a sequence with one bias for each"
                )
                raise ValueError(msg)
            by_name = dict(zip(OBJECTIVES, self._biases(), strict=True))
            preference = tuple(by_name.get(name, 0.0) for name in names)
        return replace(self, priority=priority, preference=preference)

    def interactions(self, n_objectives: int, n_groups: int) -> list[tuple[int, int, int, int]]:
        """Pairs of blocks ``(objective, group, objective, group)`` that the interactions compare.

        Args:
            n_objectives: Number K of objectives.
            n_groups: Number P of groups.

        Returns:
            One entry per interaction: ``P·K(K−1)/2`` for gram, ``P(P−1)·K(K−1)/2`` for paper.
        """
        pairs = itertools.combinations(range(n_objectives), 2)
        if self.components == "gram":
            return [(o, p, r, p) for o, r in pairs for p in range(n_groups)]
        groups = list(itertools.permutations(range(n_groups), 2))
        return [(o, p, r, q) for o, r in pairs for p, q in groups]

    def _attention(self, scores: Tensor) -> Tensor:
        if self.policy == "soft":
            return torch.softmax(scores / self.temperature, dim=0)
        # Equal scores differ by rounding, which the projection allows for as well.
        slack = ROUNDING * torch.finfo(scores.dtype).eps * scores.abs().amax().clamp_min(1.0)
        largest = (scores >= scores.amax() - slack).to(scores.dtype)
        return largest / largest.sum()

    def _protect(self, coefficients: Tensor, geometry: BlockGeometry) -> Tensor:
        """Coefficients ``[K, P]`` on the units after projection off the priority objective.

        The projection is written into the priority's own coefficient. What is left of a block
        that points exactly against the priority is rounding; it is dropped, since Adam would
        blow it up to a full step.
        """
        row = self._priority_row(coefficients.shape[0])
        if row is None:
            return coefficients
        own = geometry.shares  # [K, P]
        first = own[row]  # [P]
        with_first = geometry.gram[row].diagonal(dim1=0, dim2=2).reshape(own.shape)  # [K, P]
        opposing = with_first.clamp_max(0.0) / first.clamp_min(torch.finfo(own.dtype).tiny)
        left = own - opposing.square() * first  # squared norm of c, [K, P]
        rounding = ROUNDING * torch.finfo(own.dtype).eps
        gone = (opposing < 0) & (left <= rounding * own)
        mixing = torch.where(gone, torch.zeros_like(coefficients), coefficients)
        handed = mixing[row] - (mixing * opposing).sum(0)
        return torch.cat([mixing[:row], handed[None], mixing[row + 1 :]])

    def _bias(self, shares: Tensor, n_interactions: int) -> Tensor:
        """What the preference adds to the scores, ``[K·P + I]``; interactions take no side."""
        n_objectives, n_groups = shares.shape
        biases = self._biases()
        if not any(biases):
            return shares.new_zeros(shares.numel() + n_interactions)
        if len(biases) != n_objectives:
            msg = (
                f"preference gives {len(biases)} biases for {n_objectives} objectives: "
                "pass a sequence with one bias per objective"
            )
            raise ValueError(msg)
        rows = [shares.new_full((n_groups,), bias) for bias in biases]
        return torch.cat([*rows, shares.new_zeros(n_interactions)])

    def _biases(self) -> tuple[float, ...]:
        if isinstance(self.preference, (int, float)):
            return (self.preference / 2, -self.preference / 2)
        return tuple(self.preference)

    def _priority_row(self, n_objectives: int) -> int | None:
        if self.priority is None:
            return None
        names = OBJECTIVES[:n_objectives]
        row = self.priority if isinstance(self.priority, int) else n_objectives
        if self.priority in names:
            row = names.index(str(self.priority))
        if not 0 <= row < n_objectives:
            msg = (
                f"priority is {self.priority!r} but the jacobian has {n_objectives} objectives: "
                f"pass a row from 0 to {n_objectives - 1}, None, or where the rows have no names "
                f"of their own one of {', '.join(map(repr, OBJECTIVES))}"
            )
            raise ValueError(msg)
        return row


def _passed_on(
    attention: Tensor, pairs: list[tuple[int, int, int, int]], n_objectives: int, n_groups: int
) -> Tensor:
    """Sum, for every block, the weights of the components it belongs to, shape ``[K, P]``."""
    n_blocks = n_objectives * n_groups
    blocks, shared = list(attention[:n_blocks]), attention[n_blocks:]
    for (o, p, r, q), weight in zip(pairs, shared, strict=True):
        blocks[o * n_groups + p] = blocks[o * n_groups + p] + weight
        blocks[r * n_groups + q] = blocks[r * n_groups + q] + weight
    return torch.stack(blocks).reshape(n_objectives, n_groups)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        msg = f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}"
        raise ValueError(msg)
