"""What holds of every race, whatever the scores and the money."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

import dspy
import pytest
from fakes import TableRunner, now, slow_difference
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.evaluation.metric_calls import MetricCalls
from gpo_dspy.evaluation.race import Race
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.program_state import ProgramState

N = 40
BLOCKS = (12, 36)
EXAMPLES = [dspy.Example(number=i).with_inputs("number") for i in range(N)]
POOL = [(7 * i) % N for i in range(N)]  # shuffled: 7 and 40 have no common factor
INCUMBENT = ProgramState((("self", "incumbent"),))

Scores = Mapping[str, Sequence[float]]


def _name(number: int) -> ProgramState:
    return ProgramState((("self", f"candidate {number}"),))


def _race(
    scores: Scores,
    trials: Mapping[ProgramState, Sequence[int]] | None = None,
    *,
    limit: int = 10_000,
    reserve: int = 0,
    blocks: Sequence[int] = BLOCKS,
) -> tuple[Race, list[ProgramState], TableRunner]:
    runner = TableRunner(scores)
    student = dspy.Predict("number -> answer")
    board = Scoreboard(MetricCalls(student, EXAMPLES, runner, limit))  # type: ignore[arg-type]
    race = Race(board, INCUMBENT, POOL, fmean(scores["incumbent"]), blocks, reserve)
    candidates = [_name(i) for i in range(len(scores) - 1)]
    ranking = now(board, race.run(trials if trials is not None else dict.fromkeys(candidates, ())))
    return race, ranking, runner


def _table(*rows: Sequence[float]) -> dict[str, Sequence[float]]:
    incumbent, *candidates = rows
    return {"incumbent": incumbent, **{f"candidate {i}": row for i, row in enumerate(candidates)}}


def _random_table(seed: int, candidates: int, *, binary: bool) -> dict[str, Sequence[float]]:
    rng = random.Random(seed)
    rows = [[rng.random() for _ in range(N)] for _ in range(candidates + 1)]
    return _table(*([float(round(score)) for score in row] if binary else row for row in rows))


_tables = st.builds(_random_table, st.integers(0, 999), st.integers(1, 6), binary=st.booleans())
_blocks = st.lists(st.integers(1, 60), min_size=1, max_size=4).map(sorted)


@given(
    table=_tables,
    blocks=_blocks,
    limit=st.integers(0, 300),
    reserve=st.integers(0, 50),
    trial=st.lists(st.integers(0, N - 1), max_size=5, unique=True),
)
def test_invariants(
    table: dict[str, Sequence[float]],
    blocks: list[int],
    limit: int,
    reserve: int,
    trial: list[int],
) -> None:
    trials = {_name(i): tuple(trial) for i in range(len(table) - 1)}
    race, ranking, runner = _race(table, trials, limit=limit, reserve=reserve, blocks=blocks)

    assert sum(runner.asked.values()) <= max(limit - reserve, 0), "money"
    assert set(runner.asked.values()) <= {1}, "no pair is paid twice"
    assert set(ranking) == set(race.standings) <= set(trials)

    found = [race.standings[state] for state in ranking]
    assert found == sorted(found, key=lambda s: (-s.rounds, -s.difference))
    for state, standing in race.standings.items():
        text = state.instruction("self")
        assert 0 <= standing.score <= 1
        assert standing.evaluations > 0
        seen = [index for index in range(N) if (text, index) in runner.asked]
        assert len(seen) == standing.evaluations
        assert set(trial) <= set(seen)
        assert standing.complete is (set(POOL[: blocks[-1]]) <= set(seen))
        assert all(("incumbent", index) in runner.asked for index in seen)
        # All that was known of the incumbent at that time, too.
        expected = slow_difference(table[text], table["incumbent"], seen, seen)
        assert standing.difference == pytest.approx(expected)


def test_a_candidate_that_is_better_everywhere_wins() -> None:
    rows = [[0.5] * N, [0.4] * N, [0.9] * N, [0.6] * N, [0.7] * N]
    for trial in ((), (3, 4, 5)):
        trials = {_name(i): trial for i in range(4)}
        race, ranking, _ = _race(_table(*rows), trials)
        assert ranking[0] == _name(1)
        assert race.standings[_name(1)].difference == pytest.approx(0.4)
        assert race.standings[_name(1)].score == pytest.approx(0.9)
        assert race.standings[_name(1)].evaluations == max(BLOCKS)


def test_what_does_no_better_than_the_incumbent_leaves_after_its_first_round() -> None:
    rows = [[0.5] * N, [0.5] * N, [0.2] * N]
    for trial, first in (((), BLOCKS[0]), ((3, 4, 5), 3)):
        race, _, runner = _race(_table(*rows), {_name(0): trial, _name(1): trial})
        assert {s.evaluations for s in race.standings.values()} == {first}
        assert sum(runner.asked.values()) == 3 * first


def test_the_field_shrinks_by_half_at_least() -> None:
    rows = [[0.0] * N, *([0.1 * i] * N for i in range(1, 9))]
    race, _, _ = _race(_table(*rows), blocks=(2, 4, 8, 16))
    went_on = Counter(standing.evaluations for standing in race.standings.values())
    assert went_on == {2: 4, 4: 2, 8: 1, 16: 1}


def test_trials_decide_who_reaches_the_shared_examples() -> None:
    mends = [1.0 if i in (3, 4) else 0.0 for i in range(N)]
    race, ranking, runner = _race(
        _table([0.0] * N, mends, [0.0] * N), {_name(0): (3, 4), _name(1): (3, 4)}
    )
    assert ranking == [_name(0), _name(1)]
    assert race.standings[_name(1)].evaluations == 2
    assert {i for text, i in runner.asked if text == "candidate 1"} == {3, 4}
    assert race.standings[_name(0)].evaluations > 2


def test_the_best_quarter_of_many_survives_the_trial() -> None:
    rows = [[0.0] * N, *([i / 16] * N for i in range(1, 17))]
    trials = {_name(i): (1, 2) for i in range(16)}
    race, _, _ = _race(_table(*rows), trials, blocks=(12,))
    assert {s for s in race.standings if race.standings[s].complete} == {*map(_name, range(12, 16))}


def test_short_money_takes_one_candidate_to_the_end_rather_than_two_halfway() -> None:
    rows = [[0.0] * N, [0.8] * N, [0.9] * N]
    trials = {_name(i): (1, 2) for i in range(2)}
    begun = 3 * 2  # the trials, the incumbent's results among them
    race, ranking, _ = _race(_table(*rows), trials, limit=begun + 2 * 12, blocks=(12,))
    assert ranking[0] == _name(1)
    assert race.standings[_name(1)].complete
    assert race.standings[_name(0)].evaluations == 2


def test_money_for_one_to_the_end_is_not_spent_on_the_first_block_of_three() -> None:
    rows = [[0.0] * N, [0.9] * N, [0.8] * N, [0.7] * N]
    limit = 12 + 12 + 4  # incumbent and one candidate to the end, and one more at first
    race, ranking, _ = _race(_table(*rows), limit=limit, blocks=(4, 12))
    assert ranking[0] == _name(0)
    assert race.standings[_name(0)].complete
    assert _name(2) not in race.standings


def test_a_candidate_that_left_early_is_believed_less() -> None:
    rows = [[0.5] * N, [1.0] * 3 + [0.0] * (N - 3)]
    race, _, _ = _race(_table(*rows), {_name(0): (0, 1, 2)}, limit=6)
    standing = race.standings[_name(0)]
    assert standing.difference == 0.5
    assert 0.5 < standing.score < 1.0


def test_results_known_already_cost_nothing() -> None:
    rows = [[0.5] * N, [0.9] * N]
    first, _, runner = _race(_table(*rows))
    paid = sum(runner.asked.values())
    again = Race(first.board, INCUMBENT, POOL, 0.5, BLOCKS)
    now(first.board, again.run({_name(0): ()}))
    assert sum(runner.asked.values()) == paid


def test_without_candidates_or_money_there_is_no_race() -> None:
    assert _race(_table([0.5] * N))[1] == []
    _, ranking, runner = _race(_table([0.5] * N, [0.9] * N), limit=5, reserve=5)
    assert ranking == []
    assert not runner.asked


@pytest.mark.parametrize("seed", range(10))
def test_without_ties_the_order_of_the_candidates_does_not_matter(seed: int) -> None:
    names = [_name(i) for i in range(6)]
    table = _random_table(seed, 6, binary=False)
    forwards, ranking, _ = _race(table, dict.fromkeys(names, (1, 2, 3)))
    backwards, other, _ = _race(table, dict.fromkeys(reversed(names), (1, 2, 3)))
    assert ranking == other
    assert forwards.standings == backwards.standings
