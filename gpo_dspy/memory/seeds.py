"""What a new run starts from: a few good and different prompts of similar earlier runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from gpo_dspy.edits import words, words_changed
from gpo_dspy.memory._memory import Memory
from gpo_dspy.memory.text import memory_text

if TYPE_CHECKING:
    from gpo_dspy.storage.rows import PromptRow, Remembered

Item = TypeVar("Item")

POOLS = (64, 256)
"""Nearest prompts that name the runs; the second number where the first names too few."""

LEAST_SIMILARITY = 0.5
"""Runs less similar are about something else. Of 7 sandbox tasks and the same under other field
names, all-MiniLM-L6-v2 gave 0.64 to 0.83 to the same task, and 0.09 to 0.53 to others."""

FARTHER, SLACK = 2.0, 0.25
"""A run may be so many times as far away as the nearest (in 1 - similarity), and this much more."""

ENOUGH = 12
"""Examples that a score must rest on, if the run has scored any prompt on so many."""

ALIKE = 0.2
"""Two prompts that differ in at most this share of their words are one."""


def seeds(
    memory: Memory,
    task: str,
    instruction: str,
    *,
    kind: str | None,
    model: str | None,
    limit: int = 4,
    not_run: int | None = None,
) -> list[Remembered]:
    """Choose prompts of earlier runs that are worth a try on a new task.

    The prompts nearest to a start prompt are the start prompts of similar runs, and rewrites that
    changed little; what such a run learned is farther away. So the nearest prompts only say which
    runs are near, and each run says which of its prompts are good:

    1. The 64 prompts nearest to ``task`` and ``instruction`` name the near (run, predictor) pairs,
       the nearest first; 256 do if those name fewer than ``limit``. Pairs much farther away than
       the nearest, and those below a similarity of 0.5, are left out.
    2. Of each pair, those prompts are good whose score rests on enough examples and is above that
       of the run's own start prompt, and above that of ``instruction``, if the run tried it.
       Scores of different runs are of different examples and are never compared.
    3. A pair's prompts are ranked by their gain over the start prompt, times n / (n + 12) for a
       score of n examples: the highest of many scores that rest on little is mostly luck.
    4. One after the other, each pair gives its best, then each its second best, until there are
       ``limit``. A prompt that is nearly the text of one chosen before is passed over.

    Args:
        memory: Where to look.
        task: What the predictor gets and gives, in words.
        instruction: The predictor's own prompt; never chosen.
        kind: Only prompts of predictors of this class; None for any.
        model: Only prompts for this LM; None for any.
        limit: How many to choose at most, at least 1.
        not_run: The run that asks.

    Returns:
        The prompts, the most promising first; empty if nothing near gained anything.

    Raises:
        ValueError: ``limit`` is below 1.
        StorageError: The storage cannot be read.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, found {limit!r}.")
    text = memory_text(task, instruction)
    near: list[tuple[int, str]] = []
    for pool in POOLS:
        found = memory.search(text, pool, kind=kind, model=model, not_run=not_run)
        near = _near_pairs(found)
        if len(near) >= limit or len(found) < pool:
            break
    chosen: list[Remembered] = []
    offers = [_good(memory, run, predictor, instruction) for run, predictor in near]
    for run, row in _in_turn(offers):
        if not any(_alike(row.text, other.text) for other in chosen):
            prompt = memory.find(run, row)
            chosen += [prompt] if prompt else []
        if len(chosen) == limit:
            break
    return chosen


def _near_pairs(found: Sequence[tuple[Remembered, float]]) -> list[tuple[int, str]]:
    """Return the (run, predictor) pairs that are near enough, the nearest first."""
    nearest: dict[tuple[int, str], float] = {}
    for prompt, similarity in found:  # the most similar first
        nearest.setdefault((prompt.run, prompt.predictor), similarity)
    best = max(nearest.values(), default=0.0)
    least = max(LEAST_SIMILARITY, 1.0 - FARTHER * (1.0 - best) - SLACK)
    return [pair for pair, similarity in nearest.items() if similarity >= least]


def _good(
    memory: Memory, run: int, predictor: str, instruction: str
) -> Iterator[tuple[int, PromptRow]]:
    """Yield the run and its prompts that gained something, the best first."""
    rows = [row for row in memory.storage.prompts(run) if row.predictor == predictor]
    enough = min(ENOUGH, max((row.evaluations for row in rows), default=0))
    start = [row.score for row in rows if row.step == 0]
    own = [row.score for row in rows if row.text == instruction and row.evaluations >= enough]
    if not start:
        return
    least = max([start[0], *own])

    def promise(row: PromptRow) -> float:
        return (row.score - start[0]) * row.evaluations / (row.evaluations + ENOUGH)

    good = [row for row in rows if row.score > least and row.evaluations >= enough]
    for row in sorted(good, key=promise, reverse=True):  # stable: the older first on ties
        yield run, row


def _in_turn(iterators: Iterable[Iterator[Item]]) -> Iterator[Item]:
    """Yield the first item of each iterator, then the second of each, and so on."""
    waiting = deque(iterators)
    while waiting:
        iterator = waiting.popleft()
        for item in iterator:
            yield item
            waiting.append(iterator)
            break


def _alike(one: str, other: str) -> bool:
    longest = max(len(words(one)), len(words(other)))
    return words_changed(one, other) <= ALIKE * longest
