"""Families of Jacobians the algebra is tested on."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor


def random_jacobian(
    seed: int,
    n_objectives: int = 2,
    n_groups: int = 2,
    m: int = 12,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n_objectives, n_groups, m)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@st.composite
def jacobians(
    draw: st.DrawFn, n_objectives: int | None = None, n_groups: int | None = None
) -> Tensor:
    """Random, low-rank, conflicting, partly zero and badly scaled Jacobians in float64."""
    rows = n_objectives or draw(st.integers(1, 4))
    groups = n_groups or draw(st.integers(1, 3))
    m = draw(st.integers(1, 9))
    jacobian = random_jacobian(draw(st.integers(0, 2**31)), rows, groups, m)
    kind = draw(st.sampled_from(["random", "equal", "opposite", "zero row", "zero block", "near"]))
    if kind == "equal":
        jacobian[-1] = jacobian[0]
    elif kind == "opposite":
        jacobian[-1] = -jacobian[0] * 3.0
    elif kind == "zero row":
        jacobian[draw(st.integers(0, rows - 1))] = 0.0
    elif kind == "zero block":
        jacobian[draw(st.integers(0, rows - 1)), draw(st.integers(0, groups - 1))] = 0.0
    elif kind == "near":
        jacobian[-1] = -jacobian[0] + 1e-5 * jacobian[-1]
    exponents = [draw(st.sampled_from([-80, -15, 0, 3, 90])) for _ in range(rows)]
    scales = torch.tensor([10.0**e for e in exponents], dtype=torch.float64)
    return jacobian * scales[:, None, None]
