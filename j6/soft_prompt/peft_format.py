"""The embeddings of a soft prompt as a PEFT prompt-tuning adapter, and back.

PEFT puts its virtual tokens before everything and knows no hidden-layer insertions, so only w
travels. The files are PEFT's own (``adapter_config.json``, ``adapter_model.safetensors``); PEFT
itself is not needed to write or read them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from j6.files import read_json, write_json, write_tensors
from j6.soft_prompt.anatomy import Anatomy
from j6.soft_prompt.config import SoftPromptConfig
from j6.soft_prompt.fingerprint import Fingerprint
from j6.soft_prompt.initial import InitialPrompt, initial_prompt
from j6.soft_prompt.module import SoftPrompt

TENSORS, DESCRIPTION, KEY = "adapter_model.safetensors", "adapter_config.json", "prompt_embeddings"


def export_peft(soft_prompt: SoftPrompt, folder: str | Path) -> None:
    """Write w as a PEFT prompt-tuning adapter.

    Args:
        soft_prompt: The prompt; a warning says what of it PEFT has no place for.
        folder: Where to write; made if it is not there.
    """
    if soft_prompt.h.detach().any():
        warnings.warn("h is left out: PEFT has no place for hidden-layer insertions", stacklevel=2)
    if soft_prompt.config.position != "start":
        warnings.warn(
            f"PEFT puts the virtual tokens before everything, not {soft_prompt.config.position!r}",
            stacklevel=2,
        )
    folder, model = Path(folder), soft_prompt.made_for
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / TENSORS, {KEY: soft_prompt.virtual_embeds})
    description = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name,
        "inference_mode": True,
        "num_virtual_tokens": soft_prompt.n_tokens,
        "token_dim": model.width,
        "num_attention_heads": model.n_heads,
        "num_layers": model.n_layers,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    write_json(folder / DESCRIPTION, description)


def import_peft(
    folder: str | Path, model: nn.Module, layers: tuple[int, ...] | None = ()
) -> SoftPrompt:
    """Read a PEFT prompt-tuning adapter.

    Args:
        folder: The adapter's folder.
        model: The model it was trained for.
        layers: Layers to add an h (at 0) to; by default none.

    Returns:
        A soft prompt that stands before everything, not attached yet.

    Raises:
        FileNotFoundError: If a file of the adapter is missing.
        ValueError: If it is no prompt-tuning adapter for a causal LM of this width, or broken.
    """
    folder = Path(folder)
    description = read_json(folder / DESCRIPTION)
    kind = (description.get("peft_type"), description.get("task_type"))
    if kind != ("PROMPT_TUNING", "CAUSAL_LM"):
        msg = (
            f"{folder} holds a {kind[0]} adapter for {kind[1]}; only PROMPT_TUNING for CAUSAL_LM "
            "can be read as a soft prompt"
        )
        raise ValueError(msg)
    if not (folder / TENSORS).is_file():
        msg = f"{folder} has no {TENSORS}: save the adapter with safe_serialization=True"
        raise FileNotFoundError(msg)
    try:
        embeds: Tensor = load_file(folder / TENSORS)[KEY].float()
    except (SafetensorError, KeyError) as error:
        msg = f"{folder / TENSORS} is broken ({error!r}): copy the adapter again"
        raise ValueError(msg) from error
    anatomy = Anatomy.of(model)
    if embeds.shape[1] != anatomy.width:
        msg = f"the adapter has width {embeds.shape[1]} but the model {anatomy.width}"
        raise ValueError(msg)
    resolved = anatomy.resolve_layers(layers)
    config = SoftPromptConfig(
        n_tokens=len(embeds), layers=resolved, position="start", init="random"
    )
    start = initial_prompt(model, anatomy, config, resolved)
    w = embeds.to(start.w.device) / start.w_scale
    start = InitialPrompt(start.base, w, start.w_scale, start.h_scale)
    return SoftPrompt(config, start, Fingerprint.of(model, anatomy))
