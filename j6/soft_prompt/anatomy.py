"""What has to be known of a causal language model to put a soft prompt into it."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from j6.soft_prompt.suitable import check_causal, check_suitable


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that a soft prompt touches; found by its public interface.

    Attributes:
        embedding: Maps token ids to embeddings; may scale them (Gemma).
        weight: The embedding's table, shape ``[vocabulary, d]``.
        layers: The decoder layers, in order.
        width: Size d of the residual stream.
        max_length: Longest sequence in tokens, or ``None`` where the model names none.
        bos_token_id: Id of the BOS token, or ``None``.
        takes_position_ids: Whether ``forward`` has ``position_ids``.
    """

    embedding: nn.Module
    weight: Tensor
    layers: tuple[nn.Module, ...]
    width: int
    max_length: int | None
    bos_token_id: int | None
    takes_position_ids: bool

    @classmethod
    def of(cls, model: nn.Module) -> Anatomy:
        """Look at a model.

        Args:
            model: A Hugging Face causal language model.

        Returns:
            Its parts.

        Raises:
            TypeError: If the model is no causal LM that takes ``inputs_embeds``.
            ValueError: If its decoder layers or its embedding cannot be used.
        """
        model = causal_lm(model)
        name = type(model).__name__
        config = text_config(model)
        check_suitable(model, config)
        embedding = _embedding(model)
        width = int(config.hidden_size)
        weight: Tensor = embedding.weight
        embedding_width = weight.shape[1]
        if embedding_width != width:
            msg = (
                f"{name} has embeddings of width {embedding_width} and a residual stream of width "
                f"{width}; w and h need one shape: use a model without an embedding projection"
            )
            raise ValueError(msg)
        layers = _decoder_layers(model, embedding, int(config.num_hidden_layers))
        check_causal(name, layers)
        return cls(
            embedding=embedding,
            weight=weight,
            layers=layers,
            width=width,
            max_length=_first(config, "max_position_embeddings", "max_seq_len"),
            bos_token_id=_single(getattr(config, "bos_token_id", None)),
            takes_position_ids="position_ids" in inspect.signature(model.forward).parameters,
        )

    def room_beside(self, n_tokens: int) -> int | None:
        """How long prompt and answer may be together.

        Args:
            n_tokens: Virtual tokens of the soft prompt.

        Returns:
            Tokens, or ``None`` where the model names no limit.

        Raises:
            ValueError: If there is no room for a prompt and an answer of one token each.
        """
        if self.max_length is None:
            return None
        if n_tokens > self.max_length - 2:
            msg = (
                f"n_tokens is {n_tokens}, but the model has {self.max_length} positions, and a "
                f"prompt and an answer need some: allowed are 1 to {self.max_length - 2}"
            )
            raise ValueError(msg)
        return self.max_length - n_tokens

    def resolve_layers(self, layers: tuple[int, ...] | None) -> tuple[int, ...]:
        """Turn the configured layers into numbers from 0.

        Args:
            layers: As in :class:`SoftPromptConfig`.

        Returns:
            Layer numbers, ascending.

        Raises:
            ValueError: If a layer does not exist, is the last one or is named twice.
        """
        count = len(self.layers)
        if layers is None:
            if count < 2:
                msg = "the model has one layer, after which h has no effect: pass layers=()"
                raise ValueError(msg)
            return ((count - 1) // 2,)
        for layer in layers:
            if not -count <= layer < count:
                msg = (
                    f"layers contains {layer}, but the model has {count} layers: "
                    f"allowed are {-count} to {count - 2}"
                )
                raise ValueError(msg)
        resolved = sorted(layer % count for layer in layers)
        if count - 1 in resolved:
            msg = (
                f"layers contains the last layer ({count - 1}); h after it reaches no other "
                f"position and would never be trained: use 0 to {count - 2}"
            )
            raise ValueError(msg)
        if len(set(resolved)) < len(resolved):
            msg = f"layers {layers} names a layer twice: name each once"
            raise ValueError(msg)
        return tuple(resolved)


def causal_lm(model: nn.Module) -> nn.Module:
    """The model that a PEFT wrapper runs; the model itself where it is not wrapped.

    Args:
        model: A Hugging Face model, or a ``peft.PeftModel`` around one.

    Returns:
        The model whose ``forward`` and ``generate`` are called.

    Raises:
        TypeError: If the model is compiled, or wrapped in prompts that would be left out.
    """
    if hasattr(model, "_orig_mod"):  # how torch.compile keeps the module
        msg = (
            "the model is compiled, which hides its forward: pass the model itself, and compile "
            "the soft prompt with torch.compile(soft_prompt) once it is attached"
        )
        raise TypeError(msg)
    adapter: Any = getattr(model, "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        msg = (
            f"{type(model).__name__} has an adapter of type {adapter.peft_type.value}, whose own "
            "prompt would be left out: pass the model without it (model.get_base_model()), and "
            "take PROMPT_TUNING over with j6.import_peft"
        )
        raise TypeError(msg)
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def text_config(model: nn.Module) -> Any:
    """Configuration of the language part of a model, as an attribute bag.

    Args:
        model: A Hugging Face model.

    Returns:
        The text configuration; the configuration itself where there is only one.

    Raises:
        TypeError: If the model has no Hugging Face configuration.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        msg = f"{type(model).__name__} has no Hugging Face config: pass a transformers causal LM"
        raise TypeError(msg)
    return config.get_text_config()


def typical_size(vectors: Tensor) -> Tensor:
    """Median over vectors of their root mean square; a few huge ones do not move it.

    Args:
        vectors: Vectors in the last dimension, shape ``[..., d]``.

    Returns:
        The size, float32, shape ``[]``; 1 where it would be 0.
    """
    sizes = vectors.detach().float().norm(dim=-1) / math.sqrt(vectors.shape[-1])
    median = sizes.median()
    return torch.where(median > 0, median, torch.ones_like(median))


def _embedding(model: nn.Module) -> Any:
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    if not isinstance(embedding, nn.Module) or not isinstance(
        getattr(embedding, "weight", None), Tensor
    ):
        msg = f"{type(model).__name__}.get_input_embeddings() gives no embedding with a weight"
        raise ValueError(msg)
    if embedding.weight.is_meta:
        msg = "the model's embedding is offloaded: load the model so that it stays on a device"
        raise ValueError(msg)
    return embedding


def _decoder_layers(model: nn.Module, embedding: nn.Module, count: int) -> tuple[nn.Module, ...]:
    """The layers nearest to the embedding; the tower of another modality may have as many."""
    name = next((name for name, module in model.named_modules() if module is embedding), "")
    path = name.split(".")
    for depth in reversed(range(len(path))):
        for module in model.get_submodule(".".join(path[:depth])).modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return tuple(module)
    msg = f"no list of {count} decoder layers found in {type(model).__name__}"
    raise ValueError(msg)


def _first(config: Any, *names: str) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), None)


def _single(token_id: int | list[int] | None) -> int | None:
    return token_id[0] if isinstance(token_id, list) else token_id
