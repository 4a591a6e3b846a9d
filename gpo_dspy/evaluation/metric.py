"""The user's metric behind one call, its value checked against the contract."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias

import dspy

from gpo_dspy.errors import MetricError
from gpo_dspy.evaluation.tracing import DSPyTrace

logger = logging.getLogger(__name__)

CONTRACT = (
    "A metric takes (example, prediction, trace=None) and returns a bool, a number in [0, 1], "
    "several by name ({'accuracy': 1.0, 'brevity': 0.4}), or "
    "dspy.Prediction(score=..., scores={...}, feedback=...) with one of the two scores or both."
)

NamedScores: TypeAlias = tuple[tuple[str, float], ...]
"""(name, score in [0, 1]) pairs, sorted by name."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a metric says of one prediction.

    Attributes:
        score: In [0, 1]; of a metric that gives only named scores, their plain mean.
        feedback: The metric's feedback, if it gives some.
        scores: The named scores, if it gives several.
    """

    score: float
    feedback: str = ""
    scores: NamedScores = ()


class Metric:
    """A user's metric, called in the form it was written for.

    Metrics of two, three or more arguments are understood; those beyond the third are GEPA's
    ``pred_name`` and ``pred_trace``, and are None while whole programs are scored.

    Attributes:
        function: The user's metric.
        name: What it is called in errors.
        wants_predictor: Whether it takes GEPA's arguments, so that it can be asked for feedback
            on one predictor.

    Raises:
        ValueError: ``function`` is not callable, or needs arguments that nobody passes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise ValueError(f"metric must be a callable, got {function!r}. {CONTRACT}")
        if isinstance(function, type):
            raise ValueError(
                f"metric must be a function, or an object that can be called; found the class "
                f"{function.__qualname__}: pass an object of it, as {function.__qualname__}()."
            )
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - not whether, but what
        ):
            raise ValueError(
                f"metric {function!r} is async, and what it returns would be awaited by nobody: "
                "give a plain function, which may call asyncio.run(...)."
            )
        self.function = function
        self.name = getattr(function, "__qualname__", type(function).__qualname__)
        self._extra = _extra_arguments(function)
        self.wants_predictor = _wants_predictor(function)
        self._warned = False

    def __call__(self, example: dspy.Example, prediction: Any) -> Judgement:
        """Judge a prediction.

        Raises:
            MetricError: The value is not a score in [0, 1].
            Exception: Whatever the user's function raises.
        """
        return judgement(self.function(example, prediction, *self._extra), self.name)

    def feedback(
        self,
        example: dspy.Example,
        prediction: Any,
        score: float,
        trace: DSPyTrace,
        pred_name: str,
        pred_trace: DSPyTrace,
    ) -> str:
        """Ask for feedback on one predictor, as GEPA does; empty if there is none.

        A score that comes with it is ignored: the example has its score already.

        Args:
            example: The example.
            prediction: What the whole program returned.
            score: What the metric gave for it.
            trace: Every predictor call of the program.
            pred_name: The predictor.
            pred_trace: Its call.

        Raises:
            Exception: Whatever the user's function raises.
        """
        value = self.function(example, prediction, trace, pred_name, pred_trace)
        given = getattr(value, "score", value)
        if _is_named(value):
            given = judgement(value, self.name).score
        if not self._warned and given != score:
            self._warned = True
            logger.warning(
                "metric %s gave %s for the program and %r when asked for feedback on its predictor "
                "%s; only the score of the program counts.", self.name, score, given, pred_name,
            )  # fmt: skip
        return str(getattr(value, "feedback", None) or "")


def judgement(value: Any, name: str = "metric") -> Judgement:
    """Convert a metric's return value; see :data:`CONTRACT`.

    Raises:
        MetricError: The value is not a score in [0, 1].
    """
    if not isinstance(value, dspy.Prediction):
        if isinstance(value, Mapping):
            scores = _named_scores(value, name)
            return Judgement(_mean(scores), "", scores)
        return Judgement(_number(value, name))
    feedback = str(value.get("feedback") or "")
    if "scores" not in value:
        if "score" not in value:
            raise MetricError(
                f"metric {name} returned a Prediction without `score` or `scores`. {CONTRACT}"
            )
        return Judgement(_number(value["score"], name), feedback)
    scores = _named_scores(value["scores"], name)
    score = _number(value["score"], name) if "score" in value else _mean(scores)
    return Judgement(score, feedback, scores)


def _named_scores(value: Any, name: str) -> NamedScores:
    is_named = isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value)
    if not is_named:
        raise MetricError(
            f"metric {name} returned the scores {value!r}, which are no names with numbers. "
            f"{CONTRACT}"
        )
    return tuple((key, _number(value[key], f"{name}, score {key!r},")) for key in sorted(value))


def _mean(scores: NamedScores) -> float:
    return fmean(score for _, score in scores)


def _number(score: Any, name: str) -> float:
    """Return a score as a number.

    Raises:
        MetricError: It is not one in [0, 1].
    """
    try:
        if isinstance(score, str):
            raise TypeError
        number = float(score)
    except (TypeError, ValueError):
        hint = " Is a `return` missing?" if score is None else ""
        raise MetricError(
            f"metric {name} returned {score!r} ({type(score).__name__}).{hint} {CONTRACT}"
        ) from None
    if not 0.0 <= number <= 1.0:  # NaN is not either
        hint = " If it is a percentage, divide it by 100." if 1.0 < number <= 100.0 else ""
        raise MetricError(f"metric {name} returned {score!r}.{hint} {CONTRACT}")
    return number


def _is_named(value: Any) -> bool:
    """Tell whether a metric's value has several named scores."""
    if isinstance(value, dspy.Prediction):
        return "scores" in value
    return isinstance(value, Mapping)


def _extra_arguments(function: Callable[..., Any]) -> tuple[None, ...]:
    """Return the Nones to pass after (example, prediction): trace, pred_name, pred_trace."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins and C extensions tell no signature
        return (None,)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return (None,)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2 or any(
        p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters
    ):
        raise ValueError(
            f"metric {getattr(function, '__qualname__', function)!s} takes "
            f"{inspect.signature(function)}. {CONTRACT}"
        )
    required = [p for p in positional if p.default is p.empty]
    return (None,) * max(len(required) - 2, min(len(positional) - 2, 1))


def _wants_predictor(function: Callable[..., Any]) -> bool:
    """Tell a metric in GEPA's form from one with options of its own after the third argument."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):  # builtins and C extensions tell no signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p.name for p in positional[3:5]] == ["pred_name", "pred_trace"]
    required = len(positional) > 4 and all(p.default is p.empty for p in positional[3:5])
    return (named or required) and all(p.default is not p.empty for p in positional[5:])
