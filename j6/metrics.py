"""How right and how sure a model is: what a tuned prompt is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

CONFIDENT = 0.8
"""Probability from which an answer counts as confident."""
BINS = 10
"""Equal bins of the expected calibration error."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Quality on a set of examples; tokens are those of the right answers, teacher-forced.

    Attributes:
        accuracy: Share of examples in which the likeliest token is right throughout, in [0, 1].
        nll: Negative log-likelihood of the right answer, nats per token, mean over examples.
        entropy: Entropy of the predictive distribution, nats per token, mean over examples.
        brier: Brier score in [0, 2], mean over tokens.
        ece: Expected calibration error over tokens, ten equal bins, in [0, 1].
        confident_wrong: Share of tokens that are wrong at a probability of 0.8 or more.
        examples: Number of examples.
    """

    accuracy: float
    nll: float
    entropy: float
    brier: float
    ece: float
    confident_wrong: float
    examples: int

    @property
    def finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return all(map(math.isfinite, self.to_json().values()))

    def to_json(self) -> dict[str, float]:
        """The metrics as a JSON object."""
        return asdict(self)


@torch.no_grad()
def measure(batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Metrics:
    """Measure predictions on the tokens of the right answers.

    Args:
        batches: ``logits`` ``[B, A, V]``, ``labels`` ``[B, A]`` and ``mask`` ``[B, A]`` of each.

    Returns:
        The metrics.

    Raises:
        ValueError: If there are no examples.
    """
    examples: list[Tensor] = []  # per example: right, nll, entropy
    tokens: list[Tensor] = []  # per token: top probability, right, brier
    for logits, labels, mask in batches:
        log_p = torch.log_softmax(logits.float(), -1)
        p = log_p.exp()
        top, guess = p.max(-1)
        right = guess == labels
        on_label = log_p.gather(-1, labels[..., None])[..., 0]
        entropy = torch.special.entr(p).sum(-1)
        score = p.square().sum(-1) - 2 * on_label.exp() + 1
        answer = mask > 0
        count = answer.sum(1)
        examples.append(
            torch.stack(
                [
                    (right | ~answer).all(1).float(),
                    torch.where(answer, -on_label, 0.0).sum(1) / count,
                    torch.where(answer, entropy, 0.0).sum(1) / count,
                ]
            ).cpu()
        )
        tokens.append(torch.stack([top[answer], right[answer].float(), score[answer]]).cpu())
    if not examples:
        msg = "there are no examples to measure: pass at least one"
        raise ValueError(msg)
    per_example, (top, right, score) = torch.cat(examples, dim=1), torch.cat(tokens, dim=1)
    accuracy, nll, entropy = per_example.double().mean(1).tolist()
    wrong = (top >= CONFIDENT) & (right == 0)
    return Metrics(
        accuracy=accuracy,
        nll=nll,
        entropy=entropy,
        brier=score.double().mean().item(),
        ece=calibration_error(top, right),
        confident_wrong=wrong.double().mean().item(),
        examples=per_example.shape[1],
    )


def calibration_error(probability: Tensor, right: Tensor) -> float:
    """Expected calibration error: gap between probability and accuracy, weighted over bins.

    Guo et al., "On calibration of modern neural networks", 2017, equation 3.

    Args:
        probability: Probability of the likeliest token, shape ``[N]``.
        right: 1 where it is right, shape ``[N]``.

    Returns:
        The error in [0, 1].
    """
    bins = (probability * BINS).long().clamp(0, BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64)
    gap.index_add_(0, bins, (probability - right).double())
    return (gap.abs().sum() / len(probability)).item()
