"""Run programs on examples in parallel: one metric call per job, results in job order."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar
from uuid import uuid4

import dspy
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError

from gpo_dspy.backend_errors import Patience, is_backend_error
from gpo_dspy.errors import MetricError
from gpo_dspy.evaluation.metric import Metric, NamedScores
from gpo_dspy.evaluation.tracing import (
    DSPyTrace,
    FailureLocator,
    PredictorCall,
    last_calls,
    name_calls,
)
from gpo_dspy.execution.courier import Courier
from gpo_dspy.execution.executors import in_this_process, submit_here
from gpo_dspy.execution.pickling import pack
from gpo_dspy.execution.scheduler import Scheduler
from gpo_dspy.execution.time_limit import Stopwatch, call_within
from gpo_dspy.ledger import Ledger, Usage

__all__ = ["Evaluation", "Evaluator", "Job", "Outcome", "PredictorCall", "Runner"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

FAILURE_SCORE = 0.0
UNPARSABLE_REPLY = "(unparsable reply)"


class Outcome(enum.Enum):
    """How one metric call ended."""

    SCORED = "scored by the metric"
    UNPARSABLE = "answer not parsable, failure score"
    REFUSED = "request refused (content filter, too long, ...), failure score"
    PROGRAM_ERROR = "program raised, failure score"
    METRIC_ERROR = "metric raised, failure score"
    METRIC_INVALID = "metric gave no score in [0, 1], or others than before, failure score"
    TIMED_OUT = "took longer than example_timeout, failure score"


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
        predictor_feedback: (predictor name, feedback on its last call) pairs, from a metric that
            gives such feedback on an example below full score.
        scores: The named scores, of a metric that gives several; none if the call failed, which
            counts 0 in each.
    """

    score: float
    outcome: Outcome
    feedback: str = ""
    prediction: Any = None
    trace: tuple[PredictorCall, ...] = field(default=(), repr=False)
    usage: Usage = field(default=Usage(), repr=False)
    predictor_feedback: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    scores: NamedScores = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One metric call to make."""

    program: dspy.Module
    example: dspy.Example


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Makes one metric call, and never guesses whose fault a failure is.

    A wrong answer scores what the metric says. An answer that cannot be parsed, a program that
    raises, or one that takes too long is the prompt's fault: failure score, with the reason as
    feedback. A backend that does not answer is nobody's fault: the call waits, and in the end the
    run stops.

    Attributes:
        metric: The user's metric.
        patience: How long a call waits for its backend.
        example_timeout: Seconds that program and metric may take together; waits for a backend
            that is away do not count. None is no limit.
        hide: Takes keys out of feedback, which the prompt model reads.
    """

    metric: Metric
    patience: Patience = Patience()
    example_timeout: float | None = None
    hide: Callable[[str], str] = str

    def __call__(self, program: dspy.Module, example: dspy.Example, ledger: Ledger) -> Evaluation:
        """Run a program on an example and judge what it answers.

        Args:
            program: The program.
            example: The example.
            ledger: Counts the LM calls, those too that end after the time is up.

        Raises:
            BackendUnavailable: A backend refused, or stayed away too long.
        """
        with ledger.watch() as used:
            evaluation = call_within(
                self.example_timeout,
                lambda stopwatch: self._evaluate(program, example, stopwatch),
                self._late,
            )
        return replace(
            evaluation,
            feedback=self.hide(evaluation.feedback),
            predictor_feedback=tuple(
                (predictor, self.hide(text)) for predictor, text in evaluation.predictor_feedback
            ),
            usage=used.usage,
        )

    def _evaluate(
        self, program: dspy.Module, example: dspy.Example, stopwatch: Stopwatch
    ) -> Evaluation:
        def patiently(step: Callable[..., R], *arguments: Any) -> R:
            def attempt() -> R:
                with stopwatch.attempt():
                    return step(*arguments)

            return self.patience.call(attempt)

        # Apart, so that a judge LM that is away does not have the program pay again.
        answered, trace = patiently(run_program, program, example)
        if answered.outcome is not Outcome.SCORED:
            return answered
        judged = patiently(judge, self.metric, example, answered)
        if not self.metric.wants_predictor or judged.outcome is not Outcome.SCORED:
            return judged
        if min(judged.score, *dict(judged.scores).values(), 1.0) >= 1.0:
            return judged
        # GEPA's second call. One call for both would do only if the metric were known to answer
        # alike with and without a predictor's name, and nothing says so.
        ask = partial(feedback_on, self.metric, hide=self.hide)
        given = (
            (name, patiently(ask, example, judged, trace, name, call))
            for name, call in last_calls(program, trace).items()
        )
        return replace(judged, predictor_feedback=tuple(pair for pair in given if pair[1]))

    def _late(self) -> Evaluation:
        reason = f"No answer within {self.example_timeout:g} seconds."
        return Evaluation(FAILURE_SCORE, Outcome.TIMED_OUT, reason)


class Runner:
    """Evaluates jobs side by side: in threads of its own, or in an executor.

    Args:
        metric: The user's metric.
        num_threads: Jobs that run at the same time.
        patience: How long a job waits for its backend.
        gate: Called before each job; stops it by raising.
        ledger: Counts the LM calls.
        hide: Takes keys out of feedback, which the prompt model reads.
        executor: Runs the jobs instead of own threads. It is never shut down here.
        example_timeout: See :class:`Evaluator`.

    Attributes:
        scheduler: Runs the coroutines that wait for jobs.
    """

    def __init__(
        self,
        metric: Metric,
        num_threads: int,
        patience: Patience = Patience(),
        gate: Callable[[], None] = lambda: None,
        ledger: Ledger | None = None,
        hide: Callable[[str], str] = str,
        executor: Executor | None = None,
        example_timeout: float | None = None,
    ) -> None:
        self.ledger = ledger or Ledger()
        self.scheduler = Scheduler(num_threads, gate)
        self._evaluator = Evaluator(metric, patience, example_timeout, hide)
        self._executor = executor or self.scheduler.threads
        self._name = uuid4().hex

    async def run(
        self,
        jobs: Sequence[Job],
        note: Callable[[int, Evaluation], None],
        keep: Callable[[int, Evaluation], None] = lambda *_: None,
    ) -> None:
        """Evaluate jobs.

        Args:
            jobs: What to evaluate.
            note: Told each position in ``jobs`` and its result, in the thread that schedules.
            keep: Told the same before, at once, in the thread that has it: what is kept there is
                lost neither to a crash nor to an interrupt.

        Raises:
            BackendUnavailable: A backend refused, or stayed away too long.
            BudgetSpent: A limit was reached; the jobs not yet begun are not made.
            ValueError: The executor has other processes, and something cannot go there.
        """
        begin: Callable[[int], Future[Evaluation]]
        if self._in_this_process:
            begin = partial(submit_here, self._executor, partial(self._evaluate, jobs, keep))
        else:
            begin = self._elsewhere(jobs, keep)
        await self.scheduler.made(begin, len(jobs), note)

    @cached_property
    def _in_this_process(self) -> bool:
        own = self._executor is self.scheduler.threads
        return own or in_this_process(self._executor)

    def _evaluate(
        self, jobs: Sequence[Job], keep: Callable[[int, Evaluation], None], position: int
    ) -> Evaluation:
        job = jobs[position]
        evaluation = self._evaluator(job.program, job.example, self.ledger)
        keep(position, evaluation)
        return evaluation

    def _elsewhere(
        self, jobs: Sequence[Job], keep: Callable[[int, Evaluation], None]
    ) -> Callable[[int], Future[Evaluation]]:
        """Return what begins a job in another process."""
        pack(self._evaluator.metric.function, "metric")  # for the name in the error
        courier = Courier[Evaluation](self._executor, self._evaluator, self.ledger, self._name)

        def submit(position: int) -> Future[Evaluation]:
            job = jobs[position]
            return courier.submit(job.program, job.example, partial(keep, position))

        return submit


def run_program(program: dspy.Module, example: dspy.Example) -> tuple[Evaluation, DSPyTrace]:
    """Run a program on one example; the score of what it answers is not known yet.

    Returns:
        The result so far, and DSPy's own trace.

    Raises:
        LMError: The backend of the program's LM failed.
    """
    locator, trace = FailureLocator(), DSPyTrace()
    with dspy.context(trace=trace, callbacks=[*(dspy.settings.callbacks or []), locator]):
        try:
            prediction = program(**example.inputs())
        except Exception as error:  # user code may raise anything
            if is_backend_error(error):
                raise
            return _failed(program, error, name_calls(program, trace), locator), trace
    calls = name_calls(program, trace)
    return Evaluation(FAILURE_SCORE, Outcome.SCORED, prediction=prediction, trace=calls), trace


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
    return replace(answered, score=judged.score, feedback=judged.feedback, scores=judged.scores)


def feedback_on(
    metric: Metric,
    example: dspy.Example,
    judged: Evaluation,
    trace: DSPyTrace,
    predictor: str,
    call: Any,
    hide: Callable[[str], str] = str,
) -> str:
    """Ask a metric for feedback on a predictor's call; empty if it gives none, or raises.

    The example has its score; feedback that fails does not take it away.

    Raises:
        LMError: The backend of an LM inside the metric failed.
    """
    try:
        return metric.feedback(example, judged.prediction, judged.score, trace, predictor, [call])
    except Exception as error:  # user code may raise anything
        if is_backend_error(error):
            raise
        logger.warning(
            "metric %s raised when asked for feedback on the predictor %s: %s: %s",
            metric.name, predictor, type(error).__name__, hide(str(error)),
        )  # fmt: skip
        return ""


def _failed(
    program: dspy.Module,
    error: Exception,
    trace: tuple[PredictorCall, ...],
    locator: FailureLocator,
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
