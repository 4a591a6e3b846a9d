"""Geometry of a Jacobian cut into blocks: one block per objective and group of parameters.

Write ``g_pO`` for the gradient of objective ``O`` in group ``p`` and ``N_O`` for the norm of all of
objective ``O``'s gradient. Everything J6 decides is a function of the unit blocks
``u_pO = g_pO / N_O`` and of their inner products, so this is computed once, here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class BlockGeometry(NamedTuple):
    """Unit blocks of a Jacobian with K objectives and P groups, and their inner products.

    Attributes:
        units: ``u_pO``, shape ``[K, P, m]``; the blocks of one objective have total norm 1, or all
            are 0 where the objective has no gradient.
        norms: ``N_O``, shape ``[K]``, in the objective's unit per unit of the parameters.
        shares: ``‖u_pO‖²``, shape ``[K, P]``; each row sums to 1, or to 0 without gradient.
        gram: ``⟨u_pO, u_qR⟩``, shape ``[K, P, K, P]``.
        cosines: cosines of all pairs of blocks, shape ``[K, P, K, P]``; 0 where a block is zero.
    """

    units: Tensor
    norms: Tensor
    shares: Tensor
    gram: Tensor
    cosines: Tensor


def block_geometry(jacobian: Tensor) -> BlockGeometry:
    """Normalise a blocked Jacobian and compare its blocks with one another.

    Half-precision input is raised to float32, other types are kept. Each objective is divided by
    its largest entry before its norm is taken, so that no scale of a loss overflows or underflows:
    the result does not change when an objective is multiplied by a positive number. Nothing waits
    for the device.

    Args:
        jacobian: Gradients of K objectives in P groups of m parameters, shape ``[K, P, m]``.

    Returns:
        The geometry, in the working precision.

    Raises:
        TypeError: If ``jacobian`` does not hold floating-point numbers.
        ValueError: If ``jacobian`` is not three-dimensional or has an empty dimension.
    """
    check_jacobian(jacobian)
    g = jacobian.to(torch.promote_types(jacobian.dtype, torch.float32))  # [K, P, m]
    n_objectives, n_groups, m = g.shape
    tiny = torch.finfo(g.dtype).tiny
    peak = g.abs().amax(dim=(1, 2), keepdim=True).clamp_min(tiny)  # [K, 1, 1]
    g = g / peak
    norm = g.flatten(1).norm(dim=1)[:, None, None]  # [K, 1, 1], in [1, sqrt(Pm)] or 0
    units = g / norm.clamp_min(tiny)

    flat = units.reshape(n_objectives * n_groups, m)
    gram = flat @ flat.T  # [KP, KP]
    squared = gram.diagonal()
    lengths = squared.sqrt().clamp_min(tiny)
    cosines = (gram / lengths[:, None] / lengths[None, :]).clamp(-1.0, 1.0)

    blocks = (n_objectives, n_groups)
    return BlockGeometry(
        units=units,
        norms=(norm * peak).reshape(n_objectives),
        shares=squared.reshape(blocks),
        gram=gram.reshape(blocks + blocks),
        cosines=cosines.reshape(blocks + blocks),
    )


def check_jacobian(jacobian: Tensor) -> None:
    """Refuse a tensor that is not a blocked Jacobian.

    Args:
        jacobian: The tensor to look at.

    Raises:
        TypeError: If it does not hold floating-point numbers.
        ValueError: If it is not three-dimensional or has an empty dimension.
    """
    if not jacobian.is_floating_point():
        msg = (
            f"jacobian has dtype {jacobian.dtype}; a floating-point dtype is needed: "
            "convert it, for example jacobian.float()"
        )
        raise TypeError(msg)
    if jacobian.dim() != 3 or 0 in jacobian.shape:
        msg = (
            f"jacobian has shape {list(jacobian.shape)}; [objectives, groups, parameters] with "
            "at least one of each is needed: flatten every group's gradient and stack them"
        )
        raise ValueError(msg)
