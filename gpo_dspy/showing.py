"""Examples and failures as text for the prompt model."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dspy

from gpo_dspy.evaluation.runner import Evaluation, PredictorCall
from gpo_dspy.evaluation.strata import wrong
from gpo_dspy.meta_prompt import percent, shorten, show_fields


def failures_through(results: Mapping[int, Evaluation], predictors: Iterable[str]) -> list[int]:
    """Return the examples that went wrong; if some went through one of the predictors, those.

    One without a trace, because it took too long or raised early, may have: it is among them.

    Args:
        results: What is known of the current program, by example index.
        predictors: The predictors to be rewritten.
    """
    failed, names = wrong(results), list(predictors)
    through = {i for i in failed if any(any(_calls(results[i], name)) for name in names)}
    if not through:
        return failed
    return [index for index in failed if index in through or not results[index].trace]


def failing_shares(
    results: Mapping[int, Evaluation], predictors: Sequence[str]
) -> dict[str, float]:
    """Return each predictor's share in [0, 1] of the examples that went wrong, by their traces.

    Where nothing went wrong through any of them, all have the share 1.

    Args:
        results: What is known of the current program, by example index.
        predictors: All predictors.
    """
    traced = {index: evaluation for index, evaluation in results.items() if evaluation.trace}
    failed = failures_through(traced, predictors)
    counts = {name: sum(any(_calls(results[i], name)) for i in failed) for name in predictors}
    if not any(counts.values()):
        return dict.fromkeys(predictors, 1.0)
    return {name: count / len(failed) for name, count in counts.items()}


def informative(
    failed: Sequence[int],
    scores: Mapping[int, Sequence[float]],
    count: int,
    random_state: random.Random,
) -> list[int]:
    """Draw failures that tell much, if there are more than can be shown.

    An example counts the more, the nearer it is to the boundary between right and wrong, and the
    more programs got it wrong: what all of them get wrong may be beyond mending, and what only one
    got wrong may be chance. With w the programs that got it wrong, and p the share of those that
    got it right, its weight is ``p (1 − p) √w``. Drawn without replacement after Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006.

    Args:
        failed: Examples that the current program gets wrong, by index.
        scores: Scores in [0, 1] of all programs that were scored on an example, by its index.
        count: How many to draw at most.
        random_state: Draws.

    Returns:
        The examples, in the order of ``failed``.
    """
    if len(failed) <= count:
        return list(failed)

    def weight(index: int) -> float:
        right = math.fsum(scores[index])
        wrong = len(scores[index]) - right
        p = (right + 0.5) / (len(scores[index]) + 1)
        return p * (1 - p) * math.sqrt(max(wrong, 0.5))

    keys = {index: random_state.random() ** (1 / weight(index)) for index in failed}
    drawn = sorted(failed, key=lambda index: -keys[index])[:count]
    return [index for index in failed if index in drawn]


def deal(
    indices: Sequence[int], *, hands: int, size: int, random_state: random.Random
) -> list[list[int]]:
    """Deal indices to several hands, evenly: with 7 failures and 4 hands of 3, each is shown.

    Args:
        indices: What to deal.
        hands: How many hands.
        size: Indices in a hand at most; within a hand they differ.
        random_state: Shuffles.
    """
    size = min(size, len(indices))
    dealt: list[list[int]] = []
    deck: list[int] = []
    for _ in range(hands):
        hand: list[int] = []
        while len(hand) < size:
            if not deck:
                deck = random_state.sample(indices, len(indices))
            fresh = next((i for i in deck if i not in hand), None)
            if fresh is None:  # the rest of the deck is in this hand already
                deck = random_state.sample(indices, len(indices))
                continue
            deck.remove(fresh)
            hand.append(fresh)
        dealt.append(hand)
    return dealt


def show_example(example: dspy.Example) -> str:
    """Write an example with its inputs and its labels."""
    lines = show_fields("Input", example.inputs().toDict())
    lines += show_fields("Expected", example.labels().toDict())
    return "\n".join(lines)


def show_failure(example: dspy.Example, evaluation: Evaluation, predictor: str) -> str:
    """Write what went wrong on an example, as the given predictor saw it.

    Feedback on the predictor, where the metric gives it, stands in place of that on the program.

    Args:
        example: The example.
        evaluation: The result of the current program on it.
        predictor: The predictor to be rewritten; if it was called more than once (in a loop of
            tool calls), its last call is shown.
    """
    lines = show_fields("Input", example.inputs().toDict())
    outputs = (
        dict(evaluation.prediction) if isinstance(evaluation.prediction, dspy.Prediction) else {}
    )
    calls = list(_calls(evaluation, predictor))
    if calls:
        lines = show_fields("Input", calls[-1].inputs)
        lines += show_fields("Output", calls[-1].outputs)
        outputs = {k: v for k, v in outputs.items() if k not in calls[-1].outputs}
        lines += show_fields("The whole program's output", outputs)
    else:
        lines += show_fields("Output", outputs)
    lines += show_fields("Expected", example.labels().toDict())
    if evaluation.scores:
        scores = (f"{name} {percent(score)}" for name, score in evaluation.scores)
        lines.append(f"Scores: {', '.join(scores)}")
    feedback = dict(evaluation.predictor_feedback).get(predictor) or evaluation.feedback
    if feedback:
        lines.append(f"Feedback: {shorten(feedback)}")
    return "\n".join(lines)


def _calls(evaluation: Evaluation, predictor: str) -> Iterator[PredictorCall]:
    return (call for call in evaluation.trace if call.predictor == predictor)
