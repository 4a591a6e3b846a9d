"""One call of ``compile``: puts the parts together, runs the loop, brings the result home."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import dspy

from gpo_dspy.budget import BudgetSpent, Meter
from gpo_dspy.callbacks import Callbacks
from gpo_dspy.data import Data, Split
from gpo_dspy.demo_search import DemoSearch
from gpo_dspy.errors import (
    BackendUnavailable,
    MetricError,
    PriceUnknown,
    ProgramError,
    RunEnded,
)
from gpo_dspy.evaluation.metric_calls import MetricCalls
from gpo_dspy.evaluation.pool import Pool
from gpo_dspy.evaluation.runner import Runner
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.evaluation.statistics import mean_estimate, paired_difference
from gpo_dspy.execution.executors import places
from gpo_dspy.journal import Journal
from gpo_dspy.ledger import Ledger, Usage
from gpo_dspy.loop import optimize
from gpo_dspy.meta_prompt import shorten
from gpo_dspy.plan import Plan
from gpo_dspy.preparing import (
    check_inputs,
    data_and_plan,
    prompt_model_for,
    secrets_of,
    start_state,
    with_requests,
)
from gpo_dspy.prices import expected_cost, unpriced_models
from gpo_dspy.program import with_state
from gpo_dspy.program_state import ProgramState
from gpo_dspy.prompt_model import PromptModel
from gpo_dspy.proposing import Proposer
from gpo_dspy.report.progress import Progress
from gpo_dspy.result import Claim, GPOResult
from gpo_dspy.rewriter import Rewriter
from gpo_dspy.search import Search
from gpo_dspy.state import RunState, StopReason
from gpo_dspy.trajectory import Trajectory

if TYPE_CHECKING:
    from gpo_dspy.optimizer import GPO
    from gpo_dspy.secrets import Secrets

logger = logging.getLogger(__name__)

DEFAULT_THREADS = 8

UNFINISHED = (StopReason.INTERRUPTED, StopReason.BACKEND, StopReason.ARGUMENT)
"""Reasons that leave a run to be carried on."""


class Run:
    """One optimisation of one program; made and used by :meth:`gpo_dspy.GPO.compile`."""

    def __init__(
        self,
        optimizer: GPO,
        student: dspy.Module,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None,
        testset: Sequence[dspy.Example] | None,
    ) -> None:
        self._student = student
        self._start = start_state(student)
        check_inputs(student, trainset)
        prompt_model = prompt_model_for(optimizer, student)

        def lay_out(split: Split | None) -> tuple[Data, Plan]:
            data, plan = data_and_plan(optimizer, self._start, trainset, valset, testset, split)
            plan = with_requests(plan, optimizer.settings, self._start, prompt_model)
            cost = expected_cost(student, data.examples, prompt_model, plan)
            if cost is not None and optimizer.limits.max_cost is not None:
                cost = min(cost, optimizer.limits.max_cost)
            return data, replace(plan, expected_cost=cost, limits=str(optimizer.limits))

        secrets = secrets_of(optimizer, student, prompt_model)
        self._hide = secrets.hide
        sets = {"trainset": trainset, "valset": valset or (), "testset": testset or ()}
        self._journal = Journal()
        try:
            if optimizer.storage is None:
                self._data, self._plan = lay_out(None)
            else:
                from gpo_dspy.journal.opening import open_journal  # SQLAlchemy: only with a storage

                self._journal, self._data, self._plan = open_journal(
                    optimizer, student, prompt_model, sets, lay_out, secrets
                )
        except RunEnded as error:
            self._hide_keys_in(error)
            raise
        max_cost = optimizer.limits.max_cost
        if max_cost is not None and (unpriced := unpriced_models(student, prompt_model)):
            logger.warning(
                "max_cost=%s: the price of %s is not known; unless its replies say what they cost, "
                "the run ends at the first of them (PriceUnknown says what to do).",
                max_cost, ", ".join(unpriced),
            )  # fmt: skip
        try:
            self._assemble(optimizer, prompt_model, secrets)
        except BaseException:
            self._journal.close(None, finished=False)
            raise

    def _assemble(self, optimizer: GPO, prompt_model: dspy.LM, secrets: Secrets) -> None:
        """Put the parts together."""
        student = self._student
        self._again = _again(optimizer)
        patience = replace(optimizer.patience, hide=secrets.hide, again=self._again)
        progress = [Progress()] if optimizer.verbose else []
        if progress and self._journal.notice:
            sys.stderr.write(f"GPO: {self._journal.notice}\n")
        self._callbacks = Callbacks([*progress, *optimizer.run_callbacks], secrets.hide)
        threads = optimizer.num_threads or dspy.settings.num_threads or DEFAULT_THREADS
        self._task_ledger = Ledger("task", self._journal.lm_call)
        self._prompt_ledger = Ledger("prompt", self._journal.lm_call)
        ledgers = (self._task_ledger, self._prompt_ledger)
        for ledger in ledgers:
            ledger.add(self._journal.usage_before.get(ledger.role, Usage()))
        self._meter = Meter(optimizer.limits, ledgers, self._journal)
        self._calls = MetricCalls(
            student,
            self._data.examples,
            Runner(
                optimizer.metric,
                optimizer.num_threads or places(optimizer.executor) or threads,
                patience,
                self._meter.gate,
                self._task_ledger,
                secrets.hide,
                optimizer.executor,
                optimizer.example_timeout,
            ),
            self._plan.max_metric_calls,
            self._journal,
            on_result=self._on_metric_call,
            objective=optimizer.settings.objective,
        )
        self._scheduler = self._calls.runner.scheduler
        self._board = Scoreboard(self._calls)
        asked = PromptModel(
            prompt_model,
            num_threads=threads,
            patience=patience,
            ledger=self._prompt_ledger,
            gate=self._gate,
            slots=threading.BoundedSemaphore(threads),
            journal=self._journal,
            hide=secrets.hide,
        )
        rewriter = Rewriter(asked, style=optimizer.style, on_excess=optimizer.on_excess)
        self._embedder = optimizer.embedder
        self._trajectories = {
            name: Trajectory(self._embedder) for name, _ in self._start.instructions
        }
        self._search = self._search_with(rewriter, optimizer)
        self._state = RunState(self._start, self._start, 0.0, (self._start,))

    def _search_with(self, rewriter: Rewriter, optimizer: GPO) -> Search:
        student, start, trajectories = self._student, self._start, self._trajectories
        board, data, plan, settings = self._board, self._data, self._plan, optimizer.settings
        pool = Pool.of(board, data, plan, settings)
        recall = self._recall if optimizer.memory or self._journal.prompts else None
        proposer = Proposer(
            student, start, data, board, pool, rewriter, trajectories, plan, settings, recall,
            self._scheduler,
        )  # fmt: skip
        demos = DemoSearch(student, data, board, pool, plan, settings)
        return Search(
            start, board, pool, proposer, demos, trajectories, plan, settings,
            self._meter, self._scheduler,
        )  # fmt: skip

    def compile(self) -> dspy.Module:
        """Run to the end and return the program with its result.

        Raises:
            RunEnded: With what was finished as ``program`` and ``result``.
        """
        if self._journal.finished is not None:
            return self._with_result(self._journal.finished)
        try:
            return self._compile()
        finally:  # a second Ctrl-C must not leave a run that nobody can carry on
            self._scheduler.close()
            self._journal.close(None, finished=False)

    def _compile(self) -> dspy.Module:
        self._callbacks.on_start(self._plan)
        claim = None
        try:
            # What does not work is to be known before a metric call is paid.
            self._embedder([text for _, text in self._start.instructions])
            self._state = self._scheduler.run(self._search.start())
            if self._journal.programs:
                known = [(self._start, self._journal.start), *self._journal.programs]
                self._state = self._scheduler.run(self._search.take_up(self._state, known))
            self._journal.step(self._state, self._trajectories)
            self._state, reason = optimize(self._search, self._state, self._on_step)
            claim = self._claim()
        except BudgetSpent as spent:
            reason = spent.reason
        except KeyboardInterrupt:
            carries_on = f" To carry on, make {self._again}." if self._again else ""
            logger.warning("Interrupted: the best program so far is returned.%s", carries_on)
            reason = StopReason.INTERRUPTED
        except RunEnded as error:
            backend = isinstance(error, BackendUnavailable)
            reason = StopReason.BACKEND if backend else StopReason.ARGUMENT
            error.program = self._finish(reason, None)
            error.result = error.program.detailed_results
            self._hide_keys_in(error)
            raise
        except BaseException as error:
            mistake = isinstance(error, (MetricError, PriceUnknown, ProgramError))
            self._journal.close(None, finished=False, failed=mistake)
            self._callbacks.on_error(error)
            raise
        return self._finish(reason, claim)

    def _hide_keys_in(self, error: RunEnded) -> None:
        """Take keys out of what an error says, and out of the causes that a traceback shows."""
        error.args = tuple(self._hide(str(said)) for said in error.args)
        cause: BaseException | None = error
        while cause is not None:
            if self._hide(str(cause)) != str(cause):
                error.__cause__ = None  # and no context: that is shown only without a `from`
                return
            cause = cause.__cause__ or cause.__context__

    def _gate(self) -> None:
        """Let the next request to the prompt model pass, or stop it."""
        self._scheduler.gate()
        self._meter.gate()

    def _on_metric_call(self) -> None:
        usage = self._task_ledger.usage + self._prompt_ledger.usage
        self._callbacks.on_metric_call(self._calls.count, usage)

    def _on_step(self, state: RunState) -> None:
        self._state = state
        self._journal.step(state, self._trajectories)
        self._callbacks.on_step(state)

    def _claim(self) -> Claim | None:
        """Score the student and the best program on the examples kept from the search."""
        holdout, best = self._data.holdout, self._state.best
        if not holdout:
            return None
        self._meter.share = 1.0
        ended: BudgetSpent | None = None
        try:
            pairs = ((state, i) for i in holdout for state in (self._start, best))
            self._scheduler.run(self._board.evaluate(pairs))
        except BudgetSpent as spent:
            ended = spent
        known = set(self._board.results(self._start)) & set(self._board.results(best))
        holdout = tuple(index for index in holdout if index in known)
        if ended:
            rests = "rests on fewer examples" if holdout else "is left out"
            logger.warning("The final claim %s: %s.", rests, ended)
        if not holdout:
            return None
        base, final = self._board.scores(self._start, holdout), self._board.scores(best, holdout)
        return Claim(mean_estimate(base), mean_estimate(final), paired_difference(base, final))

    def _finish(self, reason: StopReason, claim: Claim | None) -> dspy.Module:
        """Make the program to return, with the result attached, and tell the callbacks."""
        state = self._state
        rejected = claim is not None and claim.difference.value < 0
        returned = self._start if rejected else state.best
        means = self._search.pool.estimates(state.accepted, caution=0.0)
        named = self._search.pool.named_estimates(state.accepted)
        result = GPOResult(
            start=self._start.instructions,
            best=state.best.instructions,
            returned=returned.instructions,
            best_demos=state.best.demos,
            returned_demos=returned.demos,
            start_score=means[self._start],
            best_score=means[state.best],
            claim=claim,
            stop_reason=reason,
            plan=self._plan,
            metric_calls=self._calls.count + self._journal.unrecalled,
            reused=self._calls.reused,
            reasons={o.name: shorten(self._hide(t)) for o, t in self._calls.reasons().items()},
            outcomes={outcome.name: n for outcome, n in self._calls.outcomes.items()},
            fates=dict(
                Counter(
                    rewrite.fate.name
                    for record in state.records
                    for candidate in record.candidates
                    for rewrite in candidate.rewrites
                )
            ),
            task_usage=self._task_ledger.usage,
            prompt_usage=self._prompt_ledger.usage,
            seconds=self._meter.seconds,
            records=state.records,
            trajectories={name: tuple(t) for name, t in self._trajectories.items()},
            start_scores=named[self._start],
            best_scores=named[state.best],
            front=self._search.front(),
        )
        finished = reason not in UNFINISHED
        problem = self._journal.close(result, finished=finished)
        if problem is not None:
            logger.warning(problem)
            result = replace(result, storage_problem=problem)
        return self._with_result(result)

    def _with_result(self, result: GPOResult) -> dspy.Module:
        program = with_state(self._student, ProgramState(result.returned, result.returned_demos))
        program.detailed_results = result
        self._callbacks.on_end(result)
        return program

    def _recall(self, predictor: str, instruction: str) -> Sequence[tuple[str, str]]:
        """Return prompts of earlier runs for a predictor, with where they come from."""
        return self._journal.recollect(predictor, instruction, self._plan.candidates)


def _again(optimizer: GPO) -> str:
    """Return which call carries the run on; empty if none can."""
    if optimizer.storage is None:
        return ""
    return "the same compile call again" + ("" if optimizer.resume else " without resume=False")
