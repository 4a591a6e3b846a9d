"""The requests of one step: the same direction for all, failures dealt out among them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dspy

from gpo_dspy.data import Data
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.meta_prompt import RULES, MetaPrompt
from gpo_dspy.program import describe_predictor
from gpo_dspy.showing import deal, failures_through, show_example, show_failure
from gpo_dspy.state import ScoredPrompt


@dataclass(frozen=True, slots=True)
class Request:
    """A meta-prompt, and the examples (by index) whose failures it shows."""

    meta_prompt: MetaPrompt
    failures_shown: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """Makes the requests of a step; the fields are arguments of :class:`~gpo_dspy.GPO`."""

    student: dspy.Module
    data: Data
    failures: int
    task_examples: int
    batch_size: int
    seed: int
    rules: tuple[str, ...] = RULES

    def requests(
        self,
        step: int,
        candidates: int,
        current: Mapping[str, ScoredPrompt],
        retrieved: Mapping[str, tuple[ScoredPrompt, ...]],
        words: int,
        results: Mapping[int, Evaluation],
        objective: str = "",
    ) -> dict[str, list[Request]]:
        """Return one request per candidate and predictor to be rewritten.

        The requests of one candidate show the same failures, each as its predictor saw it.

        Args:
            step: The step to come, from 1.
            candidates: How many to ask for.
            current: The present prompts of the predictors to be rewritten.
            retrieved: Their update directions.
            words: The word budget.
            results: What is known of the current program, by example index.
            objective: What the score is made of, if of several scores.
        """
        rng = random.Random(f"{self.seed}/{step}/requests")
        failed = failures_through(results, current)
        shares = deal(failed, hands=candidates, size=self.failures, random_state=rng)
        batch = self.batch(step)
        examples = self._show_examples(rng.sample(batch, min(self.task_examples, len(batch))))
        return {
            predictor: [
                Request(
                    MetaPrompt(
                        task_description=describe_predictor(self.student, predictor),
                        retrieved=retrieved[predictor],
                        current=prompt,
                        examples=examples,
                        failures=tuple(
                            show_failure(self.data.examples[index], results[index], predictor)
                            for index in share
                        ),
                        words=words,
                        variation=(number, candidates),
                        rules=self.rules,
                        objective=objective,
                    ),
                    tuple(share),
                )
                for number, share in enumerate(shares, start=1)
            ]
            for predictor, prompt in current.items()
        }

    def _show_examples(self, indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(show_example(self.data.examples[index]) for index in indices)

    def batch(self, step: int) -> list[int]:
        """Return the batch of training examples of a step: a reshuffled pass per epoch."""
        train = list(self.data.train)
        per_epoch = -(-len(train) // self.batch_size)
        epoch, number = divmod(step - 1, per_epoch)
        random.Random(f"{self.seed}/{epoch}/epoch").shuffle(train)
        return train[number * self.batch_size : (number + 1) * self.batch_size]
