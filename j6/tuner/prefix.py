"""Tokens that all prompts begin with, run through the model once instead of at every step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from j6.examples import EncodedExample

WORTHWHILE = 4
"""Shorter common beginnings are left where they are."""


def common_prefix(examples: Sequence[EncodedExample], window: int | None = None) -> int:
    """Length of what all prompts share before the soft prompt.

    Args:
        examples: The examples.
        window: Columns that the model's sliding-window layers look back, or ``None``. Padding
            between the prefix and shorter rows takes up columns, so where a window does not
            reach over everything, nothing is cut off.

    Returns:
        A number of tokens, none of them after the soft prompt and at least one of every prompt
        left over; 0 where it is not worth while.
    """
    longest = max(len(e.prompt) + len(e.answer) for e in examples)
    if window is not None and window < longest:
        return 0
    room = min(min(e.insert_at, len(e.prompt) - 1) for e in examples)
    first = examples[0].prompt
    length = 0
    while length < room and all(e.prompt[length] == first[length] for e in examples):
        length += 1
    return length if length >= WORTHWHILE else 0


def without_prefix(example: EncodedExample, length: int) -> EncodedExample:
    """Cut the common beginning off an example.

    Args:
        example: The example.
        length: Number of tokens.

    Returns:
        The rest.
    """
    return EncodedExample(example.prompt[length:], example.answer, example.insert_at - length)


class PrefixCache:
    """Keys and values of a prefix, which a soft prompt after it cannot change.

    Args:
        model: The model, with no soft prompt acting.
        prefix: Ids of the tokens, shape ``[P]``.
    """

    @torch.no_grad()
    def __init__(self, model: Any, prefix: Tensor) -> None:
        from transformers import DynamicCache  # only with a model of theirs at hand

        self.length = len(prefix)
        self._cache = DynamicCache(config=model.config)
        model(input_ids=prefix[None], past_key_values=self._cache, use_cache=True)

    def for_batch(self, size: int) -> Any:
        """A cache for one forward pass, which adds to it.

        Args:
            size: Number of rows.

        Returns:
            A ``transformers.DynamicCache`` with the prefix in every row.
        """
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(size)
        return cache
