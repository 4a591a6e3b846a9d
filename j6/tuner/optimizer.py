"""Adam on w and h, with a state that can be written down and read back."""

from __future__ import annotations

import torch
from torch import Tensor

from j6.jacobian import assign_direction
from j6.soft_prompt import SoftPrompt

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class PromptOptimizer:
    """Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980) on the vectors of a soft prompt.

    Args:
        soft_prompt: The prompt.
    """

    def __init__(self, soft_prompt: SoftPrompt) -> None:
        self._prompt = soft_prompt
        leaves = soft_prompt.leaves()._asdict()
        self._used: dict[str, Tensor] = {k: v for k, v in leaves.items() if v.numel()}
        self._adam = torch.optim.Adam(self._used.values())

    def step(self, direction: Tensor, learning_rate: float) -> None:
        """Take one step against a direction.

        Args:
            direction: One row per group, shape ``[L + 1, n·d]``.
            learning_rate: Step size.
        """
        assign_direction(direction, self._prompt.leaves())
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments by name, copied."""
        tensors = {name: leaf.detach().clone() for name, leaf in self._used.items()}
        for name, leaf in self._used.items():
            moments = self._adam.state.get(leaf, {})
            tensors |= {f"{name}.{k}": moments[k].clone() for k in MOMENTS if k in moments}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to a state.

        Args:
            tensors: What :meth:`state` gave.
        """
        for name, leaf in self._used.items():
            leaf.copy_(tensors[name])
            found = {k: tensors[f"{name}.{k}"] for k in MOMENTS if f"{name}.{k}" in tensors}
            # Adam keeps its step count on the CPU, the moments beside the parameter.
            self._adam.state[leaf] = {
                k: v.clone() if k == "step" else v.to(leaf.device, copy=True)
                for k, v in found.items()
            }
