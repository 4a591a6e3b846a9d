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


def put_into_words(
    direction: Direction, views: Mapping[str, View], prompt_model: PromptModel
) -> dict[str, tuple[DirectionText, ...]]:
    """Let the prompt model write the direction of each predictor, if it is one in words.

    An answer that cannot be used leaves a text that says why; the step goes on without it.

    Args:
        direction: The direction.
        views: What is known, by predictor.
        prompt_model: Whom to ask.

    Raises:
        BackendUnavailable: The prompt model's backend refused, or stayed away.
    """
    if not isinstance(direction, WrittenDirection):
        return dict.fromkeys(views, ())
    asked = [(name, q) for name, view in views.items() for q in direction.questions(view)]
    answers = ordered_map(
        lambda pair: prompt_model.ask(pair[1]), asked, num_threads=prompt_model.num_threads
    )
    texts = [
        _text(question, name, views[name].step, answer)
        for (name, question), answer in zip(asked, answers, strict=True)
    ]
    return {name: tuple(text for text in texts if text.predictor == name) for name in views}


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
