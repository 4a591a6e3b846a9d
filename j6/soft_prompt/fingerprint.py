"""Telling whether a soft prompt and a model belong together."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from j6.soft_prompt.anatomy import Anatomy, causal_lm, text_config

SAMPLED = 32
TOLERANCE = 0.02  # of the largest sampled value: bfloat16 keeps 8 bits, another model differs by 1
PER_PARAMETER = 3
ROUNDING = 2**-7  # of a value: both sides may have been rounded to bfloat16, by 2**-9 each
SMALL = 1e-6  # float16 rounds values below 6e-5 more coarsely
FORMATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a model, whatever number format it was loaded in.

    Attributes:
        name: The model's name or path, for messages.
        model_type: Architecture, as transformers names it.
        width: Size d of the residual stream.
        n_layers: Number of decoder layers.
        n_heads: Number of attention heads; 0 where there is no attention.
        vocabulary: Rows of the embedding.
        embedding: Values taken from all over the embedding.
        parameters: Three values of every other parameter, by name; none of quantised or offloaded
            ones. Empty in prompts written before these were kept.
    """

    name: str
    model_type: str
    width: int
    n_layers: int
    n_heads: int
    vocabulary: int
    embedding: tuple[float, ...]
    parameters: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, anatomy: Anatomy) -> Fingerprint:
        """Take a model's fingerprint.

        Args:
            model: The model.
            anatomy: Its parts.

        Returns:
            The fingerprint.
        """
        config = text_config(model)
        return cls(
            name=str(getattr(config, "_name_or_path", "") or type(model).__name__),
            model_type=str(config.model_type),
            width=anatomy.width,
            n_layers=len(anatomy.layers),
            n_heads=int(getattr(config, "num_attention_heads", 0)),
            vocabulary=len(anatomy.weight),
            embedding=_sample(anatomy.weight, SAMPLED),
            parameters={
                name: _sample(parameter, PER_PARAMETER) if _readable(parameter) else ()
                for name, parameter in causal_lm(model).named_parameters()
                if parameter is not anatomy.weight
            },
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fingerprint:
        """Read back what :meth:`to_json` gave.

        Args:
            value: The JSON object.

        Returns:
            The fingerprint.
        """
        parameters = {name: tuple(found) for name, found in value.get("parameters", {}).items()}
        embedding = tuple(value["embedding"])
        return cls(**{**value, "embedding": embedding, "parameters": parameters})

    def to_json(self) -> dict[str, Any]:
        """The fingerprint as a JSON object."""
        return asdict(self)

    def check(self, other: Fingerprint) -> None:
        """Refuse a model that is not the one a soft prompt was made for.

        A model with the same shape and embedding whose other parameters differ, as a fine-tune
        has them, is warned of: the prompt runs, but was not tuned on it.

        Args:
            other: The fingerprint of the model at hand.

        Raises:
            ValueError: If anything but the name and these other parameters differs.
        """
        differing = [
            f"{key} {getattr(self, key)} against {getattr(other, key)}"
            for key in ("model_type", "width", "n_layers", "n_heads", "vocabulary")
            if getattr(self, key) != getattr(other, key)
        ]
        if not differing and not self._same_embedding(other):
            differing = ["the values of the embedding"]
        if differing:
            msg = (
                f"the soft prompt was made for {self.name!r} and does not fit {other.name!r}: "
                f"{'; '.join(differing)}. Load the model it was made for, or make a prompt for "
                "this one with SoftPrompt.for_model"
            )
            raise ValueError(msg)
        changed = self._changed_parameters(other)
        if changed:
            msg = (
                f"the soft prompt was made for {self.name!r}; {other.name!r} has other values in "
                f"{len(changed)} parameters ({changed[0]}, …), or one has them and the other not, "
                "as after fine-tuning or with LoRA: measure whether the prompt still helps, or "
                "tune it again"
            )
            warnings.warn(msg, stacklevel=3)

    def _same_embedding(self, other: Fingerprint) -> bool:
        largest = max(map(abs, self.embedding), default=0.0)
        pairs = zip(self.embedding, other.embedding, strict=True)
        return all(abs(a - b) <= TOLERANCE * largest for a, b in pairs)

    def _changed_parameters(self, other: Fingerprint) -> list[str]:
        """Names of parameters that one model lacks, or whose values rounding does not explain."""
        if not self.parameters or not other.parameters:
            return []
        changed = []
        for name in {**self.parameters, **other.parameters}:
            values = self.parameters.get(name), other.parameters.get(name)
            if () in values:  # quantised or offloaded: nobody knows
                continue
            one, two = values
            if one is None or two is None or any(map(_differ, one, two)):
                changed.append(name)
        return changed


def _differ(a: float, b: float) -> bool:
    return abs(a - b) > ROUNDING * max(abs(a), abs(b)) + SMALL


def _readable(parameter: Tensor) -> bool:
    return parameter.dtype in FORMATS and parameter.numel() > 0 and not parameter.is_meta


def _sample(tensor: Tensor, count: int) -> tuple[float, ...]:
    """Values at fixed places, spread over the whole tensor."""
    flat = tensor.detach().flatten()
    places = torch.linspace(0, len(flat) - 1, count, dtype=torch.float64).long()
    return tuple(flat[places.to(flat.device)].float().tolist())
