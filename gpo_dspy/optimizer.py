"""GPO as a DSPy teleprompter: the arguments and ``compile``; the algorithm is in ``loop.py``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Literal

import dspy
from dspy.teleprompt.teleprompt import Teleprompter

from gpo_dspy.acceptance import Acceptance
from gpo_dspy.arguments import check_arguments, check_steps_at_once
from gpo_dspy.backend_errors import Patience
from gpo_dspy.budget import Limits
from gpo_dspy.callbacks import Callback
from gpo_dspy.direction import Direction, Relevance, as_direction
from gpo_dspy.evaluation.metric import Metric
from gpo_dspy.guards.languages import language_name
from gpo_dspy.objective import Objective
from gpo_dspy.plan import Auto, EvaluationMode
from gpo_dspy.rewriter import OnExcess, Style
from gpo_dspy.schedule import Cosine, Schedule, as_schedule
from gpo_dspy.secrets import without_password
from gpo_dspy.selector import as_selector
from gpo_dspy.settings import MemoryScope, Settings

Resume = Literal[True, False, "force"]

logger = logging.getLogger(__name__)

MOST_WORDS, LEAST_WORDS = 50, 25
"""Word budget of the first and the last step of a schedule given by name. The paper ends at 10,
which over short runs leaves too little for a useful sentence."""


class GPO(Teleprompter):  # type: ignore[misc]  # DSPy has no types
    """Gradient-inspired Prompt Optimizer (arXiv 2402.17564) for DSPy programs.

    Example:
        >>> optimizer = GPO(metric=metric, prompt_model=dspy.LM("anthropic/claude-sonnet-4-5"))
        >>> compiled = optimizer.compile(program, trainset=trainset, valset=valset)
        >>> print(compiled.detailed_results)

    Args:
        metric: ``(example, prediction, trace=None)`` to a bool, a number in [0, 1], several by
            name (``{"accuracy": 1.0, "brevity": 0.4}``), or ``dspy.Prediction(score=, scores=,
            feedback=)`` with one of the two scores or both; metrics written for GEPA fit.
        prompt_model: The LM that writes the rewrites; default: the configured LM.
        auto: Budget by name: "light" (400 metric calls for one predictor; each further predictor
            adds half as many), "medium" (1,000) or "heavy" (3,000). Default: "light", unless
            ``max_metric_calls`` or ``epochs`` is given.
        max_metric_calls: Budget as a number of metric calls, never exceeded.
        max_cost: Limit in US dollars, program and prompt model together. Once it is reached no
            call begins; of several budgets the first one met ends the run. With a limit alone,
            metric calls are those of ``auto="heavy"`` at most.
        max_tokens: Limit in tokens read and written, likewise.
        max_seconds: Limit in seconds of wall time, likewise.
        epochs: Ends the run after so many passes over the training set in batches of
            ``batch_size``, one batch a step.
        stop_after: Ends the run after so many steps in a row in which no candidate beat its parent;
            default: none do, and the budget is used.
        candidates_per_step: Rewrites a step. More keep more threads busy and take fewer rounds, and
            learn less from each metric call. Default: 8, and one more for every 250 metric calls,
            up to 16; 4 where each has a request of its own; under other limits, which may end the
            run sooner, as in ``auto="light"``.
        steps_at_once: Steps under way at the same time at most: one that begins beside others does
            not know what they find, so there are the more the longer none has found anything.
            Keeps many threads busy, and a slow prompt model. Default: 1 up to 700 metric calls,
            one more for every 100 beyond, up to 12; 1 with ``evaluation="full"`` and with
            ``direction="summary"``, and as in ``auto="light"`` under other limits.
        rewrites_per_request: Rewrites that one request asks the prompt model for; several share
            what a request shows, and so cost less. Default: all of a step, as far as replies do
            not get too long. A prompt model that does not write several is asked for one each.
        direction: Which 4 earlier prompts are shown: "relevance", "recency", "importance",
            "relevance_and_score", "none", or a ``Direction`` such as ``Relevance(k=5)``. Or what
            the prompt model writes instead, asked once more a step: "summary" of the trajectory,
            carried on from step to step, or "reflection" on failures of the current prompt; see
            :mod:`gpo_dspy.direction`.
        schedule: Words a rewrite may change: "cosine", "linear" (both from 50 to 25 words),
            "constant", "warm_restarts", "plateau", a ``Schedule`` such as ``Cosine(80, 20)``, or a
            function ``step, steps, scores -> words``.
        rewrite: "generate" writes a prompt anew, "edit" revises the current one.
        on_excess: A rewrite over the word budget is sent back once; still over, it is clipped
            ("clip") or dropped ("drop"). "accept" takes every length, as the paper does.
        failures: Failures of the current prompt shown with each request, of which one to
            three are tried again with each rewrite; 0 shows none, and rewrites begin on shared
            examples.
        language: Language of the rewrites, by English name ("German") or ISO 639-1 code ("de");
            default: that of each predictor's own instruction. A rewrite that is clearly in another
            one is refused.
        allow_examples: Whether rewrites may copy passages of examples, or give their answers.
        task_examples: Training examples shown with each request; 0 shows none.
        batch_size: Training examples of a step that ``task_examples`` are drawn from.
        max_bootstrapped_demos: Few-shot demos of a predictor that are made of runs on training
            examples that went right; 0 makes none.
        max_labeled_demos: Few-shot demos of a predictor to which training examples fill up; 0
            adds none. With both 0, demos that the student has stay as they are.
        selector: Which predictors of a program with several a candidate rewrites: "effect" takes
            those whose rewriting brought most so far, up to 3 together; "round_robin" each in
            turn; "all" all together; or a function ``state, failing -> names``, see
            :class:`gpo_dspy.selector.Selector`.
        objective: What counts of several named scores. None is the metric's own ``score``, or their
            plain mean where it gives none; ``{"accuracy": 0.7, "brevity": 0.3}`` is a weighted
            mean, of which only the ratios count, and without the scores that are not named.
            "pareto" draws weights for each step and keeps every program that none other beats in
            all scores, as ``detailed_results.front``; the best of all and the final claim are by
            the plain mean.
        evaluation: "race" tries candidates on failures they were written to mend and lets the
            best meet the current prompt on training and validation examples; "full" scores every
            candidate on the whole validation set.
        acceptance: "improvement" moves on when a candidate beats the current prompt; "best_new"
            always moves to the best candidate that was not current before (the paper's rule).
        holdout: Whether validation examples are kept from the search for the final claim, where
            ``compile`` gets no ``testset``.
        embedder: Texts to vectors for the retrieval: "auto", a Sentence-Transformers or LiteLLM
            model name, a ``dspy.Embedder``, or a callable.
        storage: Where the run is written as it goes: "sqlite:///runs.db" or
            "postgresql+psycopg://user@host/database". After a crash the same ``compile`` call
            carries on where it was.
        study: A name for the run. Without one, a run is known by its data, metric, program and
            settings.
        resume: True carries on an unfinished run and returns the result of a finished one; a
            ``study`` whose data, metric, program or settings changed is refused. "force" carries
            on with what it found and paid for all the same, a larger budget for instance; False
            begins a new run.
        memory: Whether a run starts from the prompts of earlier runs on tasks like it, tried
            again before they count: True (the default with a storage), False, or only from
            predictors of the "same_kind" or for the "same_model".
        num_threads: Metric calls at the same time, and as many requests to the prompt model;
            default: DSPy's setting.
        executor: A ``concurrent.futures.Executor`` that makes the metric calls instead of our
            threads, at most ``num_threads`` at a time (default: as many as it has workers); the
            prompt model's requests stay in threads of ours. It is never shut down. To other
            processes, program, metric, examples and DSPy's settings are pickled. What is global
            in a process, such as DSPy's cache, is for the executor's ``initializer`` to set up.
        example_timeout: Seconds that a metric call (program and metric) may take; a longer one
            gets the failure score and is not made again. Waits for a backend that is away do not
            count.
        callbacks: Told of the plan, each metric call, each step and the end.
        seed: Decides all that is random here.
        verbose: Shows the plan, a progress bar and the outcome on standard error.

    Raises:
        ValueError: An argument has a value that is not allowed, or two contradict each other.
        TypeError: An argument is unknown, or ``direction``, ``schedule``, ``selector`` or
            ``embedder`` is of a type that cannot be used.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        *,
        prompt_model: dspy.LM | None = None,
        auto: Auto | None = None,
        max_metric_calls: int | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        epochs: int | None = None,
        stop_after: int | None = None,
        candidates_per_step: int | None = None,
        steps_at_once: int | None = None,
        rewrites_per_request: int | None = None,
        direction: str | Direction = "relevance",
        schedule: str | Schedule | Callable[[int, int, Sequence[float]], int] = "cosine",
        rewrite: Style = "generate",
        on_excess: OnExcess = "clip",
        failures: int = 12,
        language: str | None = None,
        allow_examples: bool = False,
        task_examples: int = 2,
        batch_size: int = 8,
        selector: str | Callable[..., Any] = "effect",
        max_bootstrapped_demos: int = 0,
        max_labeled_demos: int = 0,
        objective: Mapping[str, float] | Literal["pareto"] | None = None,
        evaluation: EvaluationMode = "race",
        acceptance: Acceptance = "improvement",
        holdout: bool = True,
        embedder: Any = "auto",
        storage: str | None = None,
        study: str | None = None,
        resume: Resume = True,
        memory: MemoryScope | None = None,
        num_threads: int | None = None,
        executor: Executor | None = None,
        example_timeout: float | None = None,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        self._arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        check_arguments(self._arguments)
        self.metric = Metric(metric)
        self.prompt_model = prompt_model
        self.auto = auto
        self.max_metric_calls = max_metric_calls
        self.limits = Limits(max_cost, max_tokens, max_seconds)
        self.epochs = epochs
        self.style = rewrite
        self.on_excess = on_excess
        self.holdout = holdout
        from gpo_dspy.embedding import resolve_embedder  # NumPy: not before it is needed

        self.embedder = resolve_embedder(embedder)
        self.storage = storage
        self.study = study
        self.resume = resume
        self.memory: MemoryScope = storage is not None if memory is None else memory
        self.num_threads = num_threads
        self.executor = executor
        self.example_timeout = example_timeout
        self.run_callbacks = tuple(callbacks)  # `callbacks` is what DSPy looks for on itself
        self.verbose = verbose
        self.patience = Patience()
        self.storage_patience = 30.0  # seconds that a lock or a lost connection is waited for
        self.settings = Settings(
            direction=as_direction(direction),
            schedule=as_schedule(schedule, MOST_WORDS, LEAST_WORDS),
            evaluation=evaluation,
            acceptance=acceptance,
            candidates_per_step=candidates_per_step,
            rewrites_per_request=rewrites_per_request,
            stop_after=stop_after,
            steps_at_once=steps_at_once,
            failures=failures,
            task_examples=task_examples,
            batch_size=batch_size,
            seed=seed,
            selector=as_selector(selector, seed),
            max_bootstrapped_demos=max_bootstrapped_demos,
            max_labeled_demos=max_labeled_demos,
            language=None if language is None else language_name(language),
            allow_examples=allow_examples,
            objective=Objective.of(objective),
        )
        check_steps_at_once(self.settings)

    @classmethod
    def paper(
        cls, metric: Callable[..., Any], *, prompt_model: dspy.LM | None = None, **overrides: Any
    ) -> GPO:
        """Return the published setting: 3 epochs of batches of 8, 8 candidates a step.

        All candidates are scored on the whole validation set; the three earlier prompts most
        relevant to the current one are shown, no failures; the word budget falls by a cosine
        from 50 to 10 words and is requested, not enforced; the next prompt is the best candidate
        that was not current before. Nothing is kept from the search, so nothing is claimed. A
        full score on the whole validation set ends the run early: nothing is left to gain.

        Args:
            metric: See :class:`GPO`.
            prompt_model: See :class:`GPO`.
            **overrides: Any other argument of :class:`GPO`.
        """
        published: dict[str, Any] = {
            "epochs": 3,
            "batch_size": 8,
            "candidates_per_step": 8,
            "rewrites_per_request": 1,
            "direction": Relevance(k=3),
            "schedule": Cosine(50, 10),
            "rewrite": "generate",
            "on_excess": "accept",
            "failures": 0,
            "selector": "round_robin",
            "task_examples": 3,
            "evaluation": "full",
            "acceptance": "best_new",
            "holdout": False,
            "memory": False,
        }
        return cls(metric, prompt_model=prompt_model, **(published | overrides))

    def get_params(self) -> dict[str, Any]:
        """Return the arguments by name, as they were given; passwords are left out.

        MLflow logs them.
        """
        return {**self._arguments, "storage": without_password(self.storage)}

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example] | None = None,
        testset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """Return a copy of a program with better instructions; the student stays as it is.

        Args:
            student: A DSPy module with at least one predictor.
            trainset: Examples that may be shown to the prompt model.
            teacher: Part of DSPy's interface; GPO needs none.
            valset: Examples to score on; without it, half of ``trainset`` is taken (seeded).
            testset: Examples for the final claim alone; without it, part of ``valset`` is kept.

        Returns:
            The program, its :class:`~gpo_dspy.result.GPOResult` as ``detailed_results``.

        Raises:
            ValueError: An argument cannot be used; no call was made.
            ProgramError: The program has nothing to optimise, or fails on every example.
            MetricError: The metric's value is not a score in [0, 1].
            StorageError: The storage cannot be used; no call was made.
            ResumeRefused: The ``study`` differs from this call, or has spent what this one allows;
                no call was made.
            RunBusy: Another compile call is working on the same run.
            BackendUnavailable: An LM refused, or stayed away; ``error.result`` holds the result
                so far and ``error.program`` the best program.
            ArgumentFailed: A function that was given, or the embedder, raised; likewise.
        """
        if teacher is not None:
            logger.warning("teacher is not used: GPO learns from scores and failures alone.")
        from gpo_dspy.run import Run  # rich, FAISS: not before there is something to run

        return Run(self, student, trainset, valset, testset).compile()
