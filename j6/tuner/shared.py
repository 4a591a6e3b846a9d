"""Whether what all prompts begin with may be run once, and running it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from j6.examples import EncodedExample, collate
from j6.jacobian import leaf_gradients
from j6.soft_prompt import SoftPrompt
from j6.soft_prompt.anatomy import text_config
from j6.tuner.answers import AnswerRunner
from j6.tuner.prefix import PrefixCache, common_prefix, without_prefix

logger = logging.getLogger(__name__)


def shared_prefix(
    soft_prompt: SoftPrompt, model: Any, examples: Sequence[EncodedExample]
) -> PrefixCache | None:
    """Run what all prompts begin with, and try it out on two examples.

    Padding comes to stand between the prefix and the rest of shorter rows. A model that counts
    columns instead of positions, or whose cache takes no batch, is found by its answers.

    Args:
        soft_prompt: The prompt, attached to ``model``.
        model: The model.
        examples: All examples of the run.

    Returns:
        The prefix, or ``None`` where there is none or its cache would change a loss.
    """
    window = getattr(text_config(model), "sliding_window", None)
    if window is not None:  # exact, where the trial has to allow for rounding
        window -= soft_prompt.n_tokens
    length = common_prefix(examples, window)
    # Checkpointing runs layers twice, and what they do to the cache with them.
    if length == 0 or any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        return None
    ends = [pick(examples, key=_length) for pick in (min, max)]
    device = soft_prompt.w.device
    whole = collate(ends, device)
    with torch.no_grad():
        expected = AnswerRunner(soft_prompt, model).logits(whole)
    rest = collate([without_prefix(example, length) for example in ends], device)
    try:
        with soft_prompt.disabled():
            prefix = PrefixCache(model, torch.tensor(ends[0].prompt[:length], device=device))
        found = AnswerRunner(soft_prompt, model, prefix).logits(rest)
        leaf_gradients(found.sum(), soft_prompt.leaves())
    except Exception as error:  # noqa: BLE001 (models fail in many ways, and none of them matters)
        logger.info("the prompts' common beginning is run every time: %r", error)
        return None
    answer = whole.mask > 0
    dtype = model.get_input_embeddings().weight.dtype
    if not _agree(found.detach()[answer], expected[answer], dtype):
        logger.info("the prompts' common beginning is run every time: a cache changes the answers")
        return None
    return prefix


def _length(example: EncodedExample) -> int:
    return len(example.prompt) + len(example.answer)


def _agree(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether logits ``[N, V]`` are the same at every token, but for rounding in a dtype."""
    apart = (found - expected).norm(dim=-1)
    size = (expected - expected.mean(-1, keepdim=True)).norm(dim=-1)
    return bool((apart <= math.sqrt(torch.finfo(dtype).eps) * size).all())
