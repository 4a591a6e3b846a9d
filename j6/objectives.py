"""What a soft prompt is tuned for: functions of the answer's logits, one value per example.

An objective is minimised. Its function takes ``logits`` ``[B, A, V]`` at the positions that predict
the answer's tokens, ``labels`` ``[B, A]`` and ``mask`` ``[B, A]`` (1 on the answer, labels are 0
elsewhere), and returns ``[B]``. Any such function can be passed to :class:`j6.J6Config`; it is
differentiated with respect to the logits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ObjectiveFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class Objective:
    """A named objective.

    Attributes:
        name: Name in histories and reports.
        function: ``(logits, labels, mask) -> [B]``; with ``needs_reference``, a fourth argument.
        needs_reference: Whether the function also takes the logits of the model without the
            prompt, ``[B, A, V]``; they cost one more forward pass.
    """

    name: str
    function: ObjectiveFunction
    needs_reference: bool = False


def factuality(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of the right answer, in nats per token, shape ``[B]``."""
    return _mean(_Surprisal.apply(logits, labels), mask)  # type: ignore[no-untyped-call]


def confidence(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001 (interface)
    """Entropy of the predictive distribution, in nats per token, shape ``[B]``."""
    return _mean(_Entropy.apply(logits), mask)  # type: ignore[no-untyped-call]


def earned_confidence(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Entropy, shape ``[B]``, while the batch is less sure than it is right, and else 0.

    Sure is the mean probability of the likeliest tokens, right the share of them that are so. A
    model that is confidently wrong is not pushed further, however much confidence is preferred.
    """
    values = confidence(logits, labels, mask)
    with torch.no_grad():
        probability, guess = torch.softmax(logits, -1).max(-1)
        earned = _mean((guess == labels).to(probability) - probability, mask).mean() > 0
    return torch.where(earned, values, torch.zeros_like(values))


def brier(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Brier score ``Σ_v (p_v − 1[v = y])²``, in [0, 2], mean over tokens, shape ``[B]``.

    Brier, "Verification of forecasts expressed in terms of probability", 1950. A proper score:
    it is lowest in the mean when the probabilities are the true frequencies.
    """
    p = torch.softmax(logits, -1)
    right = p.gather(-1, labels[..., None])[..., 0]
    return _mean(p.square().sum(-1) - 2 * right + 1, mask)


def stay_close(logits: Tensor, labels: Tensor, mask: Tensor, reference: Tensor) -> Tensor:  # noqa: ARG001 (interface)
    """Divergence from the model without the prompt, KL(tuned ‖ untuned) in nats per token, [B]."""
    log_p, log_q = torch.log_softmax(logits, -1), torch.log_softmax(reference, -1)
    return _mean((log_p.exp() * (log_p - log_q)).sum(-1), mask)


def answer_length(eos_token_id: int) -> Objective:
    """Expected length, as a share of the right answer's, until the model would end the answer.

    With ``e_t`` the probability of ending at position t of the right answer, the expected number
    of tokens before the end is ``Σ_t Π_{s ≤ t} (1 − e_s)``.

    Args:
        eos_token_id: Id of the token that ends an answer.

    Returns:
        The objective, in [0, 1].
    """

    def length(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001 (interface)
        log_e = torch.log_softmax(logits, -1)[..., eos_token_id]  # [B, A]
        log_go_on = torch.log1p(-log_e.exp().clamp_max(1 - 1e-6)) * mask
        return _mean(log_go_on.cumsum(1).exp(), mask)

    return Objective("length", length)


FACTUALITY = Objective("factuality", factuality)
CONFIDENCE = Objective("confidence", confidence)
BUILT_IN = {
    "factuality": FACTUALITY,
    "confidence": CONFIDENCE,
    "earned_confidence": Objective("earned_confidence", earned_confidence),
    "brier": Objective("brier", brier),
    "stay_close": Objective("stay_close", stay_close, needs_reference=True),
}
"""Objectives that can be named by a string."""


def resolve_objectives(
    objectives: Sequence[str | Objective | ObjectiveFunction],
) -> tuple[Objective, ...]:
    """Turn names and plain functions into objectives.

    Args:
        objectives: Names of built-in objectives, objectives, or functions.

    Returns:
        The objectives, in order.

    Raises:
        TypeError: If they are one string.
        ValueError: If there are none, a name is unknown or two have the same name.
    """
    if isinstance(objectives, str):
        msg = f"objectives is {objectives!r}; a sequence is needed: pass ({objectives!r},)"
        raise TypeError(msg)
    resolved = tuple(map(_resolve, objectives))
    names = [objective.name for objective in resolved]
    if not names or len(set(names)) < len(names):
        msg = f"objectives are {names}; at least one is needed, each with a name of its own"
        raise ValueError(msg)
    return resolved


def _resolve(objective: str | Objective | ObjectiveFunction) -> Objective:
    if isinstance(objective, Objective):
        return objective
    if callable(objective):
        return Objective(getattr(objective, "__name__", type(objective).__name__), objective)
    if objective not in BUILT_IN:
        msg = f"objective {objective!r} is unknown; built in are {', '.join(map(repr, BUILT_IN))}"
        raise ValueError(msg)
    return BUILT_IN[objective]


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the answer's tokens, ``[B, A] -> [B]``; nothing outside the mask gets through."""
    mask = mask.to(values.dtype)
    return torch.where(mask > 0, values, torch.zeros_like(values)).sum(1) / mask.sum(1).clamp_min(1)


# Logits can be the largest tensors of a step. Left to autograd, the two functions below would keep
# several more of their size; by their closed gradients they keep none.


class _Surprisal(torch.autograd.Function):
    """``−log p_y = lse(z) − z_y``, shape ``[B, A]``; its gradient is ``p − onehot(y)``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        lse = logits.logsumexp(-1)
        ctx.save_for_backward(logits, labels, lse)
        return lse - logits.gather(-1, labels[..., None])[..., 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, labels, lse = ctx.saved_tensors
        gradient = (logits - lse[..., None]).exp_()
        label = labels[..., None]
        gradient.scatter_add_(-1, label, gradient.new_full(label.shape, -1.0))
        return gradient * upstream[..., None], None


class _Entropy(torch.autograd.Function):
    """``H = −Σ_v p_v log p_v``, shape ``[B, A]``; its gradient is ``−p · (log p + H)``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        lse = logits.logsumexp(-1)
        log_p = _finite(logits - lse[..., None])
        entropy = -(log_p.exp().mul_(log_p)).sum(-1)
        ctx.save_for_backward(logits, lse, entropy)
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        logits, lse, entropy = ctx.saved_tensors
        log_p = _finite(logits - lse[..., None])
        gradient = log_p.exp().mul_(log_p.add_(entropy[..., None]))
        del log_p  # before the product takes its place
        return gradient * -upstream[..., None]


def _finite(log_p: Tensor) -> Tensor:
    """Make −∞ finite in place, so that p · log p is 0 there."""
    return log_p.clamp_(min=torch.finfo(log_p.dtype).min)
