"""Run programs on examples in threads: one metric call per job, results in job order."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError

from gpo_dspy.backend_errors import Patience, is_backend_error
from gpo_dspy.errors import MetricError
from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.ledger import Ledger, Usage
from gpo_dspy.parallel import as_completed

FAILURE_SCORE = 0.0
UNPARSABLE_REPLY = "(unparsable reply)"


class Outcome(enum.Enum):
    """How one metric call ended."""

    SCORED = "scored by the metric"
    UNPARSABLE = "answer not parsable, failure score"
    REFUSED = "request refused (content filter, too long, ...), failure score"
    PROGRAM_ERROR = "program raised, failure score"
    METRIC_ERROR = "metric raised, failure score"
    METRIC_INVALID = "metric gave no score in [0, 1], failure score"


@dataclass(frozen=True, slots=True)
class PredictorCall:
    """What one predictor got and gave while a program ran."""

    predictor: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one metric call.

    Attributes:
        score: In [0, 1].
        outcome: How the call ended.
        feedback: The metric's feedback, or what went wrong; may be empty.
        prediction: What the program returned, or None if it failed.
        trace: The predictor calls, in order.
        usage: What the LM calls of the program and the metric used.
    """

    score: float
    outcome: Outcome
    feedback: str = ""
    prediction: Any = None
    trace: tuple[PredictorCall, ...] = field(default=(), repr=False)
    usage: Usage = field(default=Usage(), repr=False)


@dataclass(frozen=True, slots=True)
class Job:
    """One metric call to make."""

    program: dspy.Module
    example: dspy.Example


@dataclass(frozen=True, slots=True)
class Runner:
    """Evaluates jobs in parallel, and never guesses whose fault a failure is.

    A wrong answer scores what the metric says. An answer that cannot be parsed, or a program
    that raises, is the prompt's fault: failure score, with the reason as feedback. A backend
    that does not answer is nobody's fault: the job waits, and in the end the run stops.

    Attributes:
        metric: The user's metric.
        num_threads: Jobs that run at the same time.
        patience: How long a job waits for its backend.
        gate: Called before each job; stops it by raising.
        ledger: Counts the LM calls.
        hide: Takes keys out of feedback, which the prompt model reads.
    """

    metric: Metric
    num_threads: int
    patience: Patience = Patience()
    gate: Callable[[], None] = lambda: None
    ledger: Ledger = field(default_factory=Ledger)
    hide: Callable[[str], str] = str

    def run(
        self,
        jobs: Sequence[Job],
        keep: Callable[[int, Evaluation], None] | None = None,
    ) -> Iterator[tuple[int, Evaluation]]:
        """Yield (position in ``jobs``, result) as the jobs finish.

        Args:
            jobs: What to evaluate.
            keep: Told each position and result at once, in the thread that made it: what is
                kept there is lost neither to a crash nor to an interrupt.

        Raises:
            BackendUnavailable: A backend refused, or stayed away too long.
            BudgetSpent: A limit was reached; the jobs not yet begun are not made.
        """

        def evaluate(position: int) -> Evaluation:
            evaluation = self._evaluate(jobs[position])
            if keep is not None:
                keep(position, evaluation)
            return evaluation

        return as_completed(evaluate, range(len(jobs)), num_threads=self.num_threads)

    def _evaluate(self, job: Job) -> Evaluation:
        self.gate()
        with self.ledger.watch() as used:
            # Apart, so that a judge LM that is away does not have the program pay again.
            evaluation = self.patience.call(lambda: run_program(job.program, job.example))
            if evaluation.outcome is Outcome.SCORED:
                answered = evaluation
                evaluation = self.patience.call(lambda: judge(self.metric, job.example, answered))
        return replace(evaluation, feedback=self.hide(evaluation.feedback), usage=used.usage)


def run_program(program: dspy.Module, example: dspy.Example) -> Evaluation:
    """Run a program on one example; the score of what it answers is not known yet.

    Raises:
        LMError: The backend of the program's LM failed.
    """
    locator = _FailureLocator()
    with dspy.context(trace=[], callbacks=[*(dspy.settings.callbacks or []), locator]):
        try:
            prediction = program(**example.inputs())
        except Exception as error:  # user code may raise anything
            if is_backend_error(error):
                raise
            return _failed(program, error, _trace(program, dspy.settings.trace), locator)
        trace = _trace(program, dspy.settings.trace)
    return Evaluation(FAILURE_SCORE, Outcome.SCORED, prediction=prediction, trace=trace)


def judge(metric: Metric, example: dspy.Example, answered: Evaluation) -> Evaluation:
    """Score what a program answered.

    Raises:
        LMError: The backend of an LM inside the metric failed.
    """
    try:
        judged = metric(example, answered.prediction)
    except Exception as error:  # user code may raise anything
        if is_backend_error(error):
            raise
        outcome, reason = Outcome.METRIC_ERROR, _reason("metric", error)
        if isinstance(error, MetricError):
            outcome, reason = Outcome.METRIC_INVALID, str(error)
        return replace(answered, outcome=outcome, feedback=reason)
    return replace(answered, score=judged.score, feedback=judged.feedback)


def _failed(
    program: dspy.Module,
    error: Exception,
    trace: tuple[PredictorCall, ...],
    locator: _FailureLocator,
) -> Evaluation:
    """Make a failed evaluation of an exception of the program."""
    if isinstance(error, LMInvalidRequestError):
        reason = f"The LM refused the request: {error.message}"
        return Evaluation(FAILURE_SCORE, Outcome.REFUSED, reason, None, trace)
    if not isinstance(error, AdapterParseError):
        reason = _reason("program", error)
        return Evaluation(FAILURE_SCORE, Outcome.PROGRAM_ERROR, reason, None, trace)
    wanted = ", ".join(error.signature.output_fields)
    reason = f"The reply could not be parsed into the output fields ({wanted})."
    call = locator.failed_call(program, error, {UNPARSABLE_REPLY: str(error.lm_response)})
    return Evaluation(FAILURE_SCORE, Outcome.UNPARSABLE, reason, None, (*trace, *call))


def _reason(who: str, error: Exception) -> str:
    return f"The {who} raised {type(error).__name__}: {error}"


def _trace(program: dspy.Module, trace: Iterable[Any]) -> tuple[PredictorCall, ...]:
    """Name the predictors of a DSPy trace; by object, since signatures may be equal."""
    names = {id(predictor): name for name, predictor in program.named_predictors()}
    return tuple(
        PredictorCall(names[id(predictor)], dict(inputs), dict(outputs))
        for predictor, inputs, outputs in trace
        if id(predictor) in names
    )


class _FailureLocator(BaseCallback):  # type: ignore[misc]  # DSPy has no types
    """Remembers which predictor was running when a program raised.

    The exception names only a signature, and two predictors may share that.
    """

    def __init__(self) -> None:
        self._running: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._failed: list[tuple[BaseException, Any, dict[str, Any]]] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._running[call_id] = (instance, inputs)

    def on_module_end(
        self,
        call_id: str,
        outputs: Any | None,  # noqa: ARG002 - DSPy passes it by name
        exception: BaseException | None = None,
    ) -> None:
        started = self._running.pop(call_id, None)
        if exception is not None and started is not None:
            self._failed.append((exception, *started))

    def failed_call(
        self, program: dspy.Module, error: BaseException, outputs: dict[str, Any]
    ) -> tuple[PredictorCall, ...]:
        """Return the call of the predictor that raised, with what it gave instead of its fields.

        A program may have caught an earlier error and gone on, so only ``error`` itself counts.
        """
        names = {id(predictor): name for name, predictor in program.named_predictors()}
        calls = [
            PredictorCall(names[id(instance)], dict(inputs.get("kwargs", inputs)), outputs)
            for exception, instance, inputs in self._failed
            if exception is error and id(instance) in names
        ]
        return tuple(calls[:1])
