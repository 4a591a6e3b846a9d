"""The update direction in words: the prompt model is asked before it writes the rewrites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpo_dspy.direction import Direction, View, WrittenDirection
from gpo_dspy.edits import words
from gpo_dspy.execution.parallel import ordered_map
from gpo_dspy.prompt_model import PromptModel, Question
from gpo_dspy.state import DirectionText, Fate, StepRecord

LENIENCE = 2
"""A text may have so many times the words asked for: LMs count badly."""


Asked = tuple[str, Question]
"""A predictor, and what the prompt model is asked for its sake."""


def questions(direction: Direction, views: Mapping[str, View]) -> list[Asked]:
    """Return what to ask the prompt model, if the direction is one in words.

    Args:
        direction: The direction.
        views: What is known, by predictor.
    """
    if not isinstance(direction, WrittenDirection):
        return []
    return [(name, q) for name, view in views.items() for q in direction.questions(view)]


def answers(asked: Sequence[Asked], step: int, prompt_model: PromptModel) -> list[DirectionText]:
    """Let the prompt model write the direction of each predictor.

    An answer that cannot be used leaves a text that says why; the step goes on without it.

    Args:
        asked: See :func:`questions`.
        step: The step to come, from 1.
        prompt_model: Whom to ask.

    Raises:
        BackendUnavailable: The prompt model's backend refused, or stayed away.
    """
    given = ordered_map(
        lambda pair: prompt_model.ask(pair[1]), asked, num_threads=prompt_model.num_threads
    )
    return [
        _text(question, name, step, answer)
        for (name, question), answer in zip(asked, given, strict=True)
    ]


def latest_texts(records: Sequence[StepRecord], predictor: str) -> dict[str, DirectionText]:
    """Return the latest text of each kind that could be used, for one predictor."""
    return {
        text.kind: text
        for record in records
        for text in record.texts
        if text.predictor == predictor and text.problem is None
    }


def _text(question: Question, predictor: str, step: int, answer: str | Fate) -> DirectionText:
    problem = answer if isinstance(answer, Fate) else _problem(question, answer)
    text = "" if problem or isinstance(answer, Fate) else answer
    return DirectionText(question.kind, predictor, step, text, problem)


def _problem(question: Question, text: str) -> Fate | None:
    count = len(words(text))
    if not count:
        return Fate.EMPTY
    too_long = question.words is not None and count > LENIENCE * question.words
    return Fate.TOO_LONG if too_long else None
