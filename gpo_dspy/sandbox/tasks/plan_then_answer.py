"""Stories with several operations, solved by a planner and an answerer.

The planner's mistakes are in its plan; the answerer does what the plan says. So the final answer
depends on both instructions, and neither module can be judged without the other.
"""

from __future__ import annotations

from gpo_dspy.sandbox.dice import Dice

from . import stories
from .base import Item, Mode, as_form
from .stories import Step, execute, read_plan, write_plan


def _steps(item: Item) -> list[Step]:
    steps: list[Step] = item.data
    return [step for step in steps if step.kind != "aside"]


def _planned(item: Item, steps: list[Step], *, blank: bool = False) -> str | None:
    text = write_plan(steps, blank=blank)
    return text if execute(read_plan(text)) != int(item.answer) else None


def _skips_step(item: Item) -> str | None:
    steps = _steps(item)
    middle = len(steps) // 2
    return _planned(item, steps[:middle] + steps[middle + 1 :])


def _no_quantities(item: Item) -> str | None:
    return _planned(item, _steps(item), blank=True)


def _wrong_order(item: Item) -> str | None:
    steps = _steps(item)
    return _planned(item, [steps[0], *reversed(steps[1:])])


def _irrelevant(item: Item) -> str | None:
    asides = [step for step in item.data if step.kind == "aside"]
    if not asides:
        return None
    return _planned(item, [*_steps(item), Step("add", (asides[0].numbers[0],))])


def _slip(item: Item) -> str | None:
    return str(int(item.answer) + len(item.data))


def _without_last(item: Item) -> str | None:
    wrong = execute(_steps(item)[:-1])
    return str(wrong) if str(wrong) != item.answer else None


PLAN_MODES = (
    Mode("skips a step", 0.25, _skips_step, ("complete",), {"concise": 0.2, "brief": 0.3},
         "The plan leaves out a step of the story."),
    Mode("no quantities", 0.22, _no_quantities, ("quantities",), {"simplify": 0.2, "concise": 0.1},
         "The plan does not mention the quantities."),
    Mode("wrong order", 0.25, _wrong_order, ("in_order",), {"creative": 0.2},
         "The plan has the operations in the wrong order."),
    Mode("irrelevant", 0.45, _irrelevant, ("irrelevant",), {},
         "The plan uses a number that has nothing to do with the question."),
)  # fmt: skip
ANSWER_MODES = (
    Mode("slip", 0.2, _slip, ("calculate", "verify"), {"estimate": 0.4, "concise": 0.1},
         "There is a mistake in the calculation."),
    Mode("without the last step", 0.12, _without_last, ("complete", "follow_plan"),
         {"brief": 0.2}, "The last step was not carried out."),
    Mode("unit", 0.14, as_form(lambda a: f"{a} of them"), ("digits", "bare"), {},
         "There is text around the number.", True),
    Mode("sentence", 0.1, as_form(lambda a: f"There are {a} now."), ("bare",),
         {"step_by_step": 0.03, "explain": 0.4}, "There is text around the number.", True),
)  # fmt: skip


class PlanTask:
    """Word problems for a planner and an answerer."""

    name = "plan_then_answer"
    ideal = (
        "Calculate every step and write down each result. Carry out the plan up to its last step. "
        "Give only the final number in digits."
    )
    ideal_plan = (
        "List every step of the story, leaving none out. State the quantity in each step. Keep the "
        "steps in the order in which things happen. Ignore facts that do not matter."
    )
    plan_modes = PLAN_MODES
    modes = ANSWER_MODES

    def generate(self, dice: Dice) -> str:
        """Write a new story."""
        return stories.tell(dice)

    def parse(self, text: str) -> Item | None:
        """Find the story and work it out."""
        found = stories.understand(text)
        if found is None:
            return None
        story, steps = found
        result = execute([step for step in steps if step.kind != "aside"])
        return Item(self.name, story, str(result), steps)

    def with_plan(self, item: Item, plan: str) -> Item | None:
        """Return the item as the plan describes it; None if the plan has no readable step.

        Args:
            item: The story.
            plan: The planner's text.
        """
        steps = read_plan(plan)
        if not steps:
            return None
        return Item(self.name, f"{item.text}\n{plan}", str(execute(steps)), steps)

    def result(self, plan: str | None) -> str:
        """Return what carrying out a plan gives; empty for no plan.

        Args:
            plan: The planner's text.
        """
        return str(execute(read_plan(plan))) if plan else ""
