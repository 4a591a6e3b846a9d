"""Running a model on batches of prompts and answers, with and without the soft prompt."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from j6.examples import Batch
from j6.jacobian import leaf_gradients
from j6.metrics import Metrics, measure
from j6.objectives import Objective
from j6.settings import check_type
from j6.soft_prompt import SoftPrompt
from j6.soft_prompt.vectors import Leaves
from j6.tuner.prefix import PrefixCache


class AnswerRunner:
    """A model with a soft prompt attached, seen as a function from batches to answer logits.

    Args:
        soft_prompt: The prompt, attached to ``model``.
        model: The model.
        prefix: Keys and values of tokens that stand before every batch, or ``None``.
    """

    def __init__(
        self, soft_prompt: SoftPrompt, model: nn.Module, prefix: PrefixCache | None = None
    ) -> None:
        self.soft_prompt = soft_prompt
        self.model = model
        self.prefix = prefix
        accepted = inspect.signature(model.forward).parameters
        self._trims = "logits_to_keep" in accepted
        self._takes_positions = "position_ids" in accepted

    def logits(self, batch: Batch, leaves: Leaves | None = None) -> Tensor:
        """Logits that predict the answers' tokens, with the prompt in.

        Args:
            batch: The batch, answers in the last columns.
            leaves: Values to use in place of the prompt's parameters.

        Returns:
            Logits in float32, shape ``[B, A, V]``.
        """
        output = self.soft_prompt(
            batch.input_ids[:, :-1],  # the last token predicts nothing
            batch.attention_mask[:, :-1],
            insert_at=batch.insert_at,
            leaves=leaves,
            **self._options(batch),
        )
        return self._on_answer(output, batch)

    @torch.no_grad()
    def reference(self, batch: Batch) -> Tensor:
        """The same without the prompt.

        Args:
            batch: The batch.

        Returns:
            Logits in float32, shape ``[B, A, V]``.
        """
        options = self._options(batch)
        before = 0 if self.prefix is None else self.prefix.length
        ids, attended = batch.input_ids[:, :-1], batch.attention_mask[:, :-1]
        mask = torch.nn.functional.pad(attended, (before, 0), value=1)
        if self._takes_positions:
            options["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, before:]
        with self.soft_prompt.disabled():
            output = self.model(input_ids=ids, attention_mask=mask, **options)
        return self._on_answer(output, batch)

    def losses(
        self, batch: Batch, objectives: Sequence[Objective], leaves: Leaves | None = None
    ) -> Tensor:
        """Values of the objectives from one forward pass.

        Args:
            batch: The batch.
            objectives: K objectives.
            leaves: Values to use in place of the prompt's parameters.

        Returns:
            One value per objective and example, shape ``[K, B]``.

        Raises:
            ValueError: If an objective does not give one value per example.
        """
        reference = self._reference_for(objectives, batch)
        logits = self.logits(batch, leaves)
        return torch.stack([_values(o, logits, batch, reference) for o in objectives])

    def jacobian(
        self,
        batch: Batch,
        objectives: Sequence[Objective],
        kept: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Values of the objectives, and the gradients of their means, from one forward pass.

        Objectives see the prompt through the logits alone. So each is differentiated down to the
        logits by itself, and what that takes is freed before the next one's turn.

        Args:
            batch: The batch.
            objectives: K objectives.
            kept: Gradients ``[L + 1, n·d]`` to take as they are, by the objective's name; their
                objectives' values are of this batch, but are not differentiated.

        Returns:
            Values, shape ``[K, B]``, and Jacobian, shape ``[K, L + 1, n·d]``; zero where an
            objective is constant.

        Raises:
            ValueError: If an objective does not give one value per example.
        """
        reference = self._reference_for(objectives, batch)
        logits, leaves = self.logits(batch), self.soft_prompt.leaves()
        kept = kept or {}
        passes = sum(objective.name not in kept for objective in objectives)
        found, rows = [], []
        for objective in objectives:
            row = kept.get(objective.name)
            cut = logits.detach().requires_grad_(row is None)
            values = _values(objective, cut, batch, reference)
            found.append(values.detach())
            if row is None:
                passes -= 1
                # No name for what comes from above: it would outlive its turn.
                row = leaf_gradients(logits, leaves, _upstream(values, cut), keep=passes > 0)
            rows.append(row)
        return torch.stack(found), torch.stack(rows)

    @torch.no_grad()
    def measure(self, batches: Iterable[Batch], *, tuned: bool = True) -> Metrics:
        """Measure the model on batches.

        Args:
            batches: The batches.
            tuned: Whether the prompt is in.

        Returns:
            The metrics.
        """
        run = self.logits if tuned else self.reference
        return measure((run(batch), batch.labels, batch.mask) for batch in batches)

    def _options(self, batch: Batch) -> dict[str, Any]:
        options: dict[str, Any] = {"use_cache": False}
        if self._trims:  # the output layer is often the largest: leave out the prompt's positions
            options["logits_to_keep"] = batch.labels.shape[1]
        if self.prefix is not None:
            options["past_key_values"] = self.prefix.for_batch(len(batch.labels))
        return options

    def _on_answer(self, output: Any, batch: Batch) -> Tensor:
        logits: Tensor = output.logits
        length = batch.labels.shape[1]
        if logits.shape[1] > length:  # else spare the slice, whose gradient is a copy
            logits = logits[:, -length:]
        return logits.to(batch.labels.device, torch.float32)

    def _reference_for(self, objectives: Sequence[Objective], batch: Batch) -> Tensor | None:
        needed = any(objective.needs_reference for objective in objectives)
        return self.reference(batch) if needed else None


def _values(objective: Objective, logits: Tensor, batch: Batch, reference: Tensor | None) -> Tensor:
    extra = (reference,) if objective.needs_reference else ()
    values = objective.function(logits, batch.labels, batch.mask, *extra)
    needed = "a tensor with one value per example"
    check_type(f"what objective {objective.name!r} gave", values, Tensor, needed)
    if values.shape != batch.labels.shape[:1]:
        msg = (
            f"objective {objective.name!r} gave shape {list(values.shape)} for a batch of "
            f"{len(batch.labels)}; one value per example is needed"
        )
        raise ValueError(msg)
    return values.float()


def _upstream(values: Tensor, logits: Tensor) -> Tensor:
    """Gradient of the mean of an objective's values, shape ``[B, A, V]``; 0 for a constant."""
    if not values.requires_grad:
        return torch.zeros_like(logits)
    return torch.autograd.grad(values.mean(), logits, materialize_grads=True)[0]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Switch off a model's gradients and dropout, and put both back as they were.

    Layers with gradient checkpointing stay in training mode themselves, since transformers
    checkpoints in that mode only; their parts do not.

    Args:
        model: The model.
    """
    gradients = [(p, p.requires_grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    for parameter, _ in gradients:
        parameter.requires_grad_(False)
    model.eval()
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
        if getattr(module, "support_avx512bf16_for_cpu", False):
            # A 4-bit layer of bitsandbytes. Outside training it repacks its weights on a CPU, and
            # then loses gradients without a word; writing the state packs them out again.
            module.state_dict()
            module.training = True
    try:
        yield
    finally:
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
