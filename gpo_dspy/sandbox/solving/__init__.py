"""The simulated solver: it really solves the item, then makes the mistakes it is prone to."""

from __future__ import annotations

from typing import Any

from gpo_dspy.sandbox.reading import Field, Request
from gpo_dspy.sandbox.tasks import TASKS, Item, recognise
from gpo_dspy.sandbox.tasks.plan_then_answer import PlanTask
from gpo_dspy.sandbox.tasks.stories import Step, execute, read_plan, write_plan

from .advice import stances
from .conduct import Habits, first_mistake
from .fields import is_plan, is_thought, typed

__all__ = ["solve"]

_AT_A_LOSS = "I do not know"


def solve(request: Request, skill: float = 1.0) -> dict[str, Any]:
    """Fill every output field of a request.

    Args:
        request: What was asked.
        skill: Factor on the rate of all mistakes.
    """
    outputs = request.frame.outputs or (Field("answer"),)
    habits = _habits(request, outputs, skill)
    plain = request.frame.layout == "plain"
    item = recognise(request.text)
    if item is None:
        return {f.name: typed(f, _filler(f, _AT_A_LOSS)) for f in outputs}
    if plain:
        asked = request.frame.instruction + "\n" + request.text.replace(item.text, "")
        habits = Habits(stances(asked), habits.demos, habits.reasons, skill)
    return _fill(outputs, item, request, habits)


def _habits(request: Request, outputs: tuple[Field, ...], skill: float) -> Habits:
    reasons = len(outputs) > 1 and is_thought(outputs[0].name)
    right = sum(_is_right(given, said) for given, said in request.demos)
    return Habits(stances(request.frame.instruction), right, reasons, skill)


def _is_right(given: Any, said: Any) -> bool:
    item = recognise("\n".join(given.values()))
    return item is not None and any(_is_solution(item, value) for value in said.values())


def _is_solution(item: Item, value: str) -> bool:
    if value.strip() == item.answer:
        return True
    steps = read_plan(value) if item.task == "plan_then_answer" else []
    return bool(steps) and str(execute(steps)) == item.answer


def _fill(
    outputs: tuple[Field, ...], item: Item, request: Request, habits: Habits
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    plan = next((v for k, v in request.inputs.items() if is_plan(k)), "")
    for field in outputs:
        if is_thought(field.name):
            text = (
                f"The input is a {item.task.replace('_', ' ')} item; I work it out from its text."
            )
        elif is_plan(field.name) and item.task == "plan_then_answer":
            text = plan = _plan(item, habits)
        elif is_plan(field.name):
            text = "Step 1: Read the input.\nStep 2: Work out what is asked.\nStep 3: Answer."
        elif field.name.startswith("next_tool"):
            text = "finish"
        else:
            text = _answer(item, plan, habits)
        values[field.name] = typed(field, text)
    return values


def _plan(item: Item, habits: Habits) -> str:
    wrong = first_mistake(item, PlanTask.plan_modes, habits)
    steps: list[Step] = item.data
    return wrong or write_plan([step for step in steps if step.kind != "aside"])


def _answer(item: Item, plan: str, habits: Habits) -> str:
    task = TASKS[item.task]
    if isinstance(task, PlanTask):
        item = task.with_plan(item, plan or _plan(item, habits)) or item
    return first_mistake(item, task.modes, habits) or item.answer


def _filler(field: Field, text: str) -> str:
    if is_thought(field.name):
        return "Nothing in the input tells me what to do."
    return "finish" if field.name.startswith("next_tool") else text
