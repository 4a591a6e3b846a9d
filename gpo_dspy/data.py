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
class Split:
    """What decides which of the same examples has which role.

    Attributes:
        seed: Of the draw.
        holdout: Validation examples kept from the search, if there is no test set.
    """

    seed: int
    holdout: int


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

    def shuffled_pool(self, seed: int) -> tuple[int, ...]:
        """Return training and validation examples in a seeded order, equal ones once."""
        indices = [alike[0] for alike in self._alike()]
        random.Random(f"{seed}/pool").shuffle(indices)
        return tuple(indices)

    def copies(self) -> dict[int, frozenset[int]]:
        """Return which examples of the search equal each training example, itself included."""
        train = set(self.train)
        return {
            index: frozenset(alike) for alike in self._alike() for index in alike if index in train
        }

    def _alike(self) -> list[list[int]]:
        """Return training and validation examples in groups of equal ones, by the first of each."""
        groups: dict[str, list[list[int]]] = {}
        for index in (*self.train, *self.validation):
            example = self.examples[index]
            # A long array is shortened in its text: compare as well.
            near = groups.setdefault(_key(example), [])
            alike = next((g for g in near if _same(example, self.examples[g[0]])), None)
            if alike is None:
                near.append([index])
            else:
                alike.append(index)
        return sorted(group for near in groups.values() for group in near)


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
    ``holdout`` validation examples (seeded) are kept from the search, at most half of them. The
    search never sees an example that is kept, even where it is in another set too.

    Args:
        trainset: At least one example; two, if there is no ``valset``.
        valset: Validation examples, or None.
        testset: Examples for the final claim, or None.
        holdout: How many validation examples to keep from the search, if there is no ``testset``.
        seed: Decides who goes where.

    Raises:
        ValueError: A set is empty, or holds what is not an example with inputs; no input field is
            in two of them; or all of a set is in ``testset`` too.
    """
    _check("trainset", trainset)
    shuffle = random.Random(f"{seed}/roles")
    if valset is None:
        if len(trainset) < 2:
            raise ValueError(
                "trainset has 1 example and there is no valset: give at least 2 examples, so that "
                "one can be kept for validation, or pass valset=."
            )
        half = int(len(trainset) * VALIDATION_SHARE)
        shuffled = shuffle.sample(list(trainset), len(trainset))
        trainset, valset = shuffled[half:], shuffled[:half]
        logger.info(
            "No valset given: %d of the trainset's %d examples are used for validation (seed %d).",
            len(valset), len(shuffled), seed,
        )  # fmt: skip
    _check("valset", valset)
    if testset is not None:
        _check("testset", testset)
    for name, others in (("valset", valset), ("testset", testset or ())):
        _check_fields(name, others, trainset)
    examples = (*trainset, *valset, *(testset or ()))
    train = range(len(trainset))
    validation = range(len(trainset), len(trainset) + len(valset))
    held: Sequence[int] = range(len(trainset) + len(valset), len(examples))
    if testset is None:
        size = min(holdout, int(len(valset) * HOLDOUT_SHARE))
        held = sorted(shuffle.sample(validation, size))
    shown, scored = _without(examples, train, held), _without(examples, validation, held)
    if not (shown and scored):
        if testset is not None:
            raise ValueError(
                "testset holds every example of trainset or of valset: a claim needs examples that "
                "the search never saw."
            )
        shown, scored, held = tuple(train), tuple(validation), ()
    searched = {*train, *validation} - set(held)
    if copies := len(searched) - len(shown) - len(scored):
        logger.warning(
            "%d training and validation examples are left out of the search: they equal some that "
            "the claim rests on.", copies,
        )  # fmt: skip
    return Data(examples, shown, scored, tuple(held))


def _without(
    examples: Sequence[dspy.Example], indices: Sequence[int], held: Sequence[int]
) -> tuple[int, ...]:
    """Return the indices of examples that are not held, nor equal to one that is."""
    kept = [examples[index] for index in held]
    return tuple(i for i in indices if not any(_same(examples[i], example) for example in kept))


def _key(example: dspy.Example) -> str:
    return repr(sorted(example.toDict().items()))


def _same(one: dspy.Example, other: dspy.Example) -> bool:
    try:
        return one is other or bool(one == other)
    except ValueError:  # arrays as fields have no plain truth value
        return False


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
    fields = dict.fromkeys(field for example in examples for field in example.keys())  # noqa: SIM118 - no dict
    inputs = dict.fromkeys(field for example in examples for field in example._input_keys)
    if inputs and not set(inputs) & set(fields):
        raise ValueError(
            f"{name} names {', '.join(map(repr, inputs))} in .with_inputs(...), and its examples "
            f"have the fields {', '.join(map(repr, fields))}: name those that the program takes."
        )


def _check_fields(
    name: str, examples: Sequence[dspy.Example], trainset: Sequence[dspy.Example]
) -> None:
    """Refuse a set that is for another program: some examples may lack a field, not all of them."""
    found, usual = (
        {field for example in each for field in example.inputs().keys()}  # noqa: SIM118 - no dict
        for each in (examples, trainset)
    )
    if found and usual and not found & usual:
        raise ValueError(
            f"{name} has the input fields {', '.join(sorted(found))}, and trainset has "
            f"{', '.join(sorted(usual))}: give both sets the fields that the program takes, and "
            "name them in .with_inputs(...)."
        )
