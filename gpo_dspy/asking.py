"""What one step asks: several rewrites a request, failures dealt out among them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import dspy

from gpo_dspy.data import Data
from gpo_dspy.direction import View
from gpo_dspy.edits import words as words_of
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.meta_prompt import MetaPrompt, rules
from gpo_dspy.program import describe_predictor
from gpo_dspy.settings import Settings
from gpo_dspy.showing import deal, failures_through, informative, show_example, show_failure
from gpo_dspy.state import RunState, UpdateDirection
from gpo_dspy.trajectory import Trajectory
from gpo_dspy.wording import latest_texts

REPLY_WORDS = 1_200
"""Words that one reply of the prompt model is to have at most, so that no limit cuts it short."""

TOKENS_PER_WORD = 3
"""Tokens that a word may need, in languages that need many."""


@dataclass(frozen=True, slots=True)
class Request:
    """A meta-prompt for one or several rewrites.

    Attributes:
        meta_prompt: What the prompt model is shown.
        failures_shown: The examples (by index) whose failures it shows; for each rewrite in an
            order of its own, of which it is tried on the first.
    """

    meta_prompt: MetaPrompt
    failures_shown: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """Makes the requests of a step.

    Attributes:
        student: The program to optimise.
        data: The examples and their roles.
        settings: How to go about it.
        trial: Failures that each rewrite is tried on.
    """

    student: dspy.Module
    data: Data
    settings: Settings
    trial: int

    def requests(
        self,
        step: int,
        sizes: Sequence[int],
        directions: Mapping[str, UpdateDirection],
        words: int,
        results: Mapping[int, Evaluation],
        scores: Mapping[int, Sequence[float]],
        objective: str = "",
    ) -> dict[str, list[Request]]:
        """Return the requests for each predictor to be rewritten.

        Those for the same candidates show the same failures, each as its predictor saw it.

        Args:
            step: The step to come, from 1.
            sizes: For how many candidates each request is.
            directions: The update directions of the predictors to be rewritten.
            words: The word budget.
            results: What is known of the current program, by example index.
            scores: Scores of all programs that were scored on an example, by its index.
            objective: What the score is made of, if of several scores.
        """
        settings = self.settings
        rng = random.Random(f"{settings.seed}/{step}/requests")
        failed = failures_through(results, directions)
        failed = informative(failed, scores, settings.failures * len(sizes), rng)
        hands = deal(failed, hands=len(sizes), size=settings.failures, random_state=rng)
        orders = [self._orders(hand, size, rng) for hand, size in zip(hands, sizes, strict=True)]
        numbers = accumulate(sizes[:-1], initial=1)  # of the first rewrite of each request
        parts = list(zip(numbers, sizes, hands, orders, strict=True))
        batch = self.batch(step)
        examples = self._show_examples(rng.sample(batch, min(settings.task_examples, len(batch))))
        return {
            predictor: [
                Request(
                    MetaPrompt(
                        task_description=describe_predictor(self.student, predictor),
                        retrieved=direction.prompts,
                        current=direction.current,
                        examples=examples,
                        failures=self._show_failures(hand, results, predictor),
                        words=words,
                        rewrites=size,
                        variation=(number, sum(sizes)),
                        trials=tuple(
                            tuple(map(hand.index, order[: self.trial])) for order in tried_on
                        ),
                        rules=rules(settings.language, allow_examples=settings.allow_examples),
                        objective=objective,
                        summary=direction.text("summary"),
                        reflection=direction.text("reflection"),
                    ),
                    tried_on,
                )
                for number, size, hand, tried_on in parts
            ]
            for predictor, direction in directions.items()
        }

    def _orders(
        self, hand: Sequence[int], rewrites: int, random_state: random.Random
    ) -> tuple[tuple[int, ...], ...]:
        """Return in which order each rewrite is tried on failures: each begins with others."""
        if rewrites == 1:
            return (tuple(hand),)
        trials = deal(hand, hands=rewrites, size=self.trial, random_state=random_state)
        return tuple((*trial, *(i for i in hand if i not in trial)) for trial in trials)

    def views(
        self,
        state: RunState,
        directions: Mapping[str, UpdateDirection],
        trajectories: Mapping[str, Trajectory],
        results: Mapping[int, Evaluation],
        objective: str = "",
    ) -> dict[str, View]:
        """Return what each update direction may be put into words from.

        Args:
            state: Where the run stands; its records hold the texts of earlier steps.
            directions: The update directions so far of the predictors to be rewritten.
            trajectories: What was tried, by predictor.
            results: What is known of the current program, by example index.
            objective: What the score is made of, if of several scores.
        """

        def failures(predictor: str, count: int) -> tuple[str, ...]:
            failed = failures_through(results, [predictor])
            rng = random.Random(f"{self.settings.seed}/{state.next_step}/{predictor}/direction")
            drawn = rng.sample(failed, min(count, len(failed)))
            return self._show_failures(drawn, results, predictor)

        return {
            name: View(
                step=state.next_step,
                task_description=describe_predictor(self.student, name),
                trajectory=trajectories[name],
                current=direction.current,
                former=latest_texts(state.records, name),
                failures=partial(failures, name),
                objective=objective,
            )
            for name, direction in directions.items()
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
        train, size = list(self.data.train), self.settings.batch_size
        per_epoch = -(-len(train) // size)
        epoch, number = divmod(step - 1, per_epoch)
        random.Random(f"{self.settings.seed}/{epoch}/epoch").shuffle(train)
        return train[number * size : (number + 1) * size]


def request_sizes(candidates: int, most: int) -> list[int]:
    """Return for how many candidates each of the fewest requests is, evenly.

    Args:
        candidates: How many there are.
        most: How many one request may be for.
    """
    requests = -(-candidates // most)
    return [len(range(i, candidates, requests)) for i in range(requests)]


def rewrites_per_request(
    settings: Settings, prompts: Iterable[str], words: int, max_tokens: int | None
) -> int:
    """Return how many rewrites one request asks for: those that fit into a reply, if not given.

    Args:
        settings: Say how many, or leave it open.
        prompts: The prompts to be rewritten, each in requests of its own.
        words: The word budget.
        max_tokens: Limit on a reply's tokens, if one is set.
    """
    if settings.rewrites_per_request is not None:
        return settings.rewrites_per_request
    longest = max(len(words_of(prompt)) for prompt in prompts) + words
    room = REPLY_WORDS if max_tokens is None else min(REPLY_WORDS, max_tokens // TOKENS_PER_WORD)
    return max(room // longest, 1)
