"""Which models cannot take a soft prompt, and why."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from torch import nn


def check_suitable(model: Any, config: Any) -> None:
    """Refuse a model into which virtual tokens cannot be put, or in which they would do no good.

    Args:
        model: The model, not wrapped.
        config: Its text configuration.

    Raises:
        TypeError: If it is not a causal language model that takes ``inputs_embeds``.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        msg = f"{name} is an encoder-decoder; a soft prompt needs a decoder-only causal LM"
        raise TypeError(msg)
    accepted = inspect.signature(model.forward).parameters
    if "inputs_embeds" not in accepted:
        msg = (
            f"{name}.forward takes no inputs_embeds, so soft tokens cannot be passed to it: "
            "use a model that does, as the causal LMs of transformers do"
        )
        raise TypeError(msg)
    if hasattr(model, "can_generate") and not model.can_generate() and not _has_lm_head(model):
        msg = f"{name} has no output over the vocabulary: load it with AutoModelForCausalLM"
        raise TypeError(msg)
    # RWKV takes a mask, and says that it is unused.
    if "attention_mask" not in accepted or config.model_type == "rwkv":
        msg = (
            f"{name} uses no attention_mask, so the padding of a batch would change its answers: "
            "use another model"
        )
        raise TypeError(msg)
    if getattr(config, "hidden_size_per_layer_input", 0):
        msg = (
            f"{name} has embeddings of token ids in every layer (hidden_size_per_layer_input is "
            f"{config.hidden_size_per_layer_input}), which virtual tokens lack: use another model"
        )
        raise TypeError(msg)


def _has_lm_head(model: Any) -> bool:
    try:
        return model.get_output_embeddings() is not None
    except (AttributeError, NotImplementedError):
        return False


def check_causal(name: str, layers: Iterable[nn.Module]) -> None:
    """Refuse a model whose tokens see those after them.

    Args:
        name: What the error calls the model.
        layers: Its decoder layers.

    Raises:
        TypeError: If all attention in them is bidirectional.
    """
    parts = [part for layer in layers for part in layer.modules()]
    # transformers 4.56 has only the second on some attention layers
    said = {getattr(part, flag, None) for part in parts for flag in ("is_causal", "is_decoder")}
    if False in said and True not in said:
        msg = (
            f"{name} is bidirectional, so every token would see the answer; a soft prompt needs a "
            "causal LM (where the architecture can be one, its config has is_decoder=True)"
        )
        raise TypeError(msg)


def generates_from_embeddings(model: Any) -> bool:
    """Whether a model's ``generate`` takes ``inputs_embeds``, as a soft prompt needs it.

    Args:
        model: The model, not wrapped.

    Returns:
        Whether it does; transformers asks the same.
    """
    prepare = getattr(model, "prepare_inputs_for_generation", None)
    return prepare is not None and "inputs_embeds" in inspect.signature(prepare).parameters
