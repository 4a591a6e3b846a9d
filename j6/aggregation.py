"""J6 as a torchjd aggregator or weighting, and any torchjd aggregator in place of J6.

Needs ``pip install torchjd``; nothing else in the package does. Some of its aggregators need more:
``UPGrad`` and ``DualProj`` ``pip install "torchjd[quadprog_projector]"``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from j6.update import J6Update

try:
    from torchjd.aggregation import Aggregator, Weighting
except ImportError as error:
    msg = "j6.aggregation needs torchjd, which is not installed: pip install torchjd"
    raise ImportError(msg) from error


class J6Aggregator(Aggregator):
    """The J6 update on a plain Jacobian whose columns fall into groups.

    Groups of different sizes are padded with zeros, which changes no norm and no inner product
    within a group.

    Args:
        group_sizes: Number of columns of each group, in order; for example the sizes of h and w.
        update: The update to apply; by default ``J6Update()``.

    Raises:
        ValueError: If a size is below 1, or sizes differ while ``update`` compares blocks across
            groups (``components="paper"``).
    """

    def __init__(self, group_sizes: Sequence[int], update: J6Update | None = None) -> None:
        super().__init__()
        self.group_sizes = list(group_sizes)
        self.update = J6Update() if update is None else update
        if not self.group_sizes or min(self.group_sizes) < 1:
            msg = f"group_sizes is {self.group_sizes}; one positive size per group is needed"
            raise ValueError(msg)
        if self.update.components == "paper" and len(set(self.group_sizes)) > 1:
            msg = (
                f"group_sizes is {self.group_sizes}; components='paper' compares groups with one "
                "another and needs equal sizes: use components='gram'"
            )
            raise ValueError(msg)

    def forward(self, matrix: Tensor, /) -> Tensor:
        """Combine the rows of a Jacobian group by group.

        Args:
            matrix: One row per objective, shape ``[K, sum(group_sizes)]``.

        Returns:
            The direction, shape ``[sum(group_sizes)]``.

        Raises:
            ValueError: If the columns are not as many as the groups take.
        """
        if matrix.shape[1] != sum(self.group_sizes):
            msg = (
                f"matrix has {matrix.shape[1]} columns but group_sizes {self.group_sizes} take "
                f"{sum(self.group_sizes)}"
            )
            raise ValueError(msg)
        blocks = [
            block.T for block in torch.split_with_sizes(matrix, self.group_sizes, 1)
        ]  # [size, K] each
        jacobian = torch.nn.utils.rnn.pad_sequence(blocks, batch_first=True)  # [P, m, K]
        direction = self.update(jacobian.permute(2, 0, 1))  # [P, m]
        parts = [d[:size] for d, size in zip(direction, self.group_sizes, strict=True)]
        return torch.cat(parts)

    def __repr__(self) -> str:
        return f"J6Aggregator(group_sizes={self.group_sizes}, update={self.update})"


class J6Weighting(Weighting[Tensor]):
    """The weights J6 gives to the objectives when all parameters form one group.

    Args:
        update: The update to apply, with ``components="gram"``; by default ``J6Update()``.

    Raises:
        ValueError: If ``update`` reads components across groups: there is only one.
    """

    def __init__(self, update: J6Update | None = None) -> None:
        super().__init__()
        self.update = J6Update() if update is None else update
        if self.update.components == "paper":
            msg = "components is 'paper', which compares two groups; a weighting has one: 'gram'"
            raise ValueError(msg)

    def forward(self, gramian: Tensor, /) -> Tensor:
        """Weights of the objectives.

        Args:
            gramian: Inner products of the objectives' gradients, shape ``[K, K]``.

        Returns:
            Weights on the gradients as they are (not on unit gradients), shape ``[K]``.
        """
        # Any rows with this Gramian will do: the update is a function of inner products alone.
        values, vectors = torch.linalg.eigh(gramian)
        rows = vectors * values.clamp_min(0.0).sqrt()  # [K, K], rows @ rows.T == gramian
        mixing = self.update.step(rows[:, None, :]).mixing  # [K, 1]
        norms = gramian.diagonal().clamp_min(torch.finfo(gramian.dtype).tiny).sqrt()
        return mixing[:, 0] / norms


class AggregatorUpdate:
    """Any torchjd aggregator as an update: what :class:`j6.J6Tuner` takes in place of J6.

    Args:
        aggregator: A torchjd aggregator; it sees one row per objective over all parameters.
    """

    def __init__(self, aggregator: Aggregator) -> None:
        self.aggregator = aggregator

    def __call__(self, jacobian: Tensor) -> Tensor:
        """Combine the objectives' gradients.

        Args:
            jacobian: Gradients of K objectives in P groups, shape ``[K, P, m]``.

        Returns:
            The direction, shape ``[P, m]``.
        """
        direction = self.aggregator(jacobian.flatten(1))
        return direction.reshape(jacobian.shape[1:])

    def __repr__(self) -> str:
        return f"AggregatorUpdate({self.aggregator!r})"
