"""Shown failures matter, tried with a small greedy optimizer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import dspy
import pytest

from gpo_dspy import sandbox
from gpo_dspy.sandbox.provider import replies

SEEDS = range(100, 105)  # 0 to 19 were looked at while the sandbox was calibrated
TASKS = ("word_sorting", "object_counting", "date_arithmetic", "bracket_completion")
STEPS, CANDIDATES, EXAMPLES = 6, 3, 20
ADAPTER = dspy.ChatAdapter()


@dataclass(frozen=True)
class Arm:
    """What a run is shown."""

    scores: str = "true"
    failures: bool = True
    earlier: bool = True


@dataclass(frozen=True)
class Tried:
    text: str
    score: float
    wrong: tuple[tuple[Any, str], ...]


def predict(text: str, question: str) -> str:
    signature = dspy.Signature("question -> answer", text)
    messages = ADAPTER.format(signature, [], {"question": question})
    return str(ADAPTER.parse(signature, replies("solver", messages)[0])["answer"])


def score(text: str, data: list[Any]) -> Tried:
    said = [(example, predict(text, example.question)) for example in data]
    wrong = tuple((e, answer) for e, answer in said if answer != e.answer)
    return Tried(text, 1 - len(wrong) / len(data), wrong)


def rewrite(values: dict[str, str]) -> str:
    values = {name: text for name, text in values.items() if text}
    signature = dspy.Signature(f"{', '.join(values)} -> improved_prompt", "Improve the prompt.")
    messages = ADAPTER.format(signature, [], values)
    return str(ADAPTER.parse(signature, replies("rewriter", messages)[0])["improved_prompt"])


def show(best: Tried, tried: list[Tried], arm: Arm, chance: random.Random) -> dict[str, str]:
    near = sorted(tried, key=lambda t: t.score)[-5:] if arm.earlier else []
    scores = [t.score for t in near]
    if arm.scores == "shuffled":
        chance.shuffle(scores)
    told = [f", score {100 * s:.1f} of 100" if arm.scores != "hidden" else "" for s in scores]
    wrong = chance.sample(best.wrong, min(4, len(best.wrong))) if arm.failures else []
    return {
        "scored_prompts": "\n\n".join(
            f"Prompt {i}{text}:\n<prompt>\n{t.text}\n</prompt>"
            for i, (t, text) in enumerate(zip(near, told, strict=True), 1)
        ),
        "current_prompt": best.text,
        "current_score": f"{100 * best.score:.1f} of 100" if arm.scores != "hidden" else "",
        "failures": "\n\n".join(
            f"Failure {i}\nInput question: {e.question}\nOutput answer: {said}\n"
            f"Expected answer: {e.answer}"
            for i, (e, said) in enumerate(wrong, 1)
        ),
        "word_budget": "Change at most 30 words of the current prompt.",
    }


def run(task: str, seed: int, arm: Arm) -> float:
    """Return the accuracy of the prompt a run ends with, on unseen items."""
    chance = random.Random(seed)
    data = sandbox.make_dataset(task, EXAMPLES + 83, seed)
    train, shown, test = data[:EXAMPLES], data[EXAMPLES : EXAMPLES + 3], data[EXAMPLES + 3 :]
    examples = "\n\n".join(
        f"Example {i}\nInput question: {e.question}\nExpected answer: {e.answer}"
        for i, e in enumerate(shown, 1)
    )
    best = score("Answer the question.", train)
    tried = [best]
    for step in range(STEPS):
        values = {**show(best, tried, arm, chance), "task_examples": examples}
        for number in range(CANDIDATES):
            which = f"This is variation {number + 1} of {CANDIDATES}, step {step}, seed {seed}."
            text = rewrite({**values, "variation": which})
            tried += [score(text, train)] if text else []
        best = max(reversed(tried), key=lambda t: t.score)
    return score(best.text, test).score


def mean(arm: Arm) -> float:
    return fmean(run(task, seed, arm) for task in TASKS for seed in SEEDS)


@pytest.mark.slow
def test_seeing_failures_matters() -> None:
    # Only this is claimed. On 56 runs with untouched seeds, hidden scores (+1.7, standard error
    # 3.3 points), shuffled scores (+0.7, 2.7) and no earlier prompts (+2.2, 3.1) made no
    # measurable difference; they did on seeds 0 to 5, which the sandbox was calibrated on.
    full, without_failures = mean(Arm()), mean(Arm(failures=False))
    assert full > without_failures + 0.03, (full, without_failures)
