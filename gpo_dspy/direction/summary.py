"""The trajectory as a text that is carried on from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dspy

from gpo_dspy.direction.base import View, at_least_one
from gpo_dspy.meta_prompt import percent, show_scored
from gpo_dspy.prompt_model import Question
from gpo_dspy.state import ScoredPrompt

if TYPE_CHECKING:
    from gpo_dspy.trajectory import Trajectory


class SummarizeTrajectory(dspy.Signature):  # type: ignore[misc]  # DSPy has no types
    """Summarize what was learned from the prompts tried so far for a language model.

    A program gives a language model a prompt and the input fields of an example; the model
    fills in the output fields, and a metric scores them from 0 to 100. The prompt is improved
    step by step. Below are the former summary, the prompts tried since with their scores, in
    ascending order, and the current prompt. Write the summary that replaces the former one: what
    the better prompts say, what lowered the score or made no difference, and which problems the
    current prompt still has. Keep from the former summary what still holds, and be concrete:
    whoever reads it to write the next prompt will not see the earlier ones.
    """

    task_description: str = dspy.InputField(desc="what the program gets and gives")
    former_summary: str = dspy.InputField(desc="the summary to replace")
    scored_prompts: str = dspy.InputField(desc="prompts tried since, with scores, ascending")
    current_prompt: str = dspy.InputField(desc="the present prompt")
    current_score: str = dspy.InputField(desc="score of the current prompt")
    objective: str = dspy.InputField(desc="what the score is made of")
    length: str = dspy.InputField(desc="how long the summary may be")
    summary: str = dspy.OutputField(desc="the new summary")


@dataclass(frozen=True)
class Summary:
    """A running summary of the trajectory in place of a list of prompts.

    The paper's "summarization-based trajectory": at each step the prompt model summarizes, from
    its summary of the step before and the newest results. The paper found it less helpful than
    retrieved prompts. Ours: what the request says, that it shows all prompts tried since the last
    summary, and that nothing is asked in the first step, which has nothing to summarize.

    One request a step and predictor.

    Attributes:
        newest: Most prompts that one request shows; of more, the newest.
        words: Words that the summary may have. They are requested; a text of more than twice as
            many is not used.
    """

    newest: int = 16
    words: int = 200

    kinds = ("summary",)

    def __post_init__(self) -> None:
        at_least_one(self, "newest", "words")

    def __call__(self, trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:  # noqa: ARG002
        """Return nothing: the summary stands for the prompts."""
        return ()

    def questions(self, view: View) -> tuple[Question, ...]:
        """Ask for a summary of the former one and what was tried since."""
        former = view.former.get("summary")
        since = former.step if former else 0  # it was written before the prompts of its own step
        tried = [
            prompt
            for prompt in view.trajectory
            if prompt.step >= since and prompt.text != view.current.text
        ]
        if not tried and not former:
            return ()
        shown = sorted(tried[-self.newest :], key=lambda prompt: prompt.score)
        fields = {
            "task_description": view.task_description,
            "former_summary": former.text if former else "",
            "scored_prompts": show_scored(shown),
            "current_prompt": view.current.text,
            "current_score": percent(view.current.score),
            "objective": view.objective,
            "length": f"At most {self.words} words.",
        }
        return (Question("summary", SummarizeTrajectory, fields, self.words),)
