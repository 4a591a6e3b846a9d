"""GPO on real Big-Bench Hard items, with the simulated models."""

from __future__ import annotations

import json
from pathlib import Path

import dspy
import pytest

from gpo_dspy import GPO, sandbox

DATA = Path(__file__).parents[3] / "shared" / "data" / "bbh"
CALLS = 400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason=f"the benchmark items are not at {DATA}"),
]


def read(task: str, part: str) -> list[dspy.Example]:
    lines = (DATA / task / f"{part}.jsonl").read_text("utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    return [
        dspy.Example(question=item["input"], answer=item["target"]).with_inputs("question")
        for item in items
    ]


@pytest.mark.parametrize("task", ["word_sorting", "object_counting", "boolean_expressions"])
def test_a_program_gets_better_on_items_the_search_never_saw(task: str) -> None:
    sandbox.register()
    with dspy.context(lm=sandbox.solver(cache=False)):
        optimizer = GPO(
            sandbox.metric_with_feedback,
            prompt_model=sandbox.rewriter(cache=False),
            max_metric_calls=CALLS + 2 * 80,
            embedder="hashed-ngrams",
            verbose=False,
        )
        compiled = optimizer.compile(
            dspy.Predict("question -> answer"),
            trainset=read(task, "train"),
            valset=read(task, "eval"),
            testset=read(task, "test")[:80],
        )
    result = compiled.detailed_results
    assert result.claim is not None
    assert result.claim.base.value < 0.75
    assert result.claim.difference.low > 0, str(result.claim)
    assert result.metric_calls <= CALLS + 2 * 80
