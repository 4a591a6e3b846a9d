"""What is wrong with the current prompt, in the prompt model's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dspy

from gpo_dspy.direction.base import (
    Direction,
    View,
    WrittenDirection,
    at_least_one,
    kinds_of,
)
from gpo_dspy.direction.retrieval import NoDirection
from gpo_dspy.meta_prompt import numbered, percent
from gpo_dspy.prompt_model import Question
from gpo_dspy.state import ScoredPrompt

if TYPE_CHECKING:
    from gpo_dspy.trajectory import Trajectory


class ReflectOnFailures(dspy.Signature):  # type: ignore[misc]  # DSPy has no types
    """Find out what is wrong with a prompt for a language model.

    A program gives a language model a prompt and the input fields of an example; the model
    fills in the output fields, and a metric scores them from 0 to 100. Below are the current
    prompt and examples on which it failed. Give the reasons why the prompt could have led to
    these failures, the one behind most of them first, and say what a prompt would have to tell
    the model to prevent them. Write about the prompt, not about single examples, and do not write
    the new prompt.
    """

    task_description: str = dspy.InputField(desc="what the program gets and gives")
    current_prompt: str = dspy.InputField(desc="the prompt to judge")
    current_score: str = dspy.InputField(desc="score of the current prompt")
    objective: str = dspy.InputField(desc="what the score is made of")
    failures: str = dspy.InputField(desc="what went wrong with the current prompt")
    length: str = dspy.InputField(desc="how long the reflection may be")
    reflection: str = dspy.OutputField(desc="what is wrong with the prompt, and why")


@dataclass(frozen=True)
class Reflection:
    """Textual feedback on the current prompt as the direction: the gradient in words.

    The paper's "prompt + performance + reflection", after ProTeGi (Pryzant et al. 2023,
    arXiv 2305.03495): the prompt model is shown failures of the current prompt and writes what is
    wrong with it. In the paper this joins any momentum: ``Reflection(Relevance(k=3))`` and
    ``Reflection(Summary())`` are the others of its rows. It found that reflection lowers what is
    reached. Ours: what the request says, and that one reflection stands in all requests of a step,
    where ProTeGi writes several.

    One request a step and predictor, besides those of ``momentum``; none where nothing failed.

    Attributes:
        momentum: What is shown besides; nothing by default.
        failures: Failures that the request shows, drawn anew in each step.
        words: Words that the reflection may have. They are requested; a text of more than twice as
            many is not used.
    """

    momentum: Direction = NoDirection()  # noqa: RUF009 - frozen
    failures: int = 6
    words: int = 200

    def __post_init__(self) -> None:
        if isinstance(self.momentum, type) or not callable(self.momentum):
            raise TypeError(
                f"momentum must be a Direction such as Relevance(k=3); found {self.momentum!r}."
            )
        if "reflection" in kinds_of(self.momentum):
            raise ValueError("momentum must be a direction without a reflection of its own.")
        at_least_one(self, "failures", "words")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of the momentum, and "reflection"."""
        return (*kinds_of(self.momentum), "reflection")

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
        """Return the prompts that the momentum chooses."""
        return self.momentum(trajectory, current)

    def questions(self, view: View) -> tuple[Question, ...]:
        """Ask what is wrong with the current prompt."""
        momentum = self.momentum
        asked = tuple(momentum.questions(view)) if isinstance(momentum, WrittenDirection) else ()
        failures = view.failures(self.failures)
        if not failures:
            return asked
        fields = {
            "task_description": view.task_description,
            "current_prompt": view.current.text,
            "current_score": percent(view.current.score),
            "objective": view.objective,
            "failures": numbered("Failure", failures),
            "length": f"At most {self.words} words.",
        }
        return (*asked, Question("reflection", ReflectOnFailures, fields, self.words))
