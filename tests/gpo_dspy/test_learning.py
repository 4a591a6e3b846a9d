"""GPO learns from what it shows the prompt model: hide or falsify it, and it ends lower."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from statistics import fmean
from typing import Any

import dspy
import pytest

from gpo_dspy import GPO, sandbox
from gpo_dspy.direction import Direction, Relevance
from gpo_dspy.sandbox.provider import replies
from gpo_dspy.sandbox.reading import Frame, Request, read
from gpo_dspy.sandbox.solving import solve
from gpo_dspy.state import ScoredPrompt
from gpo_dspy.trajectory import Trajectory

# Measured on untouched seeds from 400 on and all tasks, with standard errors (the sandbox was
# calibrated on the seeds 0 to 19); points of accuracy on unseen examples:
#
#   in the paper's style, 8 prompts shown, 1,000 calls (128 pairs): true scores 74.9; shuffled
#   -8.0 (1.9), hidden -4.3 (1.9), failures hidden -13.8 (1.9)
#
# What failures and earlier prompts are worth in a race is in benchmarks/results/ablations.md.
#
# A test can wait for 16 pairs at most, with a standard error of 5 points: hidden scores do hurt,
# but too little for that, so no test claims it.

true = Relevance(k=8)


def shuffled(trajectory: Trajectory, current: ScoredPrompt) -> tuple[ScoredPrompt, ...]:
    found = true(trajectory, current)
    scores = [prompt.score for prompt in found]
    random.Random(current.text).shuffle(scores)
    falsified = [replace(p, score=s) for p, s in zip(found, scores, strict=True)]
    return tuple(sorted(falsified, key=lambda prompt: prompt.score))


class Direct(dspy.ChatAdapter):
    """Asks the simulated models in person: by way of LiteLLM it takes five times longer."""

    def __init__(self) -> None:
        super().__init__()
        self._frames: dict[Any, Frame] = {}

    def __call__(
        self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        asked = {name: str(inputs[name]) for name in signature.input_fields}
        if lm.model == "sandbox/rewriter":
            messages = self.format(signature, demos, asked)
            return [self.parse(signature, replies("rewriter", messages)[0])]
        key = (signature.instructions, *signature.fields)
        if key not in self._frames:
            self._frames[key] = read(self.format(signature, [], asked)).frame
        said = solve(Request(self._frames[key], (), asked, ""))
        return [{name: text.strip() for name, text in said.items()}]


dataset = cache(sandbox.make_dataset)


def accuracy(task: str, seed: int, optimizer: GPO, valid: int) -> float:
    """Return the accuracy, on unseen examples, of what a run ends with."""
    data = dataset(task, 200, seed)
    with dspy.context(lm=sandbox.solver(cache=False), adapter=Direct()):
        program = optimizer.compile(
            sandbox.program_for(task), trainset=data[:40], valset=data[40 : 40 + valid]
        )
        return fmean(sandbox.exact_match(e, program(**e.inputs())) for e in data[80:])


def settings(seed: int) -> dict[str, Any]:
    return {
        "metric": sandbox.exact_match,
        "prompt_model": sandbox.rewriter(cache=False),
        "embedder": "hashed-ngrams",
        "num_threads": 1,
        "seed": seed,
        "verbose": False,
    }


def in_paper_style(task: str, seed: int, direction: Direction) -> float:
    optimizer = GPO.paper(**settings(seed), direction=direction, failures=3, max_metric_calls=1_000)
    return accuracy(task, seed, optimizer, valid=20)


def in_a_race(task: str, seed: int, failures: int) -> float:
    optimizer = GPO(**settings(seed), failures=failures, max_metric_calls=400)
    return accuracy(task, seed, optimizer, valid=40)


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute on a machine of its own
def test_shuffled_scores_mislead() -> None:
    runs = [(task, seed) for task in sandbox.TASK_NAMES for seed in (400, 401)]
    losses = [in_paper_style(*run, true) - in_paper_style(*run, shuffled) for run in runs]
    assert fmean(losses) > 0.01


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hidden_failures_teach_nothing() -> None:
    runs = [(task, seed) for task in sandbox.TASK_NAMES for seed in (400, 401)]
    assert fmean(in_a_race(*run, 12) - in_a_race(*run, 0) for run in runs) > 0.1
