"""What a run learned comes back as it was, once, however often it is written."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import Open, count_rows, evaluation, full_batch, lm_call, new_run, prompt

from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import Answer, Batch, Owner, RunStatus, Usage
from gpo_dspy.storage.storage import Storage

NASTY = [
    "",
    "  spaces\tand\r\nlines\n",
    "NUL \0 in the middle",
    "half a pair \ud83d",
    "whole pair \U0001f600, umlaut ü, 汉字",
    '{"json": "\\u0000"}',
    "'; DROP TABLE gpo_runs; -- %s %(x)s :name ?",
    "x" * 200_000,
]


@pytest.fixture
def owner() -> Owner:
    return new_owner()


@pytest.fixture
def run(storage: Storage, owner: Owner) -> int:
    return storage.create_run(new_run(), owner)


def test_everything_comes_back(storage: Storage, owner: Owner, run: int) -> None:
    batches = [full_batch(i) for i in range(5)]
    for batch in batches:
        storage.save(run, owner, batch)
    journal = storage.journal(run)
    assert journal.evaluations == {
        e.key: (e, paid) for batch in batches for e, paid in batch.evaluations
    }
    assert journal.answers == {
        (a.request, a.occurrence): a for batch in batches for a in batch.answers
    }
    assert journal.readings == {name: value for batch in batches for name, value in batch.readings}
    assert storage.steps(run) == [text for batch in batches for _, text in batch.steps]
    assert storage.prompts(run) == [p for batch in batches for p in batch.prompts]
    calls = [call for batch in batches for call in batch.lm_calls]
    assert sorted(storage.lm_calls(run), key=repr) == sorted(calls, key=repr)
    exported = storage.evaluations(run)
    assert [row.stored for row in exported] == [evaluation(i) for i in range(5)]
    assert [row.state for row in exported] == [f'{{"state": {i % 3}}}' for i in range(5)]
    assert [row.example for row in exported] == [f'{{"example": {i}}}' for i in range(5)]


def test_a_run_sees_nothing_of_another(storage: Storage, owner: Owner, run: int) -> None:
    storage.save(run, owner, full_batch(1))
    other = storage.create_run(new_run("other"), new_owner())
    journal = storage.journal(other)
    assert not journal.evaluations
    assert not journal.answers
    assert not journal.readings
    assert not storage.steps(other)
    assert not storage.prompts(other)
    assert not storage.lm_calls(other)
    assert not storage.evaluations(other)


def test_a_batch_written_twice_is_there_once(storage: Storage, owner: Owner, run: int) -> None:
    storage.save(run, owner, full_batch(1))
    once, journal = count_rows(storage), storage.journal(run)
    storage.save(run, owner, full_batch(1))
    assert count_rows(storage) == once
    assert storage.journal(run) == journal


def test_a_batch_written_again_by_another_process_is_there_once(
    open_at: Open, storage: Storage, owner: Owner, run: int
) -> None:
    storage.save(run, owner, full_batch(1))
    once = count_rows(storage)
    open_at().save(run, owner, full_batch(1))  # it knows no hashes yet
    assert count_rows(storage) == once


def test_merged_batches_count_each_call_once(storage: Storage, owner: Owner, run: int) -> None:
    storage.save(run, owner, Batch(lm_calls=(lm_call(1),)))
    storage.save(run, owner, Batch(lm_calls=(lm_call(1), lm_call(2))))
    assert storage.lm_calls(run) == [lm_call(1), lm_call(2)]


def test_equal_calls_of_one_batch_are_different_calls(
    storage: Storage, owner: Owner, run: int
) -> None:
    storage.save(run, owner, Batch(lm_calls=(lm_call(), lm_call())))
    assert storage.lm_calls(run) == [lm_call(), lm_call()]


def test_what_is_known_stays_and_what_progresses_is_replaced(
    storage: Storage, owner: Owner, run: int
) -> None:
    storage.save(run, owner, full_batch(1))
    kept = storage.journal(run)
    later = replace(
        full_batch(1),
        answers=(Answer("request 1", 0, "another answer", None, Usage()),),
        readings=(("clock 1", 99.0),),
        steps=((1, '{"step": "again"}'),),
        prompts=(prompt("Think 1.", score=0.9, evaluations=40, step=7),),
    )
    storage.save(run, owner, later)
    assert storage.journal(run) == kept
    assert storage.steps(run) == ['{"step": "again"}']
    assert storage.prompts(run) == [prompt("Think 1.", score=0.9, evaluations=40, step=1)]


def test_a_run_keeps_the_result_it_acted_on(storage: Storage, owner: Owner, run: int) -> None:
    """Two owners evaluated one key, because one was taken for dead; the metric is noisy."""
    first, second = evaluation(1, score=0.25), evaluation(1, score=0.75)
    storage.save(run, owner, Batch(evaluations=((first, True),)))
    late = new_owner()
    other = storage.create_run(new_run("other"), late)
    for _ in range(2):
        storage.save(other, late, Batch(evaluations=((second, True),)))
        assert storage.journal(run).evaluations == {first.key: (first, True)}
        mine = replace(second, shared=False)
        assert storage.journal(other).evaluations == {first.key: (mine, True)}
    assert storage.run(other).metric_calls == 1  # type: ignore[union-attr]
    third = new_owner()
    storage.create_run(new_run("third"), third)
    assert storage.acquire(third, [first.key]).found == {first.key: first}


def test_private_results_of_one_key_do_not_meet(storage: Storage, owner: Owner, run: int) -> None:
    other_owner = new_owner()
    other = storage.create_run(new_run("other"), other_owner)
    mine, theirs = (evaluation(1, score=score, shared=False) for score in (0.25, 0.75))
    storage.save(run, owner, Batch(evaluations=((mine, True),)))
    storage.save(other, other_owner, Batch(evaluations=((theirs, True),)))
    assert storage.journal(run).evaluations == {mine.key: (mine, True)}
    assert storage.journal(other).evaluations == {mine.key: (theirs, True)}


def test_a_key_twice_in_one_batch_is_one_result(storage: Storage, owner: Owner, run: int) -> None:
    storage.save(run, owner, Batch(evaluations=((evaluation(1), True), (evaluation(1), True))))
    assert storage.journal(run).evaluations == {"key 001": (evaluation(1), True)}
    assert storage.run(run).metric_calls == 1  # type: ignore[union-attr]


def test_a_text_may_come_after_its_hash(storage: Storage, owner: Owner, run: int) -> None:
    storage.save(run, owner, Batch(evaluations=((evaluation(1), True),)))
    assert storage.evaluations(run)[0].state is None
    storage.save(run, owner, Batch(states=(("state 1", "late"),)))
    storage.save(run, owner, Batch(states=(("state 1", "later"),)))
    assert storage.evaluations(run)[0].state == "late"


@pytest.mark.parametrize("number", range(len(NASTY)))
def test_any_text_comes_back(open_at: Open, number: int) -> None:
    storage, owner, text = open_at(), new_owner(), NASTY[number]
    new = new_run(text, study=text, program=text, settings={"x": text})
    run = storage.create_run(new, owner)
    stored = evaluation(1, state=text, example=text, metric=text, feedback=text, detail=text)
    batch = Batch(
        evaluations=((replace(stored, key=text[:2000]), True),),
        states=((text, text),),
        answers=(Answer(text[:2000], 0, text, None, Usage()),),
        readings=((text[:2000], -0.0),),
        steps=((1, text),),
        prompts=(prompt(text, memory_text=text),),
        lm_calls=(lm_call(model=text),),
        vectors=((text[:2000], text, full_batch(1).vectors[0][2]),),
    ) if len(text) < 10_000 else Batch(
        evaluations=((evaluation(1, feedback=text, detail=text), True),),
        answers=(Answer("long", 0, text, None, Usage()),),
        prompts=(prompt(text, memory_text=text),),
        steps=((1, text),),
    )  # fmt: skip
    for _ in range(2):
        storage.save(run, owner, batch)
    journal = storage.journal(run)
    assert [e for e, _ in journal.evaluations.values()] == [batch.evaluations[0][0]]
    assert list(journal.answers.values()) == list(batch.answers)
    assert journal.readings == dict(batch.readings)
    assert storage.steps(run) == [text]
    assert storage.prompts(run) == list(batch.prompts)
    assert storage.lm_calls(run) == list(batch.lm_calls)
    row = storage.latest_run(study=text)
    assert row is not None
    assert (row.identity, row.program, row.settings) == (text, text, {"x": text})


def test_an_empty_batch_notes_only_the_time(storage: Storage, owner: Owner, run: int) -> None:
    storage.save(run, owner, Batch(seconds=3.0, best_score=0.5))
    storage.save(run, owner, Batch())
    row = storage.run(run)
    assert row is not None
    assert (row.seconds, row.best_score) == (3.0, 0.5)


def test_a_large_batch_is_one_transaction(storage: Storage, owner: Owner, run: int) -> None:
    many = tuple((evaluation(i), i % 2 == 0) for i in range(1200))
    storage.save(run, owner, Batch(evaluations=many))
    storage.save(run, owner, Batch(evaluations=many))
    assert len(storage.journal(run).evaluations) == 1200
    assert storage.run(run).metric_calls == 600  # type: ignore[union-attr]


@pytest.mark.parametrize("part", [f.name for f in fields(Batch) if f.name[-1] == "s"][:-1])
def test_nothing_is_written_if_the_last_part_is_refused(
    storage: Storage, owner: Owner, run: int, part: str
) -> None:
    before, row = count_rows(storage), storage.run(run)
    bad = (("ngrams", "text", full_batch(2).vectors[0][2].reshape(1, 2)),)
    given = {"seconds": 9.0, "best_score": 0.9, part: getattr(full_batch(2), part), "vectors": bad}
    with pytest.raises(ValueError, match="vectors must be rows"):
        storage.save(run, owner, Batch(**given))
    assert count_rows(storage) == before
    assert storage.run(run) == row
    storage.save(run, owner, full_batch(2))  # what was rolled back is not taken for known
    assert storage.journal(run).evaluations == {"key 002": (evaluation(2), True)}


def test_a_finished_run_is_still_there_for_a_later_process(
    open_at: Open, storage: Storage, owner: Owner, run: int
) -> None:
    storage.save(run, owner, full_batch(1))
    storage.leave_run(run, owner, RunStatus.FINISHED, "{}")
    expected = storage.journal(run)
    storage.close()
    assert open_at().journal(run) == expected


usages = st.builds(
    Usage,
    *[st.integers(0, 2**31 - 1)] * 3,
    st.floats(0, 1e6),
    st.integers(0, 2**31 - 1),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=50),
    score=st.floats(0, 1),
    usage=usages,
    value=st.floats(allow_nan=False),
)
def test_values_come_back_to_the_last_bit(
    storage: Storage, text: str, score: float, usage: Usage, value: float
) -> None:
    owner = new_owner()
    run = storage.create_run(new_run(), owner)
    stored = evaluation(1, score=score, usage=usage, feedback=text, shared=False)
    storage.save(run, owner, Batch(evaluations=((stored, True),), readings=(("x", value),)))
    journal = storage.journal(run)
    assert journal.evaluations == {stored.key: (stored, True)}
    assert journal.readings == {"x": value}
    assert repr(journal.evaluations[stored.key][0].score) == repr(score)
