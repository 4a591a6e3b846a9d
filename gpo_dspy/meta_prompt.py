"""The meta-prompt: what the prompt model is shown, as DSPy signatures, so any adapter fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import dspy

from gpo_dspy.state import ScoredPrompt

LONGEST_VALUE = 1_500
"""Characters of one field value that are shown; the middle of longer ones is left out."""


def rules(language: str | None = None, *, allow_examples: bool = False) -> tuple[str, ...]:
    """Return the rules for a new prompt.

    Args:
        language: English name of the language to write in; None is that of the current prompt.
        allow_examples: Whether examples may be copied.
    """
    return (
        "Write general instructions"
        + (
            "; an example may be quoted."
            if allow_examples
            else ": do not copy or answer the examples."
        ),
        "Keep every placeholder in braces, and the names of the fields.",
        f"Write in {language}." if language else "Write in the language of the current prompt.",
        "Give only the prompt: no preamble, no quotation marks, no field markers.",
    )


RULES = rules()


class GeneratePrompt(dspy.Signature):  # type: ignore[misc]  # DSPy has no types
    """Write a better prompt for a language model.

    A program gives a language model a prompt and the input fields of an example; the model
    fills in the output fields, and a metric scores them from 0 to 100. Below are earlier prompts
    with their scores, in ascending order, and the current prompt. Compare them carefully: find
    out what the better prompts say that the weaker ones do not. Find out why the failures
    happened, and what instruction would have prevented them. Then write a new prompt that will
    score higher.
    """

    task_description: str = dspy.InputField(desc="what the program gets and gives")
    scored_prompts: str = dspy.InputField(desc="earlier prompts with scores, ascending")
    trajectory_summary: str = dspy.InputField(desc="what the prompts tried so far have taught")
    current_prompt: str = dspy.InputField(desc="the prompt to improve")
    current_score: str = dspy.InputField(desc="score of the current prompt")
    objective: str = dspy.InputField(desc="what the score is made of")
    task_examples: str = dspy.InputField(desc="examples of the task")
    failures: str = dspy.InputField(desc="what went wrong with the current prompt")
    reflection: str = dspy.InputField(desc="a judgement of what is wrong with the current prompt")
    word_budget: str = dspy.InputField(desc="how much may change")
    rules: str = dspy.InputField(desc="rules for the new prompt")
    too_long: str = dspy.InputField(desc="earlier answers that changed too much")
    variation: str = dspy.InputField(desc="which of several independent answers this is")
    improved_prompt: str = dspy.OutputField(desc="the new prompt, complete")


class EditPrompt(GeneratePrompt):
    """Revise the current prompt of a language model.

    A program gives a language model a prompt and the input fields of an example; the model
    fills in the output fields, and a metric scores them from 0 to 100. Below are earlier prompts
    with their scores, in ascending order, and the current prompt. Compare them carefully: find
    out what the better prompts say that the weaker ones do not. Find out why the failures
    happened, and what instruction would have prevented them. Then edit the current prompt: keep
    the sentences that help as they are, mend or remove those that hurt, and add what is missing.
    """


SEVERAL = (
    "Write {rewrites} such prompts, each complete in itself, and each with an idea of its own of "
    "what went wrong and of what to say about it."
)
SEVERAL_AGAIN = (
    "Write {rewrites} such prompts, each complete in itself: one for each of the answers that "
    "changed too much, in their order."
)
FOLLOW_SUMMARY = (
    "A summary of the prompts tried so far stands for them: build on what it says helped, and "
    "leave what it says did not."
)
FOLLOW_REFLECTION = "A judgement of the current prompt is given: mend what it finds wrong."


@dataclass(frozen=True, slots=True)
class MetaPrompt:
    """One request to the prompt model, as values; empty ones are not shown.

    Attributes:
        task_description: What the program and the predictor do.
        retrieved: The update direction, in ascending order of score.
        current: The prompt to improve.
        examples: Task examples, as text.
        failures: Failures with the current prompt, as text.
        words: The word budget.
        rewrites: How many new prompts to write.
        variation: (number of the first of them, of how many in all requests of the step): makes
            requests differ, so that each gets an answer of its own from any model at any
            temperature, cached or not.
        trials: For each new prompt the failures that it will be tried on, as positions.
        too_long: (rewrite, words it changed) pairs, of earlier answers that went over the budget.
        rules: What the new prompt must keep to.
        objective: What the score is made of, if of several scores.
        summary: The update direction in words: a summary of the trajectory.
        reflection: The same: what is wrong with the current prompt.
    """

    task_description: str
    retrieved: tuple[ScoredPrompt, ...]
    current: ScoredPrompt
    examples: tuple[str, ...]
    failures: tuple[str, ...]
    words: int
    rewrites: int = 1
    variation: tuple[int, int] = (1, 1)
    trials: tuple[tuple[int, ...], ...] = ()
    too_long: tuple[tuple[str, int], ...] = ()
    rules: tuple[str, ...] = RULES
    objective: str = ""
    summary: str = ""
    reflection: str = ""

    @property
    def can_be_smaller(self) -> bool:
        """Whether requests for one prompt, with only what it will be tried on, would be smaller."""
        return self.rewrites > 1 or any(len(trial) < len(self.failures) for trial in self.trials)

    def alone(self, place: int, *, fewer_failures: bool = False) -> MetaPrompt:
        """Return the request for one of the prompts by itself.

        Args:
            place: Which, from 0.
            fewer_failures: Whether to show only those that it will be tried on.
        """
        first, total = self.variation
        failures = self.failures
        if fewer_failures and self.trials:
            failures = tuple(self.failures[position] for position in self.trials[place])
        return replace(
            self, rewrites=1, variation=(first + place, total), failures=failures, trials=()
        )

    def sent_back(self, too_long: Sequence[tuple[str, int]]) -> MetaPrompt:
        """Return the same request with the answers that changed too many words held against it.

        Args:
            too_long: The answers, and how many words each changed.
        """
        # Of several, those sent back are no variations in a row.
        variation = self.variation if self.rewrites == 1 else (1, 1)
        return replace(self, rewrites=len(too_long), variation=variation, too_long=tuple(too_long))

    def instructing(self, style: type[dspy.Signature]) -> type[dspy.Signature]:
        """Return the signature for as many prompts, and with what else is to be done.

        Args:
            style: :class:`GeneratePrompt` or :class:`EditPrompt`.
        """
        advice = [FOLLOW_SUMMARY] * bool(self.summary) + [FOLLOW_REFLECTION] * bool(self.reflection)
        if self.rewrites > 1:
            several = SEVERAL_AGAIN if self.too_long else SEVERAL
            advice.append(several.format(rewrites=self.rewrites))
        hashable: Any = style  # as mypy does not know of classes
        asked: type[dspy.Signature] = _signature(hashable, self.rewrites, tuple(advice))
        return asked

    def fields(self) -> dict[str, str]:
        """Return the input fields of :class:`GeneratePrompt` that have something to say."""
        fields = {
            "task_description": self.task_description,
            "scored_prompts": show_scored(self.retrieved),
            "trajectory_summary": self.summary,
            "current_prompt": self.current.text,
            "current_score": percent(self.current.score),
            "objective": self.objective,
            "task_examples": numbered("Example", self.examples),
            "failures": numbered("Failure", self.failures),
            "reflection": self.reflection,
            "word_budget": f"Change at most {self.words} words of the current prompt.",
            "rules": "\n".join(f"- {rule}" for rule in self.rules),
            "variation": "",
        }
        fields["too_long"] = "\n\n".join(
            f"This answer changed {changed} words, {changed - self.words} too many. Say the "
            f"most useful part of it in at most {self.words} changed words:\n"
            f"<prompt>\n{text}\n</prompt>"
            for text, changed in self.too_long
        )
        first, total = self.variation
        last = first + self.rewrites - 1
        if self.rewrites < total:
            one, these = f"This is variation {first}", f"These are variations {first} to {last}"
            fields["variation"] = (
                f"{one if first == last else these} of {total}: take an approach of your own, "
                "other variations are written independently."
            )
        return {name: text for name, text in fields.items() if text}


@lru_cache(maxsize=128)  # each new field takes DSPy milliseconds
def _signature(style: Any, rewrites: int, advice: tuple[str, ...]) -> Any:
    """Return the signature with advice, and an output field for each of several new prompts.

    Where one is missing, the others can be read all the same. (A plain default, and not a factory,
    would stand in JSON schemas, where some providers refuse it.)
    """
    if rewrites > 1:
        style = style.delete("improved_prompt")
        for number in range(1, rewrites + 1):
            desc = f"{'the' if number == 1 else 'another'} new prompt, complete"
            name = "improved_prompt" if number == 1 else f"improved_prompt_{number}"
            style = style.append(name, dspy.OutputField(desc=desc, default_factory=str), str)
    if advice:
        style = style.with_instructions(" ".join([style.instructions, *advice]))
    return style


def percent(score: float) -> str:
    """Write a score in [0, 1] as the prompt model reads it."""
    return f"{100 * score:.1f} of 100"


def show_scored(prompts: Sequence[ScoredPrompt]) -> str:
    """Write prompts with their scores, in the order given."""
    return "\n\n".join(
        f"Prompt {i}, score {percent(prompt.score)}{_origin(prompt)}:\n"
        f"<prompt>\n{prompt.text}\n</prompt>"
        for i, prompt in enumerate(prompts, start=1)
    )


def show_fields(prefix: str, values: Mapping[str, Any]) -> list[str]:
    """Write field values as lines ``prefix name: value``, long ones shortened."""
    return [f"{prefix} {name}: {shorten(str(value))}" for name, value in values.items()]


def shorten(text: str) -> str:
    """Leave out the middle of a long text, and say how much."""
    left_out = len(text) - LONGEST_VALUE
    if left_out <= 0:
        return text
    half = LONGEST_VALUE // 2
    return f"{text[:half]} [... {left_out} characters left out ...] {text[-half:]}"


def _origin(prompt: ScoredPrompt) -> str:
    """Say where a prompt comes from that was not written for this task."""
    return f" ({prompt.origin})" if prompt.origin else ""


def numbered(what: str, texts: Sequence[str]) -> str:
    """Write texts one after the other, each with a heading such as "Failure 1"."""
    return "\n\n".join(f"{what} {i}\n{text}" for i, text in enumerate(texts, start=1))
