"""The soft prompt: how its vectors run with a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from j6.soft_prompt.anatomy import Anatomy
from j6.soft_prompt.attachment import Attachment, Insertion
from j6.soft_prompt.config import SoftPromptConfig
from j6.soft_prompt.fingerprint import Fingerprint
from j6.soft_prompt.initial import InitialPrompt
from j6.soft_prompt.placement import (
    PromptedInputs,
    check_place,
    default_place,
    insert_tokens,
    pad_left,
)
from j6.soft_prompt.vectors import Leaves, PromptVectors


class SoftPrompt(PromptVectors):
    """n virtual tokens w in embedding space and vectors h added to the residual stream there.

    Attach it to a Hugging Face causal language model; the model is reached through forward hooks
    and ``inputs_embeds`` only, and is left as it was by :meth:`detach`. While attached, calling
    the soft prompt or the model itself runs with the prompt in; generation goes through
    :meth:`generate`. Only w and h are parameters of this module; freezing the model is the
    caller's.

    >>> soft_prompt = SoftPrompt.for_model(model, SoftPromptConfig(n_tokens=8))  # doctest: +SKIP
    >>> with soft_prompt.attached(model):                                       # doctest: +SKIP
    ...     logits = soft_prompt(input_ids, attention_mask).logits

    Args:
        config: Shape and place of the prompt, with ``layers`` resolved.
        start: Initial values and scales.
        made_for: The model it belongs to.
    """

    def __init__(
        self, config: SoftPromptConfig, start: InitialPrompt, made_for: Fingerprint
    ) -> None:
        super().__init__(config, start, made_for)
        self._attachment: Attachment | None = None

    def attach(self, model: nn.Module) -> SoftPrompt:
        """Put the prompt into a model, until :meth:`detach`.

        Args:
            model: The model it was made for.

        Returns:
            The soft prompt itself.

        Raises:
            RuntimeError: If the prompt is attached already.
            ValueError: If the model is not the one the prompt was made for.
        """
        if self._attachment is not None:
            msg = "the soft prompt is attached to a model already: call detach() first"
            raise RuntimeError(msg)
        anatomy = Anatomy.of(model)
        self.made_for.check(Fingerprint.of(model, anatomy))
        layers = anatomy.resolve_layers(self.config.layers)
        self.to(anatomy.weight.device)
        self._attachment = Attachment(model, anatomy, layers, self._rewrite)
        return self

    def detach(self) -> None:
        """Take the prompt out of its model; without effect when not attached."""
        if self._attachment is not None:
            self._attachment.remove()
        self._attachment = None

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[SoftPrompt]:
        """Attach for the length of a ``with`` block."""
        self.attach(model)
        try:
            yield self
        finally:
            self.detach()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within this context the attached model runs without the prompt."""
        with self._attached_to().disabled():
            yield

    def insert(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        insert_at: Tensor | Sequence[int] | None = None,
        leaves: Leaves | None = None,
    ) -> PromptedInputs:
        """Embed a batch and put the virtual tokens in.

        Args:
            input_ids: Token ids, shape ``[B, T]``.
            attention_mask: 1 for real tokens, shape ``[B, T]``; by default all are real.
            insert_at: Number of real tokens before the prompt in each row, shape ``[B]``; by
                default as the configured position says.
            leaves: Values to use in place of the parameters, for Jacobians per example.

        Returns:
            What to pass to the model.

        Raises:
            RuntimeError: If the prompt is not attached.
            ValueError: If shapes do not fit, or the result is longer than the model's context.
        """
        anatomy = self._attached_to().anatomy
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if input_ids.dim() != 2 or input_ids.shape != attention_mask.shape:
            msg = (
                f"input_ids has shape {list(input_ids.shape)} and attention_mask "
                f"{list(attention_mask.shape)}; both must be [batch, tokens]"
            )
            raise ValueError(msg)
        attention_mask = attention_mask.long()
        length = input_ids.shape[1] + self.n_tokens
        if anatomy.max_length is not None and length > anatomy.max_length:
            msg = (
                f"{input_ids.shape[1]} tokens and {self.n_tokens} virtual tokens do not fit the "
                f"model's context of {anatomy.max_length}: shorten the input"
            )
            raise ValueError(msg)
        if insert_at is None:
            place, bos = self.config.position, self.config.bos_id
            bos = anatomy.bos_token_id if bos == "auto" else bos
            insert_at = default_place(place, input_ids, attention_mask, bos)
        else:
            insert_at = torch.as_tensor(insert_at, device=attention_mask.device)
            check_place(insert_at, attention_mask)
        w = self.w if leaves is None else leaves.w
        virtual = self.base + w * self.w_scale
        return insert_tokens(anatomy.embedding(input_ids), attention_mask, virtual, insert_at)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        insert_at: Tensor | Sequence[int] | None = None,
        leaves: Leaves | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Run the attached model with the prompt in.

        Args:
            input_ids: Token ids, shape ``[B, T]``.
            attention_mask: 1 for real tokens, shape ``[B, T]``.
            insert_at: Number of real tokens before the prompt in each row, shape ``[B]``.
            leaves: Values to use in place of the parameters, for Jacobians per example.
            **model_kwargs: Further arguments of the model; ``labels`` ``[B, T]`` are lengthened,
                and ``past_key_values`` stand before all columns of every row.

        Returns:
            The model's output on ``n + T`` columns.

        Raises:
            RuntimeError: If the prompt is not attached.
            ValueError: If shapes do not fit, or the result is longer than the model's context.
        """
        attachment = self._attached_to()
        prompted = self.insert(input_ids, attention_mask, insert_at, leaves)
        arguments = self._arguments(prompted, model_kwargs)
        with attachment.expecting(self._insertion(prompted, leaves)):
            return attachment.model(**arguments)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        insert_at: Tensor | Sequence[int] | None = None,
        **generate_kwargs: Any,
    ) -> Any:
        """Generate with the prompt in; greedy, sampling, beams and batches as in transformers.

        Args:
            input_ids: Token ids, shape ``[B, T]``, padded on either side.
            attention_mask: 1 for real tokens, shape ``[B, T]``.
            insert_at: Number of real tokens before the prompt in each row, shape ``[B]``.
            **generate_kwargs: Arguments of the model's ``generate``.

        Returns:
            What ``generate`` returns for ``inputs_embeds``: the new tokens alone.

        Raises:
            RuntimeError: If the prompt is not attached.
            ValueError: If shapes do not fit, the context is too short, the cache is off or an
                assistant model is given.
        """
        attachment = self._attached_to()
        if generate_kwargs.get("use_cache") is False:
            msg = "use_cache is False; generation from embeddings needs the cache: leave it on"
            raise ValueError(msg)
        if generate_kwargs.get("assistant_model") is not None:
            msg = "assistant_model is given, but an assistant cannot read soft tokens: leave it out"
            raise ValueError(msg)
        if attention_mask is not None and input_ids.shape == attention_mask.shape:
            input_ids, attention_mask = pad_left(input_ids, attention_mask.long())
        prompted = self.insert(input_ids, attention_mask, insert_at)
        arguments = self._arguments(prompted, generate_kwargs)
        # generate counts positions over the mask by itself; transformers before 5 does not carry
        # those passed to it on to the next tokens.
        arguments.pop("position_ids", None)
        with attachment.expecting(self._insertion(prompted, None)):
            return attachment.model.generate(**arguments)  # type: ignore[operator]

    def _rewrite(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], Insertion]:
        """Put the prompt into a direct call of the model."""
        past = arguments.get("past_key_values")
        if "input_ids" not in arguments or "position_ids" in arguments or past is not None:
            msg = (
                "a soft prompt is attached and puts its tokens into input_ids; this call brings "
                "its own embeddings, positions or cache: use soft_prompt.generate() to generate, "
                "soft_prompt.disabled() to run without the prompt"
            )
            raise RuntimeError(msg)
        rest = {k: v for k, v in arguments.items() if k not in ("input_ids", "attention_mask")}
        prompted = self.insert(arguments["input_ids"], arguments.get("attention_mask"))
        return self._arguments(prompted, rest), self._insertion(prompted, None)

    def _arguments(self, prompted: PromptedInputs, others: dict[str, Any]) -> dict[str, Any]:
        arguments = dict(others)
        labels = arguments.pop("labels", None)
        if labels is not None:
            blank = labels.new_full(prompted.attention_mask.shape, -100)
            arguments["labels"] = blank.scatter(1, prompted.real, labels)
        past = arguments.get("past_key_values")
        before = 0 if past is None else past.get_seq_length()
        mask = torch.nn.functional.pad(prompted.attention_mask, (before, 0), value=1)
        arguments["inputs_embeds"] = prompted.inputs_embeds
        arguments["attention_mask"] = mask
        if self._attached_to().anatomy.takes_position_ids:
            arguments["position_ids"] = prompted.position_ids + before
        return arguments

    def _insertion(self, prompted: PromptedInputs, leaves: Leaves | None) -> Insertion:
        h = self.h if leaves is None else leaves.h
        scale = self.h_scale.reshape(-1, *[1] * (h.dim() - 1))
        return Insertion(prompted.virtual, prompted.inputs_embeds.shape[1], h * scale)

    def _attached_to(self) -> Attachment:
        if self._attachment is None:
            msg = "the soft prompt is not attached to a model: call attach(model) first"
            raise RuntimeError(msg)
        return self._attachment
