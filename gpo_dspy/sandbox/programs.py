"""Programs to try optimizers on."""

from __future__ import annotations

import dspy


class PlanThenAnswer(dspy.Module):  # type: ignore[misc, unused-ignore]
    """Two modules: ``plan`` writes down the steps, ``answer`` carries them out.

    The second module's accuracy depends on the plan, so both instructions have to be good.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.answer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        """Plan, then answer.

        Args:
            question: A story from ``make_dataset("plan_then_answer", ...)``.
        """
        plan = self.plan(question=question).plan
        return self.answer(question=question, plan=plan)


def program_for(task: str) -> dspy.Module:
    """Return a program with neutral instructions that fits a task.

    Args:
        task: One of `gpo_dspy.sandbox.TASK_NAMES`.
    """
    return PlanThenAnswer() if task == "plan_then_answer" else dspy.Predict("question -> answer")
