from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from j6 import Objective, answer_length
from j6.metrics import calibration_error, measure
from j6.objectives import (
    BUILT_IN,
    ObjectiveFunction,
    brier,
    confidence,
    earned_confidence,
    factuality,
    resolve_objectives,
    stay_close,
)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 7, dtype=torch.float64)
    labels = torch.randint(0, 7, (3, 4))
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]])
    return logits, labels, mask


def loops(batch: tuple[Tensor, Tensor, Tensor], term: str) -> list[float]:
    values = []
    for logits, labels, mask in zip(*batch, strict=True):
        terms = []
        for row, label, use in zip(logits.tolist(), labels.tolist(), mask.tolist(), strict=True):
            if not use:
                continue
            total = math.fsum(math.exp(x) for x in row)
            p = [math.exp(x) / total for x in row]
            if term == "factuality":
                terms.append(-math.log(p[label]))
            elif term == "confidence":
                terms.append(-math.fsum(q * math.log(q) for q in p))
            else:
                terms.append(math.fsum((q - (v == label)) ** 2 for v, q in enumerate(p)))
        values.append(math.fsum(terms) / len(terms))
    return values


@pytest.mark.parametrize("name", ["factuality", "confidence", "brier"])
def test_agrees_with_the_loops(name: str, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    expected = torch.tensor(loops(batch, name), dtype=torch.float64)
    torch.testing.assert_close(BUILT_IN[name].function(*batch), expected)


@pytest.mark.parametrize("name", [*BUILT_IN, "length"])
def test_gradients_are_those_of_the_values(name: str, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, mask = batch
    objective = BUILT_IN.get(name) or answer_length(2)
    extra = (logits.flip(-1),) if objective.needs_reference else ()
    assert torch.autograd.gradcheck(
        lambda z: objective.function(z, labels, mask, *extra), logits.requires_grad_()
    )


def test_impossible_tokens_count_for_nothing(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, mask = batch
    some = torch.full((3, 4, 2), -math.inf, dtype=logits.dtype)
    assert math.isfinite(measure([(torch.cat([logits, some], -1), labels, mask)]).entropy)
    for function in (factuality, confidence):
        longer = torch.cat([logits, some], -1).requires_grad_()
        value = function(longer, labels, mask)
        torch.testing.assert_close(value, function(logits, labels, mask))
        (gradient,) = torch.autograd.grad(value.sum(), longer)
        assert gradient.isfinite().all()
        assert not gradient[..., -2:].any()


@pytest.mark.parametrize("function", [factuality, confidence, brier])
def test_nothing_outside_the_answer_counts(
    function: ObjectiveFunction, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, labels, mask = batch
    changed = torch.where(mask[..., None] > 0, logits, torch.full_like(logits, float("nan")))
    torch.testing.assert_close(function(changed, labels, mask), function(*batch))


def test_stay_close_is_zero_at_the_reference(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    torch.testing.assert_close(stay_close(*batch, batch[0]), torch.zeros(3, dtype=torch.float64))
    assert (stay_close(*batch, batch[0].flip(-1)) > 0).all()


def test_confidence_counts_only_while_it_is_earned() -> None:
    mask, labels = torch.ones(4, 2), torch.zeros(4, 2, dtype=torch.long)
    logits = torch.zeros(4, 2, 5)
    logits[..., 0] = 1.0  # right, at a probability of 0.4
    torch.testing.assert_close(
        earned_confidence(logits, labels, mask), confidence(logits, labels, mask)
    )
    for wrong in (labels + 1, torch.where(torch.arange(4)[:, None] < 1, 0, labels + 1)):
        assert not earned_confidence(logits, wrong, mask).any()  # right in none, and in a quarter
    half = torch.where(torch.arange(4)[:, None] < 2, 0, labels + 1)
    assert earned_confidence(logits, half, mask).all()  # 0.5 is above 0.4
    padded = torch.cat([logits, 9 * torch.ones(4, 2, 5).tril()], 1)  # sure, but not the answer
    labels, mask = (torch.cat([x, torch.zeros_like(x)], 1) for x in (labels, mask))
    assert earned_confidence(padded, labels, mask).all()


def test_length_counts_the_steps_before_the_end() -> None:
    logits = torch.full((1, 3, 4), -20.0)
    logits[0, :, 1] = 20.0
    labels, mask = torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3)
    never = answer_length(2).function(logits, labels, mask)
    torch.testing.assert_close(never, torch.ones(1))
    logits[0, 1, 2] = 60.0
    ends_second = answer_length(2).function(logits, labels, mask)
    torch.testing.assert_close(ends_second, torch.full((1,), 1 / 3), atol=1e-5, rtol=0)


def test_names_functions_and_objectives_resolve() -> None:
    def shortness(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return logits.sum((1, 2))

    found = resolve_objectives(["factuality", shortness, Objective("own", shortness)])
    assert [o.name for o in found] == ["factuality", "shortness", "own"]
    with pytest.raises(ValueError, match="objective 'truth' is unknown; built in are 'factuality'"):
        resolve_objectives(["truth"])
    with pytest.raises(ValueError, match="each with a name of its own"):
        resolve_objectives(["brier", "brier"])
    with pytest.raises(ValueError, match="at least one"):
        resolve_objectives([])


def test_metrics_of_known_predictions() -> None:
    p = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
    labels = torch.tensor([[0], [1], [1], [1]])
    metrics = measure([(p.log(), labels, torch.ones(4, 1))])
    assert metrics.accuracy == 0.75
    assert metrics.confident_wrong == 0.25
    assert metrics.examples == 4
    assert metrics.nll == pytest.approx(-(math.log(0.9) + math.log(0.1) + 2 * math.log(0.6)) / 4)
    assert metrics.brier == pytest.approx((0.02 + 1.62 + 2 * 0.32) / 4)
    assert metrics.ece == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


def test_an_example_is_right_when_all_its_tokens_are() -> None:
    logits = torch.tensor([[[5.0, 0.0], [0.0, 5.0]], [[5.0, 0.0], [0.0, 5.0]]])
    labels, mask = torch.tensor([[0, 0], [1, 1]]), torch.tensor([[1, 1], [0, 1]])
    assert measure([(logits, labels, mask)]).accuracy == 0.5


def test_calibration_error_is_zero_when_calibrated() -> None:
    right = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert calibration_error(torch.full((4,), 0.75), right) == pytest.approx(0.0)


def test_no_examples_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="no examples to measure"):
        measure([])
