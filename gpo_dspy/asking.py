"""What one step asks: the same direction in all requests, failures dealt out among them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import dspy

from gpo_dspy.data import Data
from gpo_dspy.direction import View
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.meta_prompt import RULES, MetaPrompt
from gpo_dspy.program import describe_predictor
from gpo_dspy.showing import deal, failures_through, show_example, show_failure
from gpo_dspy.state import RunState, ScoredPrompt, UpdateDirection
from gpo_dspy.trajectory import Trajectory
from gpo_dspy.wording import latest_texts


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
        directions: Mapping[str, UpdateDirection],
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
            directions: Their update directions.
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
                        retrieved=directions[predictor].prompts,
                        current=prompt,
                        examples=examples,
                        failures=self._show_failures(share, results, predictor),
                        words=words,
                        variation=(number, candidates),
                        rules=self.rules,
                        objective=objective,
                        summary=directions[predictor].text("summary"),
                        reflection=directions[predictor].text("reflection"),
                    ),
                    tuple(share),
                )
                for number, share in enumerate(shares, start=1)
            ]
            for predictor, prompt in current.items()
        }

    def views(
        self,
        state: RunState,
        current: Mapping[str, ScoredPrompt],
        trajectories: Mapping[str, Trajectory],
        results: Mapping[int, Evaluation],
        objective: str = "",
    ) -> dict[str, View]:
        """Return what each update direction may be put into words from.

        Args:
            state: Where the run stands; its records hold the texts of earlier steps.
            current: The present prompts of the predictors to be rewritten.
            trajectories: What was tried, by predictor.
            results: What is known of the current program, by example index.
            objective: What the score is made of, if of several scores.
        """

        def failures(predictor: str, count: int) -> tuple[str, ...]:
            failed = failures_through(results, [predictor])
            rng = random.Random(f"{self.seed}/{state.step + 1}/{predictor}/direction")
            drawn = rng.sample(failed, min(count, len(failed)))
            return self._show_failures(drawn, results, predictor)

        return {
            name: View(
                step=state.step + 1,
                task_description=describe_predictor(self.student, name),
                trajectory=trajectories[name],
                current=prompt,
                former=latest_texts(state.records, name),
                failures=partial(failures, name),
                objective=objective,
            )
            for name, prompt in current.items()
        }

    def _show_failures(
        self, indices: Sequence[int], results: Mapping[int, Evaluation], predictor: str
    ) -> tuple[str, ...]:
        examples = self.data.examples
        return tuple(show_failure(examples[i], results[i], predictor) for i in indices)

    def _show_examples(self, indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(show_example(self.data.examples[index]) for index in indices)

    def batch(self, step: int) -> list[int]:
        """Return the batch of training examples of a step: a reshuffled pass per epoch."""
        train = list(self.data.train)
        per_epoch = -(-len(train) // self.batch_size)
        epoch, number = divmod(step - 1, per_epoch)
        random.Random(f"{self.seed}/{epoch}/epoch").shuffle(train)
        return train[number * self.batch_size : (number + 1) * self.batch_size]
