"""The text by which the memory compares prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dspy

EXAMPLES = 3
"""Training examples that say what a task is about."""

LONGEST_EXAMPLE = 160
"""Characters of one that are used: small embedding models read some 200 words in all."""


def task_text(fields: str, trainset: Sequence[dspy.Example]) -> str:
    """Return what says which task a predictor has: examples, then its fields.

    Fields alone do not: half of all programs are ``question -> answer``. Examples of a task are
    alike even where its fields have other names.

    Args:
        fields: What the predictor gets and gives, in words.
        trainset: The program's training examples; the first few are taken.
    """
    examples = (_example_text(example) for example in islice(trainset, EXAMPLES))
    return "\n".join([*examples, fields])


def memory_text(task: str, instruction: str) -> str:
    """Return what is embedded of a prompt: what it is for, then what it says.

    The task makes prompts of one task near one another however they are worded; the instruction
    tells them apart. The same in every version, or the vectors of a storage are lost to the next.

    Args:
        task: What the predictor gets and gives, in words.
        instruction: The prompt.
    """
    return f"{task}\n\n{instruction}"


def _example_text(example: dspy.Example) -> str:
    values: Iterable[object] = (*example.inputs().values(), *example.labels().values())
    return " ".join(" ".join(str(value) for value in values).split())[:LONGEST_EXAMPLE]
