"""Programs as points in prompt space: reading, copying and writing instructions."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import dspy
import pytest
from fakes import scripted_lm, toy_solver
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.errors import ProgramError
from gpo_dspy.program import (
    describe_predictor,
    instructions_of,
    optimizable_predictors,
    state_of,
    tool_names,
    with_instructions,
    with_state,
)
from gpo_dspy.program_state import Demo, Demos, ProgramState


class Pair(dspy.Module):
    """Two predictors with equal signatures, one of them shared under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.Predict("question -> answer")
        self.again = self.first

    def forward(self, question: str) -> dspy.Prediction:
        return self.second(question=self.first(question=question).answer)


class Nested(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.steps = [dspy.Predict("a -> b"), dspy.ChainOfThought("b -> c")]
        self.by_name = {"x": dspy.Predict("c -> d")}


class Clinging(dspy.Module):
    """Holds what cannot be copied, also beside its predictors in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.clients = [threading.Lock(), {"deep": threading.Lock()}]
        self.steps = [dspy.Predict("question -> answer"), dspy.Predict("question -> answer")]
        self.alias = self.steps[0]


def _frozen() -> dspy.Module:
    program = Nested()
    program.pair._compiled = True
    return program


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (dspy.Predict("a -> b"), ["self"]),
        (dspy.ChainOfThought("a -> b"), ["predict"]),
        (dspy.ReAct("a -> b", tools=[]), ["react", "extract.predict"]),
        (Pair(), ["first", "second"]),
        (
            Nested(),
            ["pair.first", "pair.second", "steps[0]", "steps[1].predict", "by_name['x']"],
        ),
        (_frozen(), ["steps[0]", "steps[1].predict", "by_name['x']"]),
    ],
)
def test_predictors_are_found_by_name(program: dspy.Module, names: list[str]) -> None:
    assert list(optimizable_predictors(program)) == names
    assert [name for name, _ in instructions_of(program)] == names


def test_a_program_without_predictors_says_what_is_missing() -> None:
    with pytest.raises(ProgramError, match=r"at least one dspy\.Predict"):
        optimizable_predictors(dspy.Module())
    frozen = dspy.Module()
    frozen.inner = Pair()
    frozen.inner._compiled = True
    with pytest.raises(ProgramError, match=r"frozen submodules \(self\.inner\).*_compiled = False"):
        optimizable_predictors(frozen)


@pytest.mark.parametrize("make", [Pair, Nested, Clinging, lambda: dspy.Predict("a -> b")])
@pytest.mark.parametrize(
    "lm",
    [
        None,
        dspy.LM("openai/copyable", engine="litellm"),
        scripted_lm(toy_solver),  # its engine refuses to be copied
    ],
    ids=["no lm", "copyable lm", "clinging lm"],
)
def test_a_copy_gets_the_instructions_and_the_original_stays(make: Any, lm: Any) -> None:
    program = make()
    program.set_lm(lm)
    before = program.dump_state()
    new = tuple((name, f"new {name}") for name, _ in instructions_of(program))
    copied = with_instructions(program, new)

    assert instructions_of(copied) == new
    assert program.dump_state() == before
    ours = dict(program.named_predictors())
    for name, predictor in copied.named_predictors():
        assert predictor is not ours[name]
        assert predictor.lm is ours[name].lm


def test_a_predictor_with_two_names_stays_one_predictor() -> None:
    for program in (Pair(), Clinging()):
        program.set_lm(scripted_lm(toy_solver))
        copied = with_instructions(program, instructions_of(program))
        names = [name for name, _ in copied.named_predictors()]
        assert names == [name for name, _ in program.named_predictors()]
    pair = with_instructions(Pair(), (("first", "one"), ("second", "two")))
    assert pair.again is pair.first


def test_what_cannot_be_copied_is_shared() -> None:
    program = Clinging()
    copied = with_instructions(program, ())
    assert copied.lock is program.lock
    assert copied.clients[1]["deep"] is program.clients[1]["deep"]
    assert copied.steps is not program.steps


def test_lms_of_frozen_submodules_are_shared_too() -> None:
    program = _frozen()
    lm = scripted_lm(toy_solver)
    for predictor in (program.pair.first, program.pair.second):
        predictor.lm = lm
    copied = with_instructions(program, instructions_of(program))
    assert copied.pair.first.lm is lm
    assert copied.pair is not program.pair


def test_demos_and_config_come_along() -> None:
    program = dspy.Predict("question -> answer", temperature=0.3)
    program.demos = [dspy.Example(question="q", answer="a")]
    copied = with_instructions(program, (("self", "new"),))
    assert copied.demos == program.demos
    assert copied.demos is not program.demos
    assert copied.config == {"temperature": 0.3}


def test_replacing_leaves_the_others_alone() -> None:
    state = ProgramState((("a", "1"), ("b", "2")), (("b", (Demo(0, "{}"),)),))
    assert state.rewritten({"b": "3"}) == replace(state, instructions=(("a", "1"), ("b", "3")))
    assert state.instructions == (("a", "1"), ("b", "2"))


# --- states --------------------------------------------------------------------------------------

_texts = st.text(max_size=8)
_demos = st.builds(
    Demo,
    st.integers(0, 9),
    st.dictionaries(_texts, _texts | st.integers() | st.lists(_texts), max_size=3).map(json.dumps),
    st.booleans(),
)
_demo_sets = st.dictionaries(st.sampled_from("abc"), st.lists(_demos, max_size=3).map(tuple))
_states = st.builds(
    lambda texts, demos: ProgramState(tuple(zip("abc", texts, strict=True))).with_demos(
        tuple(demos.items())
    ),
    st.tuples(_texts, _texts, _texts),
    _demo_sets,
)


@given(_states)
def test_a_state_is_rebuilt_from_its_json_text(state: ProgramState) -> None:
    rebuilt = ProgramState.from_json(state.to_json())
    assert rebuilt == state
    assert hash(rebuilt) == hash(state)
    assert rebuilt.to_json() == state.to_json()
    assert rebuilt.key == state.key


@given(_states, _states)
def test_the_key_tells_what_the_lm_is_told(one: ProgramState, other: ProgramState) -> None:
    def told(state: ProgramState) -> Any:
        demos = [(name, [demo.fields for demo in demos]) for name, demos in state.demos]
        return state.instructions, demos

    assert (one.key == other.key) == (told(one) == told(other))
    moved = tuple((n, tuple(replace(d, example=77) for d in demos)) for n, demos in one.demos)
    assert replace(one, demos=moved).key == one.key, "where an example stands is this run's affair"


@given(_states, _demo_sets)
def test_new_demos_take_the_place_of_a_predictors_old_ones(
    state: ProgramState, new: dict[str, tuple[Demo, ...]]
) -> None:
    changed = state.with_demos(tuple(new.items()))
    assert changed.instructions == state.instructions
    assert dict(changed.demos) == {**dict(state.demos), **new}
    assert [name for name, _ in changed.demos] == sorted(dict(changed.demos))
    assert changed.shown == {d.example for demos in dict(changed.demos).values() for d in demos}


def test_a_program_in_a_state_has_its_demos_and_keeps_those_it_does_not_name() -> None:
    student = Pair()
    student.second.demos = [dspy.Example(question="own", answer="own")]
    demos: Demos = (("first", (Demo(3, '{"question": "q", "answer": "a"}', bootstrapped=True),)),)
    program = with_state(student, state_of(student).with_demos(demos))
    assert [demo.toDict() for demo in program.first.demos] == [
        {"augmented": True, "question": "q", "answer": "a"}
    ]
    assert program.again is program.first
    assert program.second.demos == student.second.demos
    assert student.first.demos == []


# --- what a predictor is for ---------------------------------------------------------------------


def _agent() -> dspy.ReAct:
    def find(query: str) -> str:
        """Look something up."""
        return query

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return dspy.ReAct(dspy.Signature("question -> answer", "Please find it out."), [find, add])


def test_an_agents_tools_are_known_by_the_predictor_that_tells_of_them() -> None:
    whole = dspy.Module()
    whole.agent, whole.other = _agent(), dspy.Predict("question -> answer")
    for program, prefix in ((whole, "agent."), (_agent(), "")):
        assert tool_names(program, f"{prefix}react") == {"find", "add", "finish"}
        # "Please find it out." has the name of a tool in it by chance.
        assert tool_names(program, f"{prefix}extract.predict") == set()
    assert tool_names(whole, "other") == set()


def test_what_else_is_called_tools_is_none() -> None:
    program = Pair()
    program.tools = ["hammer"]
    assert tool_names(program, "first") == set()


def test_a_predictor_is_described_with_its_fields_and_its_place() -> None:
    signature = dspy.Signature("question -> tags: list[str], mood: Literal['good', 'bad']")
    signature = signature.with_updated_fields("question", desc="what the customer wrote")
    alone = describe_predictor(dspy.Predict(signature), "self")
    assert "`question` (str) – what the customer wrote" in alone
    assert "`tags` (list[str])" in alone
    assert "'good', 'bad'" in alone
    assert "other modules" not in alone

    part = describe_predictor(Pair(), "second")
    assert "module `second` of the program Pair" in part
    assert "other modules are: first" in part
