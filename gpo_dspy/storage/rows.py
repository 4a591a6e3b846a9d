"""What goes into a storage and comes out of it: plain frozen values, no database.

Times are seconds since 1970 by the database's clock, durations seconds, costs US dollars, scores
in [0, 1]. Hashes are text that the caller makes; equal hashes stand for equal things.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.ledger import LMCall as LMCall
from gpo_dspy.ledger import Usage as Usage


class RunStatus(enum.Enum):
    """Where a run stands."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Owner:
    """One ``compile`` call that works on a run; :func:`gpo_dspy.storage.new_owner` makes it.

    Attributes:
        id: Unique to the call.
        host: The machine, and what tells its containers apart.
        pid: The process.
        began: When the process began, by the machine's own count, since a pid is used again.
    """

    id: str
    host: str
    pid: int
    began: float


@dataclass(frozen=True, slots=True)
class PredictorRow:
    """One predictor of a run's program.

    Attributes:
        name: Its name in the program.
        kind: Its class, such as "ChainOfThought".
        task: What it gets and gives, in words.
        model: The LM that answers it.
    """

    name: str
    kind: str
    task: str
    model: str


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is known of a run when it begins.

    Attributes:
        identity: Hash of all that decides how the run goes; the same again is the same run.
        study: The user's name for it.
        fingerprints: Hashes of the parts of ``identity``, by name.
        settings: The optimizer's arguments for people to read; must be JSON-ready.
        program: Class of the program.
        prompt_model: The model that writes the rewrites.
        predictors: The program's predictors, in order.
        plan: What the run plans to spend; must be JSON-ready.
        version: Of ``gpo_dspy``.
    """

    identity: str
    study: str | None
    fingerprints: dict[str, str]
    settings: dict[str, Any]
    program: str
    prompt_model: str
    predictors: tuple[PredictorRow, ...]
    plan: dict[str, Any]
    version: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """A stored run: what :class:`NewRun` says of it, and how far it is.

    Attributes:
        id: Its number in the storage; never used again.
        status: ``STOPPED`` also if the process that worked on it is dead.
        created: When it began.
        updated: When something was last stored.
        seconds: Wall time spent on it in all sessions.
        metric_calls: Metric calls it paid for.
        steps: Finished steps.
        best_score: Of its best program so far.
        result: The result as JSON text, once there was one.
    """

    id: int
    identity: str
    study: str | None
    status: RunStatus
    fingerprints: dict[str, str]
    settings: dict[str, Any]
    program: str
    prompt_model: str
    predictors: tuple[PredictorRow, ...]
    plan: dict[str, Any]
    version: str
    created: float
    updated: float
    seconds: float
    metric_calls: int
    steps: int
    best_score: float | None
    result: str | None


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """The result of one metric call.

    Attributes:
        key: Hash of the program's state, the example and the metric together.
        state: Hash of the program's state.
        example: Hash of the example.
        metric: Hash of the metric.
        score: What the metric gave.
        outcome: Name of the :class:`~gpo_dspy.evaluation.runner.Outcome`.
        feedback: The metric's feedback, or what went wrong.
        detail: Prediction and trace, as JSON text.
        usage: What the LM calls behind it cost.
        shared: Whether other runs may use it.
    """

    key: str
    state: str
    example: str
    metric: str
    score: float
    outcome: str
    feedback: str
    detail: str
    usage: Usage
    shared: bool


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """A stored result with what it was made of, for export.

    Attributes:
        stored: The result.
        paid: Whether this run made the metric call; else it took the result from another run.
        state: The program's state as JSON text, if it was stored.
        example: The example as JSON text, if it was stored.
    """

    stored: StoredEvaluation
    paid: bool
    state: str | None
    example: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the prompt model.

    Attributes:
        request: Hash of the request.
        occurrence: How often the run had asked the same before.
        text: The answer.
        fate: Name of the :class:`~gpo_dspy.state.Fate` if there was no text to use.
        usage: What it cost.
    """

    request: str
    occurrence: int
    text: str
    fate: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One instruction that a run tried.

    Attributes:
        predictor: Name of the predictor it was written for.
        text: The instruction.
        score: What is known of its quality.
        evaluations: Number of examples behind ``score``.
        step: The step that wrote it.
        memory_text: What the memory compares.
    """

    predictor: str
    text: str
    score: float
    evaluations: int
    step: int
    memory_text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What is stored in one transaction. Stored twice, it is there once.

    Attributes:
        evaluations: Results, and for each whether this run made the metric call.
        states: (hash, JSON text) of program states.
        examples: (hash, JSON text) of examples.
        answers: Of the prompt model.
        readings: (name, value) of clocks and meters.
        lm_calls: What single LM calls used.
        steps: (number, JSON text) of finished steps; the latest text counts.
        prompts: New ones are added; of known ones, score and evaluations are replaced.
        vectors: (embedder, text, vector [d]).
        seconds: Wall time of the run so far, if it is to be noted.
        best_score: Of the best program so far, likewise.
    """

    evaluations: tuple[tuple[StoredEvaluation, bool], ...] = ()
    states: tuple[tuple[str, str], ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    answers: tuple[Answer, ...] = ()
    readings: tuple[tuple[str, float], ...] = ()
    lm_calls: tuple[LMCall, ...] = ()
    steps: tuple[tuple[int, str], ...] = ()
    prompts: tuple[PromptRow, ...] = ()
    vectors: tuple[tuple[str, str, NDArray[np.float32]], ...] = ()
    seconds: float | None = None
    best_score: float | None = None


@dataclass(frozen=True, slots=True)
class Journal:
    """All that a run learned from outside, to hand it back when the run is executed again.

    Attributes:
        evaluations: By key, and whether this run made the metric call.
        answers: By request and occurrence.
        readings: By name.
    """

    evaluations: dict[str, tuple[StoredEvaluation, bool]] = field(default_factory=dict)
    answers: dict[tuple[str, int], Answer] = field(default_factory=dict)
    readings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acquired:
    """What became of the keys one asked for; each is in one of the three.

    Attributes:
        found: Results that are stored.
        granted: Keys to evaluate now; nobody else will, until they are stored or released.
        held: Keys that another live owner is evaluating right now.
    """

    found: dict[str, StoredEvaluation]
    granted: frozenset[str]
    held: frozenset[str]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A prompt of any run, with what it was written for.

    Attributes:
        id: The prompt's number in the storage, ascending with time.
        run: The run that tried it.
        study: The user's name for the run.
        program: Class of the run's program.
        predictor: Name of the predictor it was written for.
        kind: The predictor's class.
        task: What the predictor gets and gives, in words.
        model: The LM that answered.
        text: The instruction.
        score: What is known of its quality.
        evaluations: Number of examples behind ``score``.
        created: When it was stored.
    """

    id: int
    run: int
    study: str | None
    program: str
    predictor: str
    kind: str
    task: str
    model: str
    text: str
    score: float
    evaluations: int
    created: float
