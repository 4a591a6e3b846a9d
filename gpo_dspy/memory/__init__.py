"""The memory across runs: the prompts of every earlier run in a storage, found by meaning.

A new run starts from what was learned on similar tasks. :class:`Memory` finds the prompts nearest
to a text, and :func:`gpo_dspy.memory.seeds.seeds` chooses a few good and different ones of them::

    memory = Memory(storage, embedder)
    memory.search(memory_text(task, instruction), k=10)  # [(Remembered, similarity), ...]

The vectors are in the storage; the index over them is kept in a file beside it, which can be
deleted at any time.
"""

from gpo_dspy.memory._memory import Memory
from gpo_dspy.memory.text import memory_text

__all__ = ["Memory", "memory_text"]
