"""What a soft prompt holds: the trained vectors w and h, their scales, and the model they fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from j6.soft_prompt.anatomy import Anatomy
from j6.soft_prompt.config import SoftPromptConfig
from j6.soft_prompt.fingerprint import Fingerprint
from j6.soft_prompt.initial import InitialPrompt, initial_prompt
from j6.soft_prompt.storage import read_prompt, write_prompt

if TYPE_CHECKING:
    from typing_extensions import Self


class Leaves(NamedTuple):
    """The trained vectors, in units of the local activations' size.

    Attributes:
        h: Hidden-layer insertions, shape ``[L, n, d]``; ``[L, B, n, d]`` with a copy per example.
        w: Embedding modification, shape ``[n, d]``; ``[B, n, d]`` with a copy per example.
    """

    h: Tensor
    w: Tensor


class PromptVectors(nn.Module):
    """The vectors of a soft prompt, apart from how they run with a model (:class:`SoftPrompt`).

    The parameters are float32 and are cast to the model's dtype where they enter it.

    Args:
        config: Shape and place of the prompt, with ``layers`` resolved.
        start: Initial values and scales.
        made_for: The model it belongs to.
    """

    base: Tensor
    w_scale: Tensor
    h_scale: Tensor

    def __init__(
        self, config: SoftPromptConfig, start: InitialPrompt, made_for: Fingerprint
    ) -> None:
        super().__init__()
        self.config = config
        self.made_for = made_for
        self.w = nn.Parameter(start.w.clone())  # [n, d]
        n_layers = start.h_scale.shape[0]
        self.h = nn.Parameter(start.w.new_zeros(n_layers, *start.w.shape))  # [L, n, d]
        self.register_buffer("base", start.base.clone())
        self.register_buffer("w_scale", start.w_scale.clone())
        self.register_buffer("h_scale", start.h_scale.clone())

    @classmethod
    def for_model(
        cls, model: nn.Module, config: SoftPromptConfig | None = None, tokenizer: Any = None
    ) -> Self:
        """Make a soft prompt for a model; it is not attached yet.

        Args:
            model: A Hugging Face causal language model.
            config: What the prompt looks like; by default ``SoftPromptConfig()``.
            tokenizer: The model's tokenizer, needed where the prompt starts from a text.

        Returns:
            The soft prompt, with h at 0.

        Raises:
            TypeError: If the model cannot take a soft prompt.
            ValueError: If the configuration does not fit the model.
        """
        config = config or SoftPromptConfig()
        anatomy = Anatomy.of(model)
        layers = anatomy.resolve_layers(config.layers)
        start = initial_prompt(model, anatomy, config, layers, tokenizer)
        config = replace(config, layers=layers, n_tokens=len(start.w))
        return cls(config, start, Fingerprint.of(model, anatomy))

    def copied(self) -> Self:
        """A copy with the same values, not attached to a model."""
        start = InitialPrompt(self.base, self.w.detach(), self.w_scale, self.h_scale)
        copy = type(self)(self.config, start, self.made_for)
        with torch.no_grad():
            copy.h.copy_(self.h)
        return copy

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a soft prompt; attaching it checks that the model is the one it was made for.

        Args:
            folder: A folder that :meth:`save` wrote.

        Returns:
            The soft prompt, on the CPU, not attached yet.

        Raises:
            FileNotFoundError: If the folder holds no soft prompt.
            ValueError: If the files are of another format or broken.
        """
        tensors, config, made_for = read_prompt(Path(folder))
        h = tensors.pop("h")
        soft_prompt = cls(config, InitialPrompt(**tensors), made_for)
        with torch.no_grad():
            soft_prompt.h.copy_(h)
        return soft_prompt

    def save(self, folder: str | Path) -> None:
        """Write the soft prompt as safetensors and JSON; each file is written whole.

        Args:
            folder: Where to write; made if it is not there.

        Raises:
            ValueError: If a value is NaN or infinite.
        """
        write_prompt(Path(folder), self.state_dict(), self.config, self.made_for)

    @property
    def n_tokens(self) -> int:
        """Number n of virtual tokens."""
        return self.w.shape[0]

    @property
    def virtual_embeds(self) -> Tensor:
        """Embeddings of the virtual tokens as the model sees them, float32, shape ``[n, d]``."""
        return self.base + self.w * self.w_scale

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        shape = f"n_tokens={self.n_tokens}, layers={self.config.layers}"
        return f"{shape}, position={self.config.position!r}, made_for={self.made_for.name!r}"

    def leaves(self) -> Leaves:
        """The parameters as the values that gradients are taken of."""
        return Leaves(self.h, self.w)
