"""Which example is shown, searched on, or kept for the claim."""

from __future__ import annotations

from typing import Any

import dspy
import numpy as np
import pytest
from fakes import toy_examples
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.data import Data, assign_roles


@given(
    train=st.integers(1, 30),
    val=st.integers(1, 30),
    test=st.none() | st.integers(1, 10),
    holdout=st.integers(0, 40),
    seed=st.integers(0, 5),
)
def test_every_example_has_exactly_one_role(
    train: int, val: int, test: int | None, holdout: int, seed: int
) -> None:
    trainset, valset = toy_examples(train), toy_examples(val, start=100)
    testset = None if test is None else toy_examples(test, start=200)
    data = assign_roles(trainset, valset, testset, holdout=holdout, seed=seed)

    assert sorted((*data.train, *data.validation, *data.holdout)) == list(range(len(data.examples)))
    assert [data.examples[i] for i in data.train] == trainset
    assert data.validation, "the search keeps something to score on"
    if testset is None:
        assert len(data.holdout) <= min(holdout, val // 2)
    else:
        assert [data.examples[i] for i in data.holdout] == testset
        assert [data.examples[i] for i in data.validation] == valset


@given(
    train=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    val=st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
def test_copies_of_a_training_example_are_known(train: list[int], val: list[int]) -> None:
    examples = [toy_examples(1, start=i)[0] for i in (*train, *val)]
    data = Data(
        tuple(examples), tuple(range(len(train))), tuple(range(len(train), len(examples))), ()
    )
    copies = data.copies()
    assert set(copies) == set(data.train)
    for index, alike in copies.items():
        assert alike == {i for i, example in enumerate(examples) if example == examples[index]}
        assert len(alike & set(data.shuffled_pool(0))) == 1


@given(size=st.integers(2, 30), seed=st.integers(0, 5))
def test_without_a_valset_the_trainset_is_split_in_halves(size: int, seed: int) -> None:
    trainset = toy_examples(size)
    data = assign_roles(trainset, None, None, holdout=0, seed=seed)
    assert len(data.validation) == size // 2
    assert {e.question for e in data.examples} == {e.question for e in trainset}
    assert data == assign_roles(trainset, None, None, holdout=0, seed=seed)


def test_the_seed_decides_the_split_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="gpo_dspy")
    splits = {
        tuple(
            e.question
            for e in assign_roles(toy_examples(20), None, None, holdout=0, seed=s).examples
        )
        for s in range(5)
    }
    assert len(splits) == 5
    assert "10 of the trainset's 20 examples are used for validation (seed 0)" in caplog.text


def test_the_given_lists_are_not_changed() -> None:
    trainset, valset = toy_examples(10), toy_examples(10, start=100)
    before = list(trainset), list(valset)
    assign_roles(trainset, valset, None, holdout=3, seed=0)
    assert (trainset, valset) == before


def test_examples_kept_for_the_claim_are_in_no_other_set() -> None:
    # A common call: valset=trainset. The claim must not rest on examples that are shown.
    same = toy_examples(20)
    data = assign_roles(same, same, None, holdout=5, seed=0)
    kept = [data.examples[i] for i in data.holdout]
    searched = [data.examples[i] for i in (*data.train, *data.validation)]
    assert len(kept) == 5
    assert all(example not in searched for example in kept)


def test_how_many_examples_are_left_out_is_said_only_if_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    five = toy_examples(5)
    assign_roles([*five, *toy_examples(20, start=50)], five, None, holdout=2, seed=0)
    assert "2 training and validation examples are left out" in caplog.text
    caplog.clear()
    assert not assign_roles(20 * toy_examples(1), None, None, holdout=5, seed=0).holdout
    assert "left out" not in caplog.text


def test_a_testset_that_the_search_would_see_too_is_refused() -> None:
    same = toy_examples(6)
    with pytest.raises(ValueError, match="testset"):
        assign_roles(same, toy_examples(4, start=100), same, holdout=0, seed=0)


# --- the pool of a race --------------------------------------------------------------------------


def _pool(*examples: dspy.Example, seed: int = 0) -> list[dspy.Example]:
    half = len(examples) // 2
    data = Data(examples, tuple(range(half)), tuple(range(half, len(examples))), ())
    return [examples[index] for index in data.shuffled_pool(seed)]


@given(
    train=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    val=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    seed=st.integers(0, 3),
)
def test_equal_examples_are_in_the_pool_once(train: list[int], val: list[int], seed: int) -> None:
    sets = [[toy_examples(1, start=i)[0] for i in chosen] for chosen in (train, val)]
    data = assign_roles(*sets, None, holdout=0, seed=0)
    pool = data.shuffled_pool(seed)
    assert len(pool) == len({*train, *val})
    assert {data.examples[i].question for i in pool} == {e.question for s in sets for e in s}
    assert pool == data.shuffled_pool(seed)


def test_the_pool_is_train_and_validation_in_an_order_of_the_seed() -> None:
    data = assign_roles(toy_examples(10), toy_examples(10, 100), None, holdout=4, seed=0)
    pools = [data.shuffled_pool(seed) for seed in range(5)]
    for pool in pools:
        assert sorted(pool) == sorted((*data.train, *data.validation))
    assert len(set(pools)) == 5


def test_what_only_looks_equal_stays() -> None:
    def example(values: Any, label: Any) -> dspy.Example:
        return dspy.Example(values=values, label=label).with_inputs("values")

    number, text = example(1, "x"), example("1", "x")
    assert len(_pool(number, text, example(1, "x"))) == 2
    assert len(_pool(number, example(1, "y"))) == 2
    long, other = np.zeros(5_000), np.zeros(5_000)
    other[2_500] = 1.0  # both are written as "[0. 0. 0. ... 0. 0. 0.]"
    assert len(_pool(example(long, "x"), example(other, "x"))) == 2
    white, black = (dspy.Image(f"data:image/png;base64,{code * 8}") for code in ("//", "AA"))
    assert len(_pool(example(white, "x"), example(black, "x"), example(white, "x"))) == 2


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"trainset": []}, "trainset is empty"),
        ({"trainset": toy_examples(1), "valset": None}, "at least 2 examples"),
        ({"valset": []}, "valset is empty"),
        ({"testset": []}, "testset is empty"),
        ({"trainset": "questions"}, "list of dspy.Example, got str"),
        ({"trainset": iter(toy_examples(3))}, r"list\(\.\.\.\)"),
        ({"trainset": [{"question": "q"}]}, r"trainset\[0\] is a dict"),
        ({"valset": [*toy_examples(2), dspy.Example(question="q")]}, r"valset\[2\].*with_inputs"),
        ({"trainset": None}, "trainset must be a list"),
        ({"trainset": [e.with_inputs("questoin") for e in toy_examples(4)]}, "names 'questoin' in"),
    ],
)
def test_unusable_sets_are_named(sets: dict[str, Any], said: str) -> None:
    arguments = {"trainset": toy_examples(4), "valset": toy_examples(4), "testset": None} | sets
    with pytest.raises(ValueError, match=said):
        assign_roles(*arguments.values(), holdout=1, seed=0)


@pytest.mark.parametrize("inputs", [(), ("question", "hint")])
def test_inputs_that_examples_lack_may_be_named(inputs: tuple[str, ...]) -> None:
    examples = [example.with_inputs(*inputs) for example in toy_examples(4)]
    assert len(assign_roles(examples, None, None, holdout=0, seed=0).examples) == 4


@pytest.mark.parametrize("name", ["valset", "testset"])
def test_a_set_for_another_program_is_refused(name: str) -> None:
    others = [dspy.Example(query=f"{i}", answer="a").with_inputs("query") for i in range(4)]
    sets: dict[str, Any] = {"valset": toy_examples(4), "testset": None} | {name: others}
    with pytest.raises(ValueError, match=f"{name} has the input fields query, and trainset has q"):
        assign_roles(toy_examples(4), sets["valset"], sets["testset"], holdout=0, seed=0)
    some = [dspy.Example(question="q", hint="h", answer="a").with_inputs("question", "hint")]
    assert assign_roles(toy_examples(4), [*some, *others], None, holdout=0, seed=0).validation
