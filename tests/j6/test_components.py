from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from j6 import COMPONENT_NAMES, SixScores, block_geometry, decompose
from tests.j6 import _twin
from tests.j6._jacobians import jacobians, random_jacobian


def test_raw_components_are_the_papers_inner_products() -> None:
    jacobian = random_jacobian(0)
    (j11, j12), (j21, j22) = jacobian
    components = decompose(jacobian)
    expected = (j11 @ j11, j11 @ j22, j12 @ j12, j21 @ j21, j22 @ j22, j21 @ j12)
    for name, value in zip(COMPONENT_NAMES, expected, strict=True):
        torch.testing.assert_close(getattr(components, name), value)
        torch.testing.assert_close(getattr(components.raw, name), value)


def test_component_names_are_the_fields_in_order() -> None:
    assert SixScores._fields == COMPONENT_NAMES


@given(jacobians(n_objectives=2, n_groups=2))
def test_normalised_components_agree_with_loops(jacobian: Tensor) -> None:
    (u_hf, u_wf), (u_hc, u_wc) = _twin.units(jacobian)
    expected = SixScores(
        *map(
            torch.tensor,
            (
                _twin.dot(u_hf, u_hf),
                _twin.cosine(u_hf, u_wc),
                _twin.dot(u_wf, u_wf),
                _twin.dot(u_hc, u_hc),
                _twin.dot(u_wc, u_wc),
                _twin.cosine(u_hc, u_wf),
            ),
        )
    )
    found = decompose(jacobian).normalised
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.double(), atol=1e-6, rtol=1e-6)


@given(jacobians())
def test_shares_of_each_objective_sum_to_one_or_zero(jacobian: Tensor) -> None:
    sums = block_geometry(jacobian).shares.sum(1)
    expected = (jacobian.abs().amax((1, 2)) > 0).double()
    torch.testing.assert_close(sums, expected)


@given(jacobians())
def test_cosines_are_a_bounded_symmetric_matrix(jacobian: Tensor) -> None:
    cosines = block_geometry(jacobian).cosines.flatten(2).flatten(0, 1)
    torch.testing.assert_close(cosines, cosines.T)
    assert cosines.abs().max() <= 1.0


def test_agreement_says_conflict_and_synergy_per_group() -> None:
    jacobian = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[-3.0, 0.0], [1.0, 0.0]]])
    components = decompose(jacobian)
    assert components.agreement.tolist() == [-1.0, 1.0]
    assert components.conflict.tolist() == [1.0, 0.0]
    assert components.synergy.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1.0, 1e20, 1e36])
def test_float32_survives_any_scale(scale: float) -> None:
    jacobian = random_jacobian(1, dtype=torch.float32)
    reference = decompose(jacobian).normalised
    scaled = decompose(jacobian * scale).normalised
    for a, b in zip(scaled, reference, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    jacobian = random_jacobian(2, dtype=dtype)
    components = decompose(jacobian)
    assert components.shares.dtype == torch.float32
    torch.testing.assert_close(components.shares, decompose(jacobian.float()).shares)


def test_other_numbers_of_blocks_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"3 objectives and 2 groups.*block_geometry"):
        decompose(torch.ones(3, 2, 4))


@pytest.mark.parametrize(
    ("jacobian", "error", "match"),
    [
        (torch.ones(2, 4), ValueError, r"shape \[2, 4\]"),
        (torch.ones(2, 2, 0), ValueError, r"shape \[2, 2, 0\]"),
        (torch.ones(2, 2, 3, dtype=torch.long), TypeError, r"int64.*jacobian.float"),
    ],
)
def test_what_is_no_jacobian_is_refused(
    jacobian: Tensor, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        block_geometry(jacobian)
