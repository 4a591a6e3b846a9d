"""What a run takes up of one that it carries on although something changed: what that one found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gpo_dspy.data import Split
from gpo_dspy.ledger import Usage
from gpo_dspy.program_state import ProgramState
from gpo_dspy.storage.rows import Answer

NAME = "taken up"
"""Under which a journal keeps it; requests to the prompt model are hashes."""


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What the other run found. It is written when the run begins, and never looked up again.

    Attributes:
        split: How the other run divided the examples; None if they are others now.
        start: Examples (by index) that the student's own program was scored on; its text is not
            repeated here, where a key in it would be written.
        programs: Those that the other run accepted, each with the examples (by index) that it was
            scored on; only what is still valid.
        prompts: (predictor, prompt) pairs to be tried first, the best first, where scores are
            not valid any more.
    """

    split: Split | None = None
    start: tuple[int, ...] = ()
    programs: tuple[tuple[ProgramState, tuple[int, ...]], ...] = ()
    prompts: tuple[tuple[str, str], ...] = ()

    def answer(self) -> Answer:
        """Return it in a form in which a journal keeps texts."""
        parts = {
            "split": self.split and [self.split.seed, self.split.holdout],
            "start": self.start,
            "programs": [[program.to_json(), indices] for program, indices in self.programs],
            "prompts": self.prompts,
        }
        return Answer(NAME, 0, json.dumps(parts), None, Usage())

    @classmethod
    def of(cls, answers: Mapping[tuple[str, int], Answer]) -> TakenUp:
        """Return what :meth:`answer` was made of; nothing if it is not there."""
        known = answers.get((NAME, 0))
        if known is None:
            return cls()
        parts = json.loads(known.text)
        return cls(
            Split(*parts["split"]) if parts["split"] else None,
            tuple(parts["start"]),
            tuple(
                (ProgramState.from_json(text), tuple(indices))
                for text, indices in parts["programs"]
            ),
            tuple((predictor, prompt) for predictor, prompt in parts["prompts"]),
        )
