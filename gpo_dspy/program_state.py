"""What of a program the search changes, as a value: instructions and demos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Instructions = tuple[tuple[str, str], ...]
"""(predictor name, instruction) pairs in the program's own order."""


@dataclass(frozen=True, slots=True)
class Demo:
    """A worked example in one predictor's prompt.

    Attributes:
        example: Index of the training example it was made of; programs that show it are not
            scored on that one.
        fields: The values of the predictor's fields as a JSON object, as DSPy saves demos.
        bootstrapped: Whether the outputs are the program's own, from a run that went right, and
            not the example's labels.
    """

    example: int
    fields: str
    bootstrapped: bool = False

    def values(self) -> dict[str, Any]:
        """Return the values of the predictor's fields."""
        values: dict[str, Any] = json.loads(self.fields)
        return values


Demos = tuple[tuple[str, tuple[Demo, ...]], ...]
"""(predictor name, demos) pairs; a predictor not named keeps the demos the student has."""


@dataclass(frozen=True, slots=True)
class ProgramState:
    """The state of a program; :func:`gpo_dspy.program.with_state` makes the program of it.

    Attributes:
        instructions: Of every predictor.
        demos: Of the predictors whose demos were searched.
    """

    instructions: Instructions
    demos: Demos = ()

    def instruction(self, predictor: str) -> str:
        """Return the instruction of a predictor."""
        return dict(self.instructions)[predictor]

    def rewritten(self, changes: Mapping[str, str]) -> ProgramState:
        """Return the state in which the named predictors have the given instructions."""
        changed = tuple((name, changes.get(name, text)) for name, text in self.instructions)
        return replace(self, instructions=changed)

    def with_demos(self, demos: Demos) -> ProgramState:
        """Return the state in which the named predictors have the given demos."""
        changed = dict(self.demos) | dict(demos)
        order = [name for name, _ in self.instructions]
        return replace(self, demos=tuple((n, changed[n]) for n in order if n in changed))

    @property
    def shown(self) -> frozenset[int]:
        """Training examples (by index) that the demos were made of."""
        return frozenset(demo.example for _, demos in self.demos for demo in demos)

    @property
    def key(self) -> str:
        """Hash of what the program's LMs are told: the same in every run and on every machine."""
        told = [self.instructions, [(n, [d.fields for d in demos]) for n, demos in self.demos]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def to_json(self) -> str:
        """Write the state as JSON text; the same state gives the same text."""
        demos = [
            [name, [[d.example, d.fields, d.bootstrapped] for d in demos]]
            for name, demos in self.demos
        ]
        return json.dumps({"instructions": self.instructions, "demos": demos}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ProgramState:
        """Read a state that :meth:`to_json` wrote."""
        found = json.loads(text)
        return cls(
            tuple((name, instruction) for name, instruction in found["instructions"]),
            tuple((name, tuple(Demo(*demo) for demo in demos)) for name, demos in found["demos"]),
        )
