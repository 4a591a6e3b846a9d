from __future__ import annotations

import pytest
import torch

from j6 import J6Update
from tests.j6._jacobians import random_jacobian

torchjd = pytest.importorskip("torchjd")
from torchjd import aggregation as tjd  # noqa: E402 (after the check that it is there)
from torchjd import autojac  # noqa: E402

from j6.aggregation import AggregatorUpdate, J6Aggregator, J6Weighting  # noqa: E402


def test_aggregator_is_the_update_on_flattened_groups() -> None:
    jacobian = random_jacobian(0, 3, 2, 5)
    aggregator = J6Aggregator([5, 5], J6Update(components="paper"))
    expected = J6Update(components="paper")(jacobian).flatten()
    torch.testing.assert_close(aggregator(jacobian.flatten(1)), expected)


def test_groups_may_differ_in_size() -> None:
    jacobian = random_jacobian(1, 2, 2, 5)
    jacobian[:, 1, 3:] = 0.0
    matrix = torch.cat([jacobian[:, 0], jacobian[:, 1, :3]], dim=1)
    expected = J6Update()(jacobian)
    found = J6Aggregator([5, 3])(matrix)
    torch.testing.assert_close(found, torch.cat([expected[0], expected[1, :3]]))


def test_weighting_gives_the_one_group_direction() -> None:
    jacobian = random_jacobian(2, 3, 1, 7)
    matrix = jacobian[:, 0]
    weights = J6Weighting()(matrix @ matrix.T)
    torch.testing.assert_close(weights @ matrix, J6Update()(jacobian)[0])


def test_runs_in_torchjds_own_backward() -> None:
    h = torch.randn(3, requires_grad=True)
    w = torch.randn(3, requires_grad=True)
    losses = torch.stack([(h * w).sum().square(), (h - w).square().sum()])
    jacobian = torch.stack(
        [torch.stack(torch.autograd.grad(x, [h, w], retain_graph=True)) for x in losses]
    )
    autojac.backward(losses, inputs=[h, w])
    autojac.jac_to_grad([h, w], J6Aggregator([3, 3]))
    assert h.grad is not None
    assert w.grad is not None
    torch.testing.assert_close(torch.stack([h.grad, w.grad]), J6Update()(jacobian))


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "AlignedMTL", "PCGrad", "IMTLG", "Mean"])
def test_any_torchjd_aggregator_is_an_update(name: str) -> None:
    if name == "UPGrad":
        pytest.importorskip("quadprog")
    aggregator = getattr(tjd, name)()
    jacobian = random_jacobian(3, dtype=torch.float32)
    torch.manual_seed(0)  # PCGrad shuffles
    direction = AggregatorUpdate(aggregator)(jacobian)
    torch.manual_seed(0)
    torch.testing.assert_close(direction.flatten(), aggregator(jacobian.flatten(1)))


def test_wrong_groups_are_refused() -> None:
    with pytest.raises(ValueError, match=r"group_sizes is \[3, 0\]"):
        J6Aggregator([3, 0])
    with pytest.raises(ValueError, match="needs equal sizes"):
        J6Aggregator([3, 2], J6Update(components="paper"))
    with pytest.raises(ValueError, match="5 columns but group_sizes"):
        J6Aggregator([3, 3])(torch.ones(2, 5))
    with pytest.raises(ValueError, match="compares two groups"):
        J6Weighting(J6Update(components="paper"))
