"""A tiny task with a real tokenizer: words to words."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<system>", "<user>", "<assistant>", "<end>"]
WORDS = [f"w{i}" for i in range(50)]
TEMPLATE = (
    "{{ '<s> ' }}{% for m in messages %}{{ '<' + m.role + '> ' + m.content + ' <end> ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
PAIRS = [(f"w{i} w{i + 1}", f"w{(7 * i) % 20} w{(3 * i) % 20}") for i in range(12)]
HELD_OUT = [(f"w{i} w{i + 1}", f"w{(7 * i) % 20} w{(3 * i) % 20}") for i in range(12, 18)]


def tokenizer(**changes: Any) -> Any:
    """A word tokenizer with BOS, EOS and a chat template, like those of real models."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 (no password)
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "additional_special_tokens": SPECIAL[4:],
        **changes,
    }
    make: Any = PreTrainedTokenizerFast  # untyped
    found = make(tokenizer_object=backend, **settings)
    found.chat_template = TEMPLATE
    return found
