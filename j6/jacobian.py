"""Gradients of objectives with respect to the groups of a soft prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from j6.soft_prompt.vectors import Leaves


def leaf_gradients(
    output: Tensor, leaves: Leaves, upstream: Tensor | None = None, *, keep: bool = False
) -> Tensor:
    """One backward pass to the leaves.

    Args:
        output: What is differentiated: a scalar, or a tensor of which ``upstream`` is the gradient.
        leaves: h ``[L, n, d]`` and w ``[n, d]``. Groups are the L layers of h, then w.
        upstream: Gradient with respect to ``output``, same shape.
        keep: Whether another backward pass follows.

    Returns:
        The gradients, shape ``[L + 1, n·d]``; zero where ``output`` is constant.
    """
    h, w = _gradients(output, leaves, keep, upstream)
    return torch.cat([h, w[None]]).flatten(1)


def example_jacobian(losses: Sequence[Tensor], leaves: Leaves) -> Tensor:
    """Gradients of the objectives of every example, from the same number of backward passes.

    Args:
        losses: K tensors ``[B]`` from one forward pass, each example seeing its own leaves.
        leaves: Copies per example (:func:`example_leaves`): h ``[L, B, n, d]``, w ``[B, n, d]``.

    Returns:
        The Jacobians, shape ``[B, K, L + 1, n·d]``.
    """
    rows = []
    for row, loss in enumerate(losses):
        h, w = _gradients(loss.sum(), leaves, row + 1 < len(losses))
        rows.append(torch.cat([h, w[None]]).flatten(2))  # [P, B, n·d]
    return torch.stack(rows).permute(2, 0, 1, 3)


def example_leaves(leaves: Leaves, batch: int) -> Leaves:
    """Give each example a copy of its own of h and w.

    Args:
        leaves: h ``[L, n, d]`` and w ``[n, d]``.
        batch: Number B of examples.

    Returns:
        h ``[L, B, n, d]`` and w ``[B, n, d]``, detached, with gradients on.
    """
    h = leaves.h.detach()[:, None].expand(-1, batch, -1, -1)
    w = leaves.w.detach()[None].expand(batch, -1, -1)
    return Leaves(h.clone().requires_grad_(), w.clone().requires_grad_())


def assign_direction(direction: Tensor, leaves: Leaves) -> None:
    """Put a direction into the ``.grad`` of h and w.

    Args:
        direction: One row per group, shape ``[L + 1, n·d]``.
        leaves: The parameters h ``[L, n, d]`` and w ``[n, d]``.
    """
    h, w = leaves
    h.grad = direction[:-1].reshape(h.shape).to(h.dtype)
    w.grad = direction[-1].reshape(w.shape).to(w.dtype)


def _gradients(
    output: Tensor, leaves: Leaves, keep: bool, upstream: Tensor | None = None
) -> Leaves:
    if not output.requires_grad:  # a constant objective
        return Leaves(torch.zeros_like(leaves.h), torch.zeros_like(leaves.w))
    # Without insertions h has no elements and no place in the graph.
    used = [leaf for leaf in leaves if leaf.numel()]
    found = torch.autograd.grad(output, used, upstream, retain_graph=keep, materialize_grads=True)
    return Leaves(found[0] if len(used) > 1 else torch.zeros_like(leaves.h), found[-1])
