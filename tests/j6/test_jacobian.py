from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from j6.examples import ExampleEncoder, collate
from j6.jacobian import assign_direction, example_jacobian, example_leaves, leaf_gradients
from j6.objectives import resolve_objectives
from j6.soft_prompt.vectors import Leaves
from j6.tuner.answers import AnswerRunner, frozen
from tests.j6._models import tiny_model
from tests.j6._tasks import PAIRS, tokenizer
from tests.j6.test_soft_prompt import prompt_for


def batch_jacobian(losses: Sequence[Tensor], leaves: Leaves) -> Tensor:
    """The plain way: all losses in one graph, one backward pass each."""
    return torch.stack([leaf_gradients(loss, leaves, keep=True) for loss in losses])


OBJECTIVES = resolve_objectives(["factuality", "confidence"])


def test_batch_jacobian_is_the_mean_of_the_examples_and_agrees_with_backward() -> None:
    model = tiny_model()
    soft_prompt = prompt_for(model)
    batch = collate(ExampleEncoder(tokenizer(), "after_bos", None).encode_all(PAIRS[:4]))
    with soft_prompt.attached(model), frozen(model):
        runner = AnswerRunner(soft_prompt, model)
        leaves = soft_prompt.leaves()
        together = batch_jacobian(runner.losses(batch, OBJECTIVES).mean(1).unbind(), leaves)
        copies = example_leaves(leaves, 4)
        values = runner.losses(batch, OBJECTIVES, copies)
        each = example_jacobian(values.unbind(), copies)
        assert together.shape == (2, 3, 48)
        assert each.shape == (4, 2, 3, 48)
        torch.testing.assert_close(each.mean(0), together, atol=1e-5, rtol=1e-4)
        for row in range(2):
            soft_prompt.zero_grad()
            runner.losses(batch, OBJECTIVES)[row].mean().backward()  # type: ignore[no-untyped-call]
            assert soft_prompt.h.grad is not None
            assert soft_prompt.w.grad is not None
            torch.testing.assert_close(together[row, :2], soft_prompt.h.grad.flatten(1))
            torch.testing.assert_close(together[row, 2], soft_prompt.w.grad.flatten())


def test_the_jacobian_of_a_batch_is_that_of_its_losses() -> None:
    def constant(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return mask.sum(1).float()

    def multiplied_by_zero(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return logits.sum((1, 2)) * 0

    model = tiny_model()
    soft_prompt = prompt_for(model)
    objectives = resolve_objectives(
        ["stay_close", constant, "confidence", "brier", multiplied_by_zero]
    )
    batch = collate(ExampleEncoder(tokenizer(), "after_bos", None).encode_all(PAIRS[:4]))
    with soft_prompt.attached(model), frozen(model):
        runner = AnswerRunner(soft_prompt, model)
        values, found = runner.jacobian(batch, objectives)
        losses = runner.losses(batch, objectives)
        expected = batch_jacobian(losses.mean(1).unbind(), soft_prompt.leaves())
    assert not values.requires_grad
    torch.testing.assert_close(values, losses.detach())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found[0].any()
    assert not found[[1, 4]].any()


def test_constant_objective_has_a_zero_row() -> None:
    soft_prompt = prompt_for(tiny_model())
    leaves = soft_prompt.leaves()
    jacobian = batch_jacobian([leaves.w.sum(), torch.tensor(3.0)], leaves)
    assert jacobian[0, 2].tolist() == [1.0] * 48
    assert not jacobian[0, :2].any()
    assert not jacobian[1].any()


def test_prompt_without_insertions_has_one_group() -> None:
    soft_prompt = prompt_for(tiny_model(), layers=())
    leaves = soft_prompt.leaves()
    assert batch_jacobian([leaves.w.sum()], leaves).shape == (1, 1, 48)
    copies = example_leaves(leaves, 5)
    assert example_jacobian([copies.w.sum((1, 2))], copies).shape == (5, 1, 1, 48)


def test_direction_goes_into_grad() -> None:
    soft_prompt = prompt_for(tiny_model())
    direction = torch.arange(3 * 48.0).reshape(3, 48)
    assign_direction(direction, soft_prompt.leaves())
    assert soft_prompt.h.grad is not None
    assert soft_prompt.w.grad is not None
    assert torch.equal(soft_prompt.h.grad.flatten(1), direction[:2])
    assert torch.equal(soft_prompt.w.grad.flatten(), direction[2])


def test_frozen_leaves_the_model_as_it_was() -> None:
    model = tiny_model()
    model.train()
    model.lm_head.eval()
    model.lm_head.weight.requires_grad_(False)
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        assert not any(m.training for m in model.modules())
    assert model.training
    assert not model.lm_head.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["lm_head.weight"]
