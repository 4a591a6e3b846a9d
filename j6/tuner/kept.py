"""Gradients that are computed at every n-th step only, and used again in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor


class KeptGradients:
    """The last gradients of all objectives but one, for the steps at which they are not computed.

    After lazy regularisation (Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 3.1).
    There a term is left out in between and multiplied by n when it comes; here its last gradient
    is used n times, since J6 gives every gradient norm 1 and would undo the factor.

    Args:
        objectives: Names of the K objectives.
        fresh: Number of the one that is never kept.
        every: Steps n from one computation of all gradients to the next; the first is step 1.

    Attributes:
        rows: Last gradients by the objective's name, shape ``[P, m]`` each; empty for n = 1.
    """

    def __init__(self, objectives: Sequence[str], fresh: int, every: int) -> None:
        self._kept = {name: row for row, name in enumerate(objectives) if row != fresh}
        self._every = every
        self.rows: dict[str, Tensor] = {}

    def for_step(self, step: int) -> Mapping[str, Tensor]:
        """What a step uses in place of new gradients.

        Args:
            step: Number of the step, from 1.

        Returns:
            Gradients by the objective's name; none where all are computed.
        """
        return {} if (step - 1) % self._every == 0 else self.rows

    def keep(self, jacobian: Tensor) -> None:
        """Keep the gradients of a step at which all were computed.

        Args:
            jacobian: Finite gradients, shape ``[K, P, m]``.
        """
        if self._every > 1:
            self.rows = {name: jacobian[row].clone() for name, row in self._kept.items()}

    def restore(self, rows: Mapping[str, Tensor], like: Tensor, folder: Path) -> None:
        """Go on from a checkpoint.

        Args:
            rows: Its :attr:`rows`.
            like: A tensor of their shape, on their device.
            folder: Where it is, for the error.

        Raises:
            ValueError: If one that is needed is missing, of another shape or not finite.
        """
        for name in self._kept if self._every > 1 else ():
            row = rows.get(name)
            if row is None:
                wrong = "is missing"
            elif row.shape != like.shape:
                wrong = f"has shape {list(row.shape)}"
            elif not row.isfinite().all():
                wrong = "holds NaN or infinity"
            else:
                self.rows[name] = row.to(like.device)
                continue
            msg = (
                f"{folder} holds a broken checkpoint: the kept gradient of {name!r} {wrong}; "
                f"finite numbers of shape {list(like.shape)} are needed: use another folder, or "
                "start over with resume=False (on the command line --restart)"
            )
            raise ValueError(msg)
