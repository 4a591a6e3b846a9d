"""The hooks that put a soft prompt into a model; removing them leaves the model as it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from j6.soft_prompt.anatomy import Anatomy, causal_lm


class Insertion(NamedTuple):
    """What the layer hooks add in one forward pass.

    Attributes:
        columns: Columns of the virtual tokens, shape ``[B, n]``.
        length: Number of columns of the batch, n + T.
        vectors: What to add after each layer, shape ``[L, n, d]`` or ``[L, B, n, d]``.
    """

    columns: Tensor
    length: int
    vectors: Tensor


class Attachment:
    """Hooks on a model and on some of its decoder layers.

    A forward pass with ``inputs_embeds`` prepared by :meth:`expecting` is the one in which the
    layer hooks act; later decoding steps, which carry token ids and a cache, pass through. A call
    of the model that did not come through the soft prompt is rewritten by ``rewrite``, so that an
    attached prompt is never silently left out. What was inserted last is kept until the next
    forward pass, because gradient checkpointing runs layers again during the backward pass.

    Args:
        model: The model, or a PEFT wrapper around it.
        anatomy: Its parts.
        layers: Numbers of the decoder layers after which vectors are added, in order.
        rewrite: Maps the arguments of a direct call to those with the soft prompt in.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        layers: Sequence[int],
        rewrite: Callable[[dict[str, Any]], tuple[dict[str, Any], Insertion]],
    ) -> None:
        self.model = inner = causal_lm(model)
        self.anatomy = anatomy
        self._rewrite = rewrite
        self._expected: Insertion | None = None
        self._active: Insertion | None = None
        self._enabled = True
        self._signature = inspect.signature(inner.forward)
        self._handles = [inner.register_forward_pre_hook(self._before, with_kwargs=True)]
        if inner is not model:
            self._handles.append(model.register_forward_pre_hook(self._refuse))
        for row, layer in enumerate(layers):
            hook = self._adder(row)
            self._handles.append(anatomy.layers[layer].register_forward_hook(hook))

    def remove(self) -> None:
        """Take all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._active = self._expected = None

    @contextmanager
    def expecting(self, insertion: Insertion) -> Iterator[None]:
        """Within this context, passes with ``inputs_embeds`` carry this insertion."""
        self._expected = insertion
        try:
            yield
        finally:
            self._expected = None

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within this context the model runs as if nothing were attached."""
        enabled, active = self._enabled, self._active
        self._enabled, self._active = False, None
        try:
            yield
        finally:
            self._enabled, self._active = enabled, active

    def _before(
        self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._enabled:
            return None
        if self._expected is not None:
            first = kwargs.get("inputs_embeds") is not None
            self._active = self._expected if first else None
            return None
        bound = self._signature.bind(*args, **kwargs)
        arguments = {k: v for k, v in bound.arguments.items() if v is not None}
        arguments.update(arguments.pop("kwargs", {}))
        rewritten, self._active = self._rewrite(arguments)
        return (), rewritten

    def _refuse(self, model: nn.Module, _args: Any) -> None:
        if self._enabled:
            msg = (
                f"{type(model).__name__} passes its model by, so the attached soft prompt would be "
                "left out: call the soft prompt instead"
            )
            raise RuntimeError(msg)

    def _adder(self, row: int) -> Callable[[nn.Module, Any, Any], Any]:
        def add(_layer: nn.Module, _args: Any, output: Any) -> Any:
            if self._active is None:
                return None
            if isinstance(output, tuple):
                return (_add_at(output[0], self._active, row), *output[1:])
            return _add_at(output, self._active, row)

        return add


def _add_at(hidden: Tensor, insertion: Insertion, row: int) -> Tensor:
    """Add the vectors of one layer to the residual stream ``[B, n + T, d]`` at their columns."""
    batch, length, width = hidden.shape
    if length != insertion.length:
        msg = (
            f"the model runs on {length} columns where the soft prompt prepared "
            f"{insertion.length}: call the soft prompt, or the whole model, not a part of it"
        )
        raise RuntimeError(msg)
    # A model may be spread over several devices.
    columns, vectors = insertion.columns.to(hidden.device), insertion.vectors[row]
    copies = batch // columns.shape[0]  # beams and returned sequences, row by row
    columns = columns.repeat_interleave(copies, dim=0)
    if vectors.dim() == 3:
        vectors = vectors.repeat_interleave(copies, dim=0)
    index = columns[..., None].expand(-1, -1, width)  # [B, n, d]
    source = vectors.to(hidden).expand(index.shape)
    return torch.scatter_add(hidden, 1, index, source)
