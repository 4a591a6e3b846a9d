"""The simulated solver behind DSPy's adapters and modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import dspy
import pytest

from gpo_dspy import sandbox
from gpo_dspy.sandbox.provider import replies
from gpo_dspy.sandbox.tasks import TASKS
from gpo_dspy.sandbox.tasks.plan_then_answer import PlanTask

NEUTRAL = "Given the fields `question`, produce the fields `answer`."
SINGLE = [name for name in sandbox.TASK_NAMES if name != "plan_then_answer"]
SORT = "Sort the following words alphabetically: List: pear fig apple"
ITEMS = {name: sandbox.make_dataset(name, 250, seed=11) for name in sandbox.TASK_NAMES}


def accuracy(
    task: str, ask: Callable[..., str], instruction: str, count: int = 250, **options: Any
) -> float:
    right = [ask(e.question, instruction, **options) == e.answer for e in ITEMS[task][:count]]
    return sum(right) / len(right)


@pytest.mark.parametrize("task", SINGLE)
def test_a_neutral_instruction_leaves_much_to_gain(task: str, answer_of: Any) -> None:
    assert 0.2 <= accuracy(task, answer_of, NEUTRAL) <= 0.5


@pytest.mark.parametrize("task", SINGLE)
def test_the_ideal_instruction_is_nearly_perfect(task: str, answer_of: Any) -> None:
    assert accuracy(task, answer_of, TASKS[task].ideal) >= 0.9


@pytest.mark.parametrize("task", SINGLE)
def test_no_sentence_of_the_ideal_instruction_harms(task: str, answer_of: Any) -> None:
    sentences = [part.strip(" .") + "." for part in TASKS[task].ideal.split(". ")]
    best = accuracy(task, answer_of, TASKS[task].ideal, count=80)
    for left_out in sentences:
        rest = " ".join(part for part in sentences if part != left_out)
        assert accuracy(task, answer_of, rest, count=80) <= best + 0.02


@pytest.mark.parametrize(
    ("task", "instruction"),
    [
        ("word_sorting", "Remove duplicates."),
        ("word_sorting", "Answer briefly, in one word."),
        ("word_sorting", "Explain your reasoning in detail in the answer."),
        ("object_counting", "Group similar items together first."),
        ("object_counting", "Double-check your answer."),
        ("bracket_completion", "Double-check your answer."),
        ("boolean_expressions", "Simplify the expression first."),
        ("multistep_arithmetic", "Work strictly from left to right."),
        ("navigation", "Be creative."),
        ("date_arithmetic", "Make a rough estimate."),
    ],
)
def test_unfit_advice_harms(task: str, instruction: str, answer_of: Any) -> None:
    assert accuracy(task, answer_of, instruction) < accuracy(task, answer_of, NEUTRAL)


def test_worked_examples_help_if_they_are_right(answer_of: Any) -> None:
    data = sandbox.make_dataset("word_sorting", 3, seed=12)
    right = [dspy.Example(question=e.question, answer=e.answer) for e in data]
    wrong = [dspy.Example(question=e.question, answer="pear") for e in data]
    neutral = accuracy("word_sorting", answer_of, NEUTRAL)
    assert accuracy("word_sorting", answer_of, NEUTRAL, demos=right) > neutral + 0.05
    assert accuracy("word_sorting", answer_of, NEUTRAL, demos=wrong) == neutral


def test_better_advice_breaks_no_item(answer_of: Any) -> None:
    for example in ITEMS["word_sorting"]:
        before = answer_of(example.question, NEUTRAL) == example.answer
        after = answer_of(example.question, f"{NEUTRAL} Keep duplicates.") == example.answer
        assert after >= before


def test_both_modules_of_a_program_matter() -> None:
    task = TASKS["plan_then_answer"]
    assert isinstance(task, PlanTask)
    found = {}
    with dspy.context(lm=sandbox.solver(cache=False)):
        for plan, answer in ((0, 0), (1, 0), (0, 1), (1, 1)):
            program = sandbox.PlanThenAnswer()
            for predictor, good, text in (
                (program.plan, plan, task.ideal_plan),
                (program.answer, answer, task.ideal),
            ):
                if good:
                    predictor.signature = predictor.signature.with_instructions(text)
            data = ITEMS["plan_then_answer"][:60]
            right = [sandbox.exact_match(e, program(question=e.question)) for e in data]
            found[plan, answer] = sum(right) / len(right)
    assert 0.2 <= found[0, 0] <= 0.5
    assert found[1, 1] >= 0.9
    for half in (found[1, 0], found[0, 1]):
        assert found[0, 0] + 0.1 < half < found[1, 1] - 0.1


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_adapters_and_types(adapter: Any) -> None:
    class Typed(dspy.Signature):
        """Keep duplicates."""

        question: str = dspy.InputField()
        reasoning: str = dspy.OutputField()
        words: list[str] = dspy.OutputField()
        number: int = dspy.OutputField()
        sure: bool = dspy.OutputField()
        kind: Literal["list", "number"] = dspy.OutputField()

    demo = dspy.Example(question=SORT, reasoning="r", words=["a"], number=1, sure=True, kind="list")
    program = dspy.Predict(Typed, demos=[demo])
    with dspy.context(lm=sandbox.solver(cache=False), adapter=adapter()):
        said = program(question=SORT)
    assert set(said.words) <= {"apple", "fig", "pear"}
    assert (type(said.number), type(said.sure)) == (int, bool)
    assert said.kind in ("list", "number")


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_every_adapter_gets_the_same_answers(adapter: Any) -> None:
    def answers(used: Any) -> list[str]:
        program = dspy.Predict(dspy.Signature("question -> answer", "Keep duplicates."))
        with dspy.context(lm=sandbox.solver(cache=False), adapter=used):
            return [program(question=e.question).answer for e in ITEMS["word_sorting"][:25]]

    assert answers(adapter()) == answers(dspy.ChatAdapter())


def test_numbers_and_truth_values_as_types() -> None:
    ideal = TASKS["object_counting"].ideal
    number = dspy.Predict(dspy.Signature("question -> answer: int", ideal))
    truth = dspy.Predict(
        dspy.Signature("question -> answer: bool", TASKS["boolean_expressions"].ideal)
    )
    with dspy.context(lm=sandbox.solver(cache=False)):
        assert (
            number(question="I have two cats, and a dog. How many animals do I have?").answer == 3
        )
        assert truth(question="not ( True and False ) is").answer is True


def test_react_program_runs() -> None:
    def search(query: str) -> str:
        """Look something up."""
        return query

    with dspy.context(lm=sandbox.solver(cache=False)):
        said = dspy.ReAct("question -> answer", tools=[search])(question=SORT)
    assert sorted(said.answer.split())[0] == "apple"


def test_plain_messages() -> None:
    messages = [{"role": "user", "content": f"Answer only with the words.\n\n{SORT}"}]
    assert replies("solver", messages) == ["apple fig pear"]


def test_an_unknown_item_gets_a_harmless_answer(answer_of: Any) -> None:
    assert answer_of("Who wrote this?", NEUTRAL) == "I do not know"


def test_same_request_same_reply_in_any_thread_and_process(answer_of: Any) -> None:
    questions = [e.question for name in SINGLE for e in ITEMS[name][:10]]
    here = [answer_of(q, NEUTRAL) for q in questions]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda q: answer_of(q, NEUTRAL), questions)) == here
    code = (
        "from gpo_dspy.sandbox.provider import replies\n"
        f"for q in {questions!r}:\n"
        "    print(repr(replies('solver', [{'role': 'user', 'content': q}])[0]))\n"
    )
    there = [
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    plain = [replies("solver", [{"role": "user", "content": q}])[0] for q in questions]
    assert there[0] == there[1] == "".join(f"{text!r}\n" for text in plain)
