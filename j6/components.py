"""The six components of J6: which parameters drive which objective, and where they conflict.

From Yao Wu, "J6: Jacobian-Driven Role Attribution for Multi-Objective Prompt Optimization in
LLMs", https://arxiv.org/abs/2508.12086. With factuality F, confidence C, hidden-layer insertion h
and embedding modification w, the Jacobian's blocks are ``J11 = ∂F/∂h``, ``J12 = ∂F/∂w``,
``J21 = ∂C/∂h`` and ``J22 = ∂C/∂w``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from j6.blocks import block_geometry

COMPONENT_NAMES = (
    "h_factuality",
    "roles_aligned",
    "w_factuality",
    "h_confidence",
    "w_confidence",
    "roles_crossed",
)
"""The six components in the paper's order."""


class SixScores(NamedTuple):
    """One number per component, in the paper's order; every field has shape ``[]``.

    Attributes:
        h_factuality: ``‖J11‖²``: h drives factuality.
        roles_aligned: ``⟨J11, J22⟩``: h serves factuality while w serves confidence.
        w_factuality: ``‖J12‖²``: w drives factuality.
        h_confidence: ``‖J21‖²``: h drives confidence.
        w_confidence: ``‖J22‖²``: w drives confidence.
        roles_crossed: ``⟨J21, J12⟩``: h serves confidence while w serves factuality.
    """

    h_factuality: Tensor
    roles_aligned: Tensor
    w_factuality: Tensor
    h_confidence: Tensor
    w_confidence: Tensor
    roles_crossed: Tensor


@dataclass(frozen=True, slots=True)
class J6Components:
    """The six components of one Jacobian, with what they say about the two groups.

    Attributes:
        raw: The paper's components as they stand, in squared units of the losses.
        normalised: The same on one scale: shares of each objective's squared norm (in [0, 1])
            for the attributions, block cosines (in [-1, 1]) for the interactions.
        shares: Share of each group in each objective's squared gradient norm, shape
            ``[2 objectives, 2 groups]``; each row sums to 1, or to 0 without gradient.
        cosines: Cosines between all four blocks in the order J11, J12, J21, J22, shape ``[4, 4]``.
        agreement: Cosine of the two objectives within h and within w, shape ``[2 groups]``;
            below 0 they conflict in that group, above 0 they help each other.
    """

    raw: SixScores
    normalised: SixScores
    shares: Tensor
    cosines: Tensor
    agreement: Tensor

    @property
    def h_factuality(self) -> Tensor:
        """``‖J11‖²``, shape ``[]``."""
        return self.raw.h_factuality

    @property
    def roles_aligned(self) -> Tensor:
        """``⟨J11, J22⟩``, shape ``[]``."""
        return self.raw.roles_aligned

    @property
    def w_factuality(self) -> Tensor:
        """``‖J12‖²``, shape ``[]``."""
        return self.raw.w_factuality

    @property
    def h_confidence(self) -> Tensor:
        """``‖J21‖²``, shape ``[]``."""
        return self.raw.h_confidence

    @property
    def w_confidence(self) -> Tensor:
        """``‖J22‖²``, shape ``[]``."""
        return self.raw.w_confidence

    @property
    def roles_crossed(self) -> Tensor:
        """``⟨J21, J12⟩``, shape ``[]``."""
        return self.raw.roles_crossed

    @property
    def conflict(self) -> Tensor:
        """Per group (h, w), how far the objectives pull apart: ``max(-cos, 0)``, ``[2 groups]``."""
        return (0.0 - self.agreement).clamp_min(0.0)

    @property
    def synergy(self) -> Tensor:
        """Per group (h, w), how far they pull together: ``max(cos, 0)``, shape ``[2 groups]``."""
        return self.agreement.clamp_min(0.0)


def decompose(jacobian: Tensor) -> J6Components:
    """Split a Jacobian of two objectives and two groups into the six components.

    Half-precision input is raised to float32. Nothing waits for the device. A NaN or infinite
    gradient gives NaN components; an objective without gradient gives zeros.

    Args:
        jacobian: Row F then C, column h then w, shape ``[2 objectives, 2 groups, m]``.

    Returns:
        The components, raw and normalised, and the diagnostics.

    Raises:
        TypeError: If ``jacobian`` does not hold floating-point numbers.
        ValueError: If ``jacobian`` does not have two objectives and two groups.
    """
    geometry = block_geometry(jacobian)
    if jacobian.shape[:2] != (2, 2):
        msg = (
            f"jacobian has {jacobian.shape[0]} objectives and {jacobian.shape[1]} groups; the six "
            "components need 2 and 2: use j6.block_geometry for other numbers"
        )
        raise ValueError(msg)
    shares, cosines = geometry.shares, geometry.cosines
    aligned, crossed = (0, 0, 1, 1), (1, 0, 0, 1)  # (objective, group) twice: hF·wC and hC·wF
    scale = geometry.norms[:, None] * geometry.norms[None, :]  # [2, 2], of the two objectives

    raw_shares = shares * geometry.norms[:, None].square()
    return J6Components(
        raw=_six(
            raw_shares,
            geometry.gram[aligned] * scale[0, 1],
            geometry.gram[crossed] * scale[1, 0],
        ),
        normalised=_six(shares, cosines[aligned], cosines[crossed]),
        shares=shares,
        cosines=cosines.reshape(4, 4),
        agreement=cosines[0, :, 1, :].diagonal(),
    )


def _six(attributions: Tensor, aligned: Tensor, crossed: Tensor) -> SixScores:
    (h_factuality, w_factuality), (h_confidence, w_confidence) = (
        row.unbind() for row in attributions.unbind()
    )
    return SixScores(h_factuality, aligned, w_factuality, h_confidence, w_confidence, crossed)
