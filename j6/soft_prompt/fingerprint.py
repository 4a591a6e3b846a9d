"""Telling whether a soft prompt and a model belong together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from j6.soft_prompt.anatomy import Anatomy, text_config

SAMPLED = 32
TOLERANCE = 0.02  # of the largest sampled value: bfloat16 keeps 8 bits, another model differs by 1


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a model, whatever number format it was loaded in.

    Attributes:
        name: The model's name or path, for messages.
        model_type: Architecture, as transformers names it.
        width: Size d of the residual stream.
        n_layers: Number of decoder layers.
        n_heads: Number of attention heads.
        vocabulary: Rows of the embedding.
        embedding: Values taken from all over the embedding.
    """

    name: str
    model_type: str
    width: int
    n_layers: int
    n_heads: int
    vocabulary: int
    embedding: tuple[float, ...]

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
        flat = anatomy.weight.detach().flatten()
        places = torch.linspace(0, len(flat) - 1, SAMPLED, dtype=torch.float64).long()
        return cls(
            name=str(getattr(config, "_name_or_path", "") or type(model).__name__),
            model_type=str(config.model_type),
            width=anatomy.width,
            n_layers=len(anatomy.layers),
            n_heads=int(config.num_attention_heads),
            vocabulary=len(anatomy.weight),
            embedding=tuple(flat[places.to(flat.device)].float().tolist()),
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fingerprint:
        """Read back what :meth:`to_json` gave.

        Args:
            value: The JSON object.

        Returns:
            The fingerprint.
        """
        return cls(**{**value, "embedding": tuple(value["embedding"])})

    def to_json(self) -> dict[str, Any]:
        """The fingerprint as a JSON object."""
        return asdict(self)

    def check(self, other: Fingerprint) -> None:
        """Refuse a model that is not the one a soft prompt was made for.

        Args:
            other: The fingerprint of the model at hand.

        Raises:
            ValueError: If anything but the name differs.
        """
        differing = [
            f"{field} {getattr(self, field)} against {getattr(other, field)}"
            for field in ("model_type", "width", "n_layers", "n_heads", "vocabulary")
            if getattr(self, field) != getattr(other, field)
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

    def _same_embedding(self, other: Fingerprint) -> bool:
        largest = max(map(abs, self.embedding), default=0.0)
        pairs = zip(self.embedding, other.embedding, strict=True)
        return all(abs(a - b) <= TOLERANCE * largest for a, b in pairs)
