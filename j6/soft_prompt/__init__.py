"""Soft prompts with hidden-layer insertions, for any Hugging Face causal language model."""

from j6.soft_prompt.config import SoftPromptConfig
from j6.soft_prompt.module import SoftPrompt
from j6.soft_prompt.peft_format import export_peft, import_peft
from j6.soft_prompt.placement import PromptedInputs, system_length

__all__ = [
    "PromptedInputs",
    "SoftPrompt",
    "SoftPromptConfig",
    "export_peft",
    "import_peft",
    "system_length",
]
