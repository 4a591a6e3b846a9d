from __future__ import annotations

import itertools
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from j6 import J6Update, block_geometry
from tests.j6 import _twin
from tests.j6._jacobians import jacobians, random_jacobian

Policy = Literal["soft", "hard"]
Reading = Literal["paper", "gram"]
READINGS: tuple[Reading, ...] = ("paper", "gram")
POLICIES: tuple[Policy, ...] = ("soft", "hard")
BOTH = list(itertools.product(READINGS, POLICIES))


class NoHostSync(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it untyped
    """Fails on the operations that make the host wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not any(s in name for s in ("_local_scalar_dense", "nonzero", "is_nonzero")), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("components", "policy"), BOTH)
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_loops(components: Reading, policy: Policy, seed: int) -> None:
    jacobian = random_jacobian(seed)
    update = J6Update(policy, components, priority="factuality")
    expected = _twin.j6_two_by_two(jacobian, components, 0.3 if policy == "soft" else None)
    torch.testing.assert_close(update(jacobian), expected)


@given(jacobians(), st.sampled_from(READINGS), st.sampled_from(POLICIES), st.data())
def test_every_group_descends_the_priority(
    jacobian: Tensor, components: Reading, policy: Policy, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(jacobian) - 1))
    preference = [data.draw(st.floats(-3, 3)) for _ in jacobian]
    update = J6Update(policy, components, priority=row, preference=preference)
    direction = update(jacobian)
    first = block_geometry(jacobian).units[row]
    descent = (direction * first).sum(1)
    assert (descent >= -1e-12).all()


@given(jacobians(), st.sampled_from(READINGS), st.sampled_from(POLICIES))
def test_scale_of_an_objective_does_not_matter(
    jacobian: Tensor, components: Reading, policy: Policy
) -> None:
    update = J6Update(policy, components)
    scales = torch.tensor([2.0**k for k in range(len(jacobian))], dtype=torch.float64)
    torch.testing.assert_close(update(jacobian * scales[:, None, None]), update(jacobian))


@given(jacobians(n_groups=3), st.sampled_from(READINGS), st.sampled_from(POLICIES))
def test_permuting_groups_permutes_the_direction(
    jacobian: Tensor, components: Reading, policy: Policy
) -> None:
    update = J6Update(policy, components)
    order = [2, 0, 1]
    if policy == "hard" and _nearly_tied(update, jacobian):
        return
    torch.testing.assert_close(update(jacobian[:, order]), update(jacobian)[order])


@given(jacobians(n_objectives=3), st.sampled_from(READINGS), st.sampled_from(POLICIES))
def test_permuting_objectives_changes_nothing_without_priority(
    jacobian: Tensor, components: Reading, policy: Policy
) -> None:
    update = J6Update(policy, components, priority=None)
    if policy == "hard" and _nearly_tied(update, jacobian):
        return
    torch.testing.assert_close(update(jacobian[[2, 0, 1]]), update(jacobian))


@given(jacobians(), st.sampled_from(READINGS))
def test_hard_is_the_limit_of_soft(jacobian: Tensor, components: Reading) -> None:
    hard = J6Update("hard", components)
    if _nearly_tied(hard, jacobian):
        return
    soft = J6Update("soft", components, temperature=1e-9)
    torch.testing.assert_close(soft(jacobian), hard(jacobian))


@given(jacobians(), st.sampled_from(READINGS), st.sampled_from(POLICIES))
def test_attention_sums_to_one(jacobian: Tensor, components: Reading, policy: Policy) -> None:
    attention = J6Update(policy, components).step(jacobian).attention
    torch.testing.assert_close(attention.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_equal_scores_share_in_hard() -> None:
    jacobian = torch.eye(4).reshape(2, 2, 4)
    attention = J6Update("hard").step(jacobian).attention
    assert attention.tolist() == [0.25, 0.25, 0.25, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_that_rounding_tells_apart_share_in_hard(dtype: torch.dtype) -> None:
    scores = []
    for seed in range(20):  # one group, so that every objective's share of it is 1
        step = J6Update("hard").step(random_jacobian(seed, 2, 1, 6, dtype))
        assert step.attention.tolist() == [0.5, 0.5, 0.0]
        scores += step.scores[:2].tolist()
    assert len(set(scores)) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_direction_keeps_dtype_and_shape(dtype: torch.dtype) -> None:
    direction = J6Update()(random_jacobian(0, 3, 4, 5, dtype))
    assert direction.dtype == dtype
    assert direction.shape == (4, 5)


@pytest.mark.parametrize(("components", "policy"), BOTH)
def test_nothing_waits_for_the_device(components: Reading, policy: Policy) -> None:
    update = J6Update(policy, components, preference=0.5)
    with NoHostSync():  # type: ignore[no-untyped-call] # torch leaves it untyped
        update(random_jacobian(0))


def test_runs_where_there_are_no_values() -> None:
    assert J6Update()(torch.empty(3, 2, 5, device="meta")).shape == (2, 5)


def test_works_under_vmap() -> None:
    batch = torch.stack([random_jacobian(seed) for seed in range(4)])
    update = J6Update()
    together = torch.func.vmap(lambda jacobian: update(jacobian))(batch)
    torch.testing.assert_close(together, torch.stack([update(jacobian) for jacobian in batch]))


def test_constant_objective_takes_no_part() -> None:
    jacobian = random_jacobian(3)
    jacobian[1] = 0.0
    direction = J6Update()(jacobian)
    cosines = torch.nn.functional.cosine_similarity(direction, jacobian[0], dim=1)
    torch.testing.assert_close(cosines, torch.ones(2, dtype=torch.float64))


def test_identical_objectives_give_their_own_direction() -> None:
    jacobian = random_jacobian(4)
    jacobian[1] = jacobian[0]
    direction = J6Update()(jacobian)
    cosines = torch.nn.functional.cosine_similarity(direction, jacobian[0], dim=1)
    torch.testing.assert_close(cosines, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("preference", [0.0, -50.0])
def test_opposite_objectives_follow_the_priority_alone(
    dtype: torch.dtype, preference: float
) -> None:
    jacobian = random_jacobian(5, dtype=dtype)
    jacobian[1] = -jacobian[0] * 0.3
    step = J6Update(preference=preference).step(jacobian)
    assert step.mixing[1].tolist() == [0.0, 0.0]
    expected = step.coefficients[0][:, None] * step.geometry.units[0]
    torch.testing.assert_close(step.direction, expected)


def test_opposite_objectives_without_priority_cancel() -> None:
    jacobian = random_jacobian(5)
    jacobian[1] = -jacobian[0]
    direction = J6Update(priority=None)(jacobian)
    torch.testing.assert_close(direction, torch.zeros_like(direction))


def test_all_zero_gives_zero() -> None:
    assert not J6Update()(torch.zeros(2, 2, 3)).any()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_number_is_not_hidden(policy: Policy, bad: float) -> None:
    jacobian = random_jacobian(6)
    jacobian[1, 0, 2] = bad
    assert J6Update(policy)(jacobian).isnan().all()


def test_preference_moves_weight_between_the_objectives() -> None:
    jacobian = random_jacobian(7)
    weights = [
        J6Update(preference=preference).step(jacobian).coefficients.sum(1)
        for preference in (-1.0, 0.0, 1.0)
    ]
    assert weights[0][0] < weights[1][0] < weights[2][0]
    assert weights[0][1] > weights[1][1] > weights[2][1]


def test_number_of_interactions() -> None:
    assert J6Update(components="gram").interactions(2, 2) == [(0, 0, 1, 0), (0, 1, 1, 1)]
    assert J6Update(components="paper").interactions(2, 2) == [(0, 0, 1, 1), (0, 1, 1, 0)]
    assert len(J6Update(components="gram").interactions(4, 3)) == 18
    assert len(J6Update(components="paper").interactions(4, 3)) == 36


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"policy": "sfot"}, "policy is 'sfot'; allowed are 'soft', 'hard'"),
        ({"components": "raw"}, "components is 'raw'; allowed are"),
        ({"temperature": 0.0}, "temperature is 0.0.*policy='hard'"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"preference": float("inf")}, "preference is inf"),
        ({"preference": "a"}, "preference is 'a'; a number"),
        ({"preference": None}, "preference is None; a number"),
        ({"priority": True}, "priority is True; a whole number, a name or None"),
        ({"temperature": "a"}, "temperature is 'a'; a number"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        J6Update(**arguments)


def test_settings_that_do_not_fit_the_jacobian_are_refused() -> None:
    with pytest.raises(ValueError, match="priority is 2 but the jacobian has 2 objectives"):
        J6Update(priority=2)(random_jacobian(0))
    with pytest.raises(ValueError, match=r"priority is 'truth'.*one of 'factuality', 'confidence'"):
        J6Update(priority="truth")(random_jacobian(0))
    with pytest.raises(ValueError, match="gives 2 biases for 3 objectives"):
        J6Update(preference=1.0)(random_jacobian(0, 3))


def _nearly_tied(update: J6Update, jacobian: Tensor) -> bool:
    scores = update.step(jacobian).scores
    return len(scores) > 1 and bool((scores.topk(2).values.diff().abs() < 1e-6).all())


def test_names_find_their_rows_wherever_they_stand() -> None:
    jacobian = random_jacobian(0, 3)  # rows: confidence, truth, factuality
    names = ("confidence", "truth", "factuality")
    for update, rows in (
        (J6Update(), J6Update(priority=2)),
        (J6Update(priority="truth"), J6Update(priority=1)),
        (J6Update(preference=1.0), J6Update(priority=2, preference=(-0.5, 0.0, 0.5))),
        (J6Update(priority=None), J6Update(priority=None)),
        (J6Update(priority=1), J6Update(priority=1)),
    ):
        torch.testing.assert_close(update.for_objectives(names)(jacobian), rows(jacobian))


def test_names_that_are_not_there_are_refused() -> None:
    names = ("brier", "confidence")
    with pytest.raises(ValueError, match="'factuality' but the objectives are brier, confidence"):
        J6Update().for_objectives(names)
    with pytest.raises(ValueError, match=r"preference is 1\.0, between factuality and confidence"):
        J6Update(priority=None, preference=1.0).for_objectives(names)
