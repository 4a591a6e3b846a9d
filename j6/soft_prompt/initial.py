"""Where w starts, and the sizes of the activations that w and h are measured in."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from j6.soft_prompt.anatomy import Anatomy, typical_size
from j6.soft_prompt.config import SoftPromptConfig


class InitialPrompt(NamedTuple):
    """A soft prompt before training.

    Attributes:
        base: Fixed part of the virtual tokens' embeddings, shape ``[n, d]``.
        w: Trained part in units of ``w_scale``, shape ``[n, d]``.
        w_scale: Typical root mean square of the vocabulary's embeddings, shape ``[]``.
        h_scale: Typical root mean square of the residual stream after each layer, ``[L]``.
    """

    base: Tensor
    w: Tensor
    w_scale: Tensor
    h_scale: Tensor


@torch.no_grad()
def initial_prompt(
    model: nn.Module,
    anatomy: Anatomy,
    config: SoftPromptConfig,
    layers: tuple[int, ...],
    tokenizer: Any = None,
) -> InitialPrompt:
    """Start a soft prompt as its configuration says.

    Args:
        model: The model.
        anatomy: Its parts.
        config: What to start from.
        layers: Resolved layers, whose activations are measured on the virtual tokens themselves.
        tokenizer: Needed where the start is a text.

    Returns:
        The start, float32, on the embedding's device.

    Raises:
        ValueError: If a text is needed and there is no tokenizer, the text has no tokens or more
            than ``n_tokens`` in ``kind="changes"``, or a layer does not run.
    """
    vocabulary, device = len(anatomy.weight), anatomy.weight.device
    generator = torch.Generator().manual_seed(config.seed)
    sample = torch.randint(vocabulary, (min(vocabulary, 4096),), generator=generator)
    w_scale = typical_size(anatomy.embedding(sample.to(device)))

    if config.needs_text:
        ids = _text_ids(config, tokenizer)
        start = anatomy.embedding(ids.to(device)).float()
    else:
        n = config.n_tokens or 8
        ids = torch.randint(vocabulary, (n,), generator=generator)
        start = anatomy.embedding(ids.to(device)).float()
        if config.init == "random":
            start = torch.randn(start.shape, generator=generator).to(device) * w_scale

    zero = torch.zeros_like(start)
    base, w = (start, zero) if config.kind == "changes" else (zero, start / w_scale)
    return InitialPrompt(base, w, w_scale, _residual_sizes(model, anatomy, layers, start))


def _text_ids(config: SoftPromptConfig, tokenizer: Any) -> Tensor:
    if tokenizer is None:
        msg = f"the start is the text {config.text!r}: pass the model's tokenizer"
        raise ValueError(msg)
    ids = torch.tensor(tokenizer(config.text, add_special_tokens=False)["input_ids"]).long()
    n = config.n_tokens or len(ids)
    if len(ids) == 0:
        msg = f"text {config.text!r} has no tokens: pass a longer text"
        raise ValueError(msg)
    if config.kind == "changes" and n != len(ids):
        msg = (
            f"n_tokens is {n} but text has {len(ids)} tokens, and kind='changes' changes each of "
            "them: leave n_tokens out"
        )
        raise ValueError(msg)
    return ids.repeat(-(-n // len(ids)))[:n]


def _residual_sizes(
    model: nn.Module, anatomy: Anatomy, layers: tuple[int, ...], embeds: Tensor
) -> Tensor:
    sizes: list[Tensor] = []

    def measure(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        sizes.append(typical_size(hidden).to(embeds.device))

    handles = [anatomy.layers[layer].register_forward_hook(measure) for layer in layers]
    try:
        if layers:
            model(inputs_embeds=embeds.to(anatomy.weight.dtype)[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if len(sizes) != len(layers):
        msg = (
            f"layers is {layers}, but only {len(sizes)} of these layers of {type(model).__name__} "
            "run with a text alone: pass others, or layers=() for no h"
        )
        raise ValueError(msg)
    return torch.stack(sizes) if sizes else embeds.new_ones(0)
