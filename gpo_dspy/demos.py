"""Few-shot demos: labelled ones from the training set, bootstrapped ones from runs that went right.

A run that went right shows every predictor's inputs and outputs in its trace, so that the search's
own metric calls on training examples bring demos for every module, also where the training set has
no labels for what a module passes on (Khattab et al. 2023, https://arxiv.org/abs/2310.03714).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.adapters.utils import serialize_for_json

from gpo_dspy.data import Data
from gpo_dspy.evaluation.runner import Evaluation
from gpo_dspy.program import optimizable_predictors
from gpo_dspy.program_state import Demo, Demos


@dataclass(frozen=True, slots=True)
class DemoSource:
    """Makes sets of demos for all predictors of a program together.

    Attributes:
        student: The program.
        data: Its training examples are the only ones that become demos.
        max_bootstrapped: Demos of a predictor from runs that went right, at most.
        max_labeled: Demos of a predictor in all to which training examples fill up.
        seed: Decides which examples are drawn.
    """

    student: dspy.Module
    data: Data
    max_bootstrapped: int
    max_labeled: int
    seed: int

    @property
    def is_used(self) -> bool:
        """Whether demos are searched at all."""
        return self.max_bootstrapped > 0 or self.max_labeled > 0

    def propose(
        self,
        step: int,
        count: int,
        succeeded: Mapping[int, Evaluation],
        failed: Sequence[int] = (),
    ) -> list[Demos]:
        """Draw different demo sets.

        The first has as many bootstrapped demos as are allowed, the second only labelled ones, the
        others a number by chance. Every other one fills up with examples that go wrong before it
        takes others: they show what the program does not know.

        Args:
            step: The step to come, from 1.
            count: Sets to draw; fewer come back where there are not so many different ones.
            succeeded: Runs that went right, by training example, the best first.
            failed: Training examples that the current program gets wrong.
        """
        sets: dict[Demos, None] = {}
        for number in range(count):
            rng = random.Random(f"{self.seed}/{step}/demos/{number}")
            most = min(self.max_bootstrapped, len(succeeded))
            if number == 1 and self.max_labeled:
                most = 0
            elif number > 1:
                most = rng.randint(min(most, 1), most)
            sets[self._draw(rng, most, succeeded, failed if number % 2 else ())] = None
        return [demos for demos in sets if demos]

    def _draw(
        self,
        rng: random.Random,
        bootstrapped: int,
        succeeded: Mapping[int, Evaluation],
        failed: Sequence[int],
    ) -> Demos:
        taken = rng.sample(list(succeeded), bootstrapped)
        others = [index for index in self.data.train if index not in taken]
        first = [index for index in others if index in failed]
        filling = rng.sample(first, len(first))
        filling += rng.sample(others, len(others))
        made = []
        for name, predictor in optimizable_predictors(self.student).items():
            demos = [
                demo
                for index in taken
                if (demo := bootstrapped_demo(name, predictor, index, succeeded[index], rng))
            ]
            for index in dict.fromkeys(filling):
                if len(demos) >= self.max_labeled:
                    break
                demo = labelled_demo(predictor, index, self.data.examples[index])
                demos += [demo] if demo else []
            if demos:
                made.append((name, tuple(demos)))
        return tuple(made)


def bootstrapped_demo(
    name: str, predictor: dspy.Predict, index: int, evaluation: Evaluation, rng: random.Random
) -> Demo | None:
    """Make a demo of what a predictor got and gave in a run; None if it had no part in it.

    Args:
        name: The predictor's name.
        predictor: The predictor.
        index: The training example of the run.
        evaluation: The run.
        rng: Chooses among several calls.
    """
    calls = [call for call in evaluation.trace if call.predictor == name]
    if not calls:
        return None
    call = rng.choice(calls)
    return _demo(predictor, index, {**call.inputs, **call.outputs}, bootstrapped=True)


def labelled_demo(predictor: dspy.Predict, index: int, example: dspy.Example) -> Demo | None:
    """Make a demo of an example; None if it has none of a predictor's inputs or of its outputs.

    Fields that the example lacks, such as a chain of thought, stay out; DSPy's adapters say so.
    """
    return _demo(predictor, index, example.toDict(), bootstrapped=False)


def _demo(
    predictor: dspy.Predict, index: int, values: Mapping[str, Any], *, bootstrapped: bool
) -> Demo | None:
    signature = predictor.signature
    has = {name for name, value in values.items() if value is not None}
    if not (has & set(signature.input_fields) and has & set(signature.output_fields)):
        return None
    fields = {name: serialize_for_json(values[name]) for name in signature.fields if name in has}
    return Demo(index, json.dumps(fields, ensure_ascii=False, default=str), bootstrapped)
