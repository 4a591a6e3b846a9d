"""A soft prompt on disk: ``soft_prompt.safetensors`` and ``soft_prompt.json`` in one folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from j6.files import read_json, write_json, write_tensors
from j6.soft_prompt.config import SoftPromptConfig
from j6.soft_prompt.fingerprint import Fingerprint

TENSORS, DESCRIPTION = "soft_prompt.safetensors", "soft_prompt.json"
FORMAT = 1
KEYS = {"w", "h", "base", "w_scale", "h_scale"}


def write_prompt(
    folder: Path, tensors: dict[str, Tensor], config: SoftPromptConfig, made_for: Fingerprint
) -> None:
    """Write a soft prompt; the description goes last and only onto finished tensors.

    Args:
        folder: Where to write; made if it is not there.
        tensors: Parameters and buffers by name.
        config: Shape and place.
        made_for: The model it belongs to.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            msg = f"{name} holds NaN or infinity: such a prompt is not saved"
            raise ValueError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / TENSORS, tensors)
    description = {"format": FORMAT, "config": asdict(config), "model": made_for.to_json()}
    write_json(folder / DESCRIPTION, description)


def read_prompt(folder: Path) -> tuple[dict[str, Tensor], SoftPromptConfig, Fingerprint]:
    """Read what :func:`write_prompt` wrote.

    Args:
        folder: The folder.

    Returns:
        Tensors, configuration and fingerprint.

    Raises:
        FileNotFoundError: If the folder holds no soft prompt.
        ValueError: If the files are of another format or broken.
    """
    for name in (DESCRIPTION, TENSORS):
        if not (folder / name).is_file():
            msg = f"{folder} has no {name}: pass a folder that SoftPrompt.save wrote"
            raise FileNotFoundError(msg)
    description = read_json(folder / DESCRIPTION)
    if description.get("format") != FORMAT:
        msg = (
            f"{folder / DESCRIPTION} has format {description.get('format')!r}; this version reads "
            f"format {FORMAT}: use the version that wrote it"
        )
        raise ValueError(msg)
    try:
        tensors = load_file(folder / TENSORS)
    except SafetensorError as error:
        msg = f"{folder / TENSORS} is broken ({error}): copy the folder again"
        raise ValueError(msg) from error
    if set(tensors) != KEYS:
        msg = f"{folder / TENSORS} holds {sorted(tensors)}; {sorted(KEYS)} are needed"
        raise ValueError(msg)
    try:
        config: dict[str, Any] = description["config"]
        config["layers"] = tuple(config["layers"])
        made_for = Fingerprint.from_json(description["model"])
        return tensors, SoftPromptConfig(**config), made_for
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        msg = f"{folder / DESCRIPTION} is broken ({error!r}): copy the folder again"
        raise ValueError(msg) from error
