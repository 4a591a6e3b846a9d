"""Every task's solution against an independent, slow twin."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable

import pytest

from gpo_dspy import sandbox
from gpo_dspy.sandbox.tasks import TASKS, recognise
from gpo_dspy.sandbox.tasks.plan_then_answer import PlanTask


def sort_by_insertion(question: str) -> str:
    done: list[str] = []
    for word in question.split("List: ")[1].split():
        place = 0
        while place < len(done) and done[place].lower() <= word.lower():
            place += 1
        done.insert(place, word)
    return " ".join(done)


KINDS = {
    "fruits": "apple banana orange strawberr peach plum raspberr grape nectarine blackberr",
    "vegetables": "garlic yam celery cabbage potato onion lettuce cauliflower broccoli carrot",
    "animals": "dog cat rabbit goat pig mouse mice frog snail duck chicken donkey cow bear fish "
    "snake",
    "musical instruments": "flute piano trombone violin accordion clarinet drum trumpet",
}


def count_one_by_one(question: str) -> str:
    kind = re.findall(r"How many ([\w ]+) do", question)[0]
    total = 0
    words = re.findall(r"\w+", question.split(". How")[0])
    for number, thing in itertools.pairwise(words):
        value = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}.get(number, 0)
        total += value * any(thing.startswith(name) for name in KINDS[kind].split())
    return str(total)


def walk_day_by_day(question: str) -> str:
    day_text = re.findall(r"Today is (.+?)\.", question)[0]
    day = datetime.datetime.strptime(day_text, "%B %d, %Y")
    number, unit, way = re.findall(r"(\d+) (day|week)s? (from|ago)", question)[0]
    for _ in range(int(number) * {"day": 1, "week": 7}[unit]):
        day += datetime.timedelta(days=1 if way == "from" else -1)
    return day.strftime("%m/%d/%Y")


def close_by_cancelling(question: str) -> str:
    left = question.split("Input:")[1].replace(" ", "")
    pairs = ("()", "[]", "{}", "<>")
    while any(pair in left for pair in pairs):
        for pair in pairs:
            left = left.replace(pair, "")
    return " ".join(pair[1] for token in reversed(left) for pair in pairs if pair[0] == token)


def walk_in_the_plane(question: str) -> str:
    place, facing = 0j, 1j
    for number, turn in re.findall(r"Take (\d+)|Turn (\w+)", question):
        facing *= {"left": 1j, "right": -1j, "around": -1, "": 1}[turn]
        place += facing * int(number or 0)
    return "Yes" if place == 0 else "No"


def python_truth(question: str) -> str:
    return str(eval(question.removesuffix("is"), {"__builtins__": {}}))  # noqa: S307


def python_sum(question: str) -> str:
    return str(eval(question.removesuffix("="), {"__builtins__": {}}))  # noqa: S307


def tell_again(question: str) -> str:
    total = 0
    for sentence in question.split(". "):
        numbers = [int(number) for number in re.findall(r"\d+", sentence)]
        if "doubles" in sentence:
            total *= 2
        elif "bags" in sentence:
            total += numbers[0] * numbers[1]
        elif re.search("gives away|loses|sells", sentence):
            total -= numbers[0]
        elif re.search("starts|finds|gets|buys", sentence):
            total += numbers[0]
    return str(total)


TWINS: dict[str, Callable[[str], str]] = {
    "word_sorting": sort_by_insertion,
    "object_counting": count_one_by_one,
    "date_arithmetic": walk_day_by_day,
    "bracket_completion": close_by_cancelling,
    "navigation": walk_in_the_plane,
    "boolean_expressions": python_truth,
    "multistep_arithmetic": python_sum,
    "plan_then_answer": tell_again,
}


@pytest.mark.parametrize("task", sandbox.TASK_NAMES)
def test_solution_agrees_with_the_twin(task: str) -> None:
    for example in sandbox.make_dataset(task, 150, seed=3):
        assert example.answer == TWINS[task](example.question)


@pytest.mark.parametrize("task", sandbox.TASK_NAMES)
def test_items_are_recognised_as_their_own_task(task: str) -> None:
    for example in sandbox.make_dataset(task, 50, seed=4):
        item = recognise(example.question)
        assert item is not None
        assert item.task == task


@pytest.mark.parametrize("task", sandbox.TASK_NAMES)
def test_every_mistake_changes_the_answer_and_happens_somewhere(task: str) -> None:
    items = [recognise(e.question) for e in sandbox.make_dataset(task, 150, seed=5)]
    for mode in TASKS[task].modes:
        wrong = [(mode.wrong(item), item.answer) for item in items if item is not None]
        assert all(said != right for said, right in wrong)
        assert any(said is not None for said, _ in wrong), mode.name


def test_a_wrong_plan_leads_to_a_wrong_answer() -> None:
    task = TASKS["plan_then_answer"]
    assert isinstance(task, PlanTask)
    for example in sandbox.make_dataset("plan_then_answer", 60, seed=6):
        item = task.parse(example.question)
        assert item is not None
        for mode in task.plan_modes:
            plan = mode.wrong(item)
            assert plan is None or task.result(plan) != example.answer


def test_a_seed_gives_the_same_items_and_another_seed_others() -> None:
    one, same, other = (
        [example.question for example in sandbox.make_dataset("navigation", 20, seed)]
        for seed in (1, 1, 2)
    )
    assert one == same
    assert not set(one) & set(other)
    assert len(set(one)) == 20


def test_a_longer_data_set_begins_like_a_shorter_one() -> None:
    short = sandbox.make_dataset("word_sorting", 5, seed=1)
    assert sandbox.make_dataset("word_sorting", 9, seed=1)[:5] == short


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="task is 'sorting'; allowed are word_sorting, "):
        sandbox.make_dataset("sorting", 3)
    with pytest.raises(ValueError, match="n is 0; it must be at least 1"):
        sandbox.make_dataset("word_sorting", 0)
