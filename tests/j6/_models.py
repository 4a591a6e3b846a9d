"""Tiny random models of the nine architectures, as they come from transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 61
BOS, EOS, PAD = 1, 2, 0
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
GATED: dict[str, Any] = {**COMMON, "intermediate_size": 24, "num_key_value_heads": 1}
ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=3,
            n_head=2,
            n_positions=64,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        ),
    ),
    "llama": (LlamaForCausalLM, LlamaConfig(**GATED)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**GATED, head_dim=8)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**GATED, head_dim=8, sliding_window=8)),
    "mistral": (MistralForCausalLM, MistralConfig(**GATED, sliding_window=8)),
    "phi3": (Phi3ForCausalLM, Phi3Config(**GATED)),
    "opt": (
        OPTForCausalLM,
        OPTConfig(**COMMON, ffn_dim=24, word_embed_proj_dim=16, dropout=0.0),
    ),
    "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**COMMON, intermediate_size=24)),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config(**GATED)),
}


def tiny_model(name: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random model in eval mode, with weights large enough to tell positions apart."""
    import copy

    model_class, config = ARCHITECTURES[name]
    config = copy.deepcopy(config)
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    return model.eval()


def switch_on_checkpointing(model: Any) -> None:
    """Gradient checkpointing as soft prompts need it: not re-entrant, the default from 5 on."""
    # transformers before 5.20 knows only the second name
    name = "activation_checkpointing_enable"
    switch = getattr(model, name, model.gradient_checkpointing_enable)
    switch({"use_reentrant": False})
