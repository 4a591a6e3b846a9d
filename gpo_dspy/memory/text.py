"""The text by which the memory compares prompts."""

from __future__ import annotations


def memory_text(task: str, instruction: str) -> str:
    """Return what is embedded of a prompt: what it is for, then what it says.

    The task makes prompts of one task near one another however they are worded; the instruction
    tells them apart. The same in every version, or the vectors of a storage are lost to the next.

    Args:
        task: What the predictor gets and gives, in words.
        instruction: The prompt.
    """
    return f"{task}\n\n{instruction}"
