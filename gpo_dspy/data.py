"""Which example is used for what: shown, searched on, or kept for the final claim."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

import dspy

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.5
"""Share of the training set that becomes the validation set where none is given."""

HOLDOUT_SHARE = 0.5
"""Largest share of the validation set that is kept from the search."""


@dataclass(frozen=True, slots=True)
class Data:
    """The examples of a run and their roles, as indices into ``examples``.

    Attributes:
        examples: Training examples, then validation examples, then test examples.
        train: May be shown to the prompt model.
        validation: Candidates are scored on them.
        holdout: Never seen by the search; the final claim rests on them.
    """

    examples: tuple[dspy.Example, ...]
    train: tuple[int, ...]
    validation: tuple[int, ...]
    holdout: tuple[int, ...]


def assign_roles(
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] | None,
    testset: Sequence[dspy.Example] | None,
    *,
    holdout: int,
    seed: int,
) -> Data:
    """Give every example its role.

    Without a validation set, half of the training set (seeded) becomes one. Without a test set,
    ``holdout`` validation examples (seeded) are kept from the search, at most half of them.

    Args:
        trainset: At least one example; two, if there is no ``valset``.
        valset: Validation examples, or None.
        testset: Examples for the final claim, or None.
        holdout: How many validation examples to keep from the search, if there is no ``testset``.
        seed: Decides who goes where.

    Raises:
        ValueError: A set is empty, or holds what is not an example with inputs.
    """
    _check("trainset", trainset)
    shuffle = random.Random(f"{seed}/roles")
    if valset is None:
        if len(trainset) < 2:
            raise ValueError(
                "trainset has 1 example and there is no valset: give at least 2 examples, so that "
                "one can be kept for validation, or pass valset=."
            )
        validation = int(len(trainset) * VALIDATION_SHARE)
        shuffled = shuffle.sample(list(trainset), len(trainset))
        trainset, valset = shuffled[validation:], shuffled[:validation]
        logger.info(
            "No valset given: %d of the trainset's %d examples are used for validation (seed %d).",
            len(valset), len(shuffled), seed,
        )  # fmt: skip
    _check("valset", valset)
    if testset is not None:
        _check("testset", testset)
    examples = (*trainset, *valset, *(testset or ()))
    train = range(len(trainset))
    validation_indices = list(range(len(trainset), len(trainset) + len(valset)))
    held = list(range(len(trainset) + len(valset), len(examples)))
    if testset is None:
        held = sorted(
            shuffle.sample(validation_indices, min(holdout, int(len(valset) * HOLDOUT_SHARE)))
        )
        validation_indices = [index for index in validation_indices if index not in set(held)]
    return Data(examples, tuple(train), tuple(validation_indices), tuple(held))


def _check(name: str, examples: Sequence[dspy.Example]) -> None:
    if isinstance(examples, str) or not hasattr(examples, "__len__"):
        raise ValueError(
            f"{name} must be a list of dspy.Example, got {type(examples).__name__}; wrap an "
            "iterator in list(...)."
        )
    if not len(examples):
        raise ValueError(f"{name} is empty: give at least one dspy.Example.")
    for position, example in enumerate(examples):
        if not isinstance(example, dspy.Example):
            raise ValueError(
                f"{name}[{position}] is a {type(example).__name__}, not a dspy.Example; write "
                "dspy.Example(question=..., answer=...).with_inputs('question')."
            )
        if getattr(example, "_input_keys", None) is None:
            raise ValueError(
                f"{name}[{position}] does not say which of its fields are inputs; call "
                ".with_inputs('question', ...) on it."
            )
