"""Running a model on batches of prompts and answers, with and without the soft prompt."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from j6.examples import Batch
from j6.metrics import Metrics, measure
from j6.objectives import Objective
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
            batch.input_ids,
            batch.attention_mask,
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
        mask = torch.nn.functional.pad(batch.attention_mask, (before, 0), value=1)
        if self._takes_positions:
            options["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, before:]
        with self.soft_prompt.disabled():
            output = self.model(input_ids=batch.input_ids, attention_mask=mask, **options)
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
        reference = None
        if any(objective.needs_reference for objective in objectives):
            reference = self.reference(batch)
        logits = self.logits(batch, leaves)
        rows = []
        for objective in objectives:
            extra = (reference,) if objective.needs_reference else ()
            values = objective.function(logits, batch.labels, batch.mask, *extra)
            if values.shape != batch.labels.shape[:1]:
                msg = (
                    f"objective {objective.name!r} gave shape {list(values.shape)} for a batch of "
                    f"{len(batch.labels)}; one value per example is needed"
                )
                raise ValueError(msg)
            rows.append(values.float())
        return torch.stack(rows)

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
            options["logits_to_keep"] = batch.labels.shape[1] + 1
        if self.prefix is not None:
            options["past_key_values"] = self.prefix.for_batch(len(batch.labels))
        return options

    def _on_answer(self, output: Any, batch: Batch) -> Tensor:
        length = batch.labels.shape[1]
        logits: Tensor = output.logits[:, -length - 1 : -1]
        return logits.float()


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
    try:
        yield
    finally:
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
