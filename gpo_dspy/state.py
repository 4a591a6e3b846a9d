"""The frozen values a run is made of: a step takes a state and returns the next one.

Scores are means of the metric in [0, 1]; lengths are words (Unicode word segmentation);
steps are counted from 1, and step 0 is the student's own prompt.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from gpo_dspy.program_state import Demos, ProgramState


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """One instruction that was tried, with what is known of its quality.

    Attributes:
        text: The instruction.
        score: Mean metric value in [0, 1] as its examples let expect it: of a candidate see
            :class:`gpo_dspy.evaluation.race.Standing`, of what was accepted
            :meth:`gpo_dspy.evaluation.pool.Pool.estimates`.
        evaluations: Number of examples behind ``score``.
        step: Step that wrote it; 0 is the student's own instruction.
        origin: Where it was found, if it comes from the memory of earlier runs.
    """

    text: str
    score: float
    evaluations: int
    step: int
    origin: str = ""


class Fate(enum.Enum):
    """What became of a rewrite before it was scored."""

    KEPT = "within the word budget"
    SHORTENED = "sent back once, then within the word budget"
    CLIPPED = "over the word budget, clipped to it"
    OVER_BUDGET = "over the word budget, accepted as it was"
    RECALLED = "from the memory of earlier runs"
    DROPPED = "over the word budget, dropped"
    REPEATED = "repeats a prompt already tried in this place"
    EMPTY = "empty, or without a word"
    TOO_LONG = "much longer than it may be"
    MARKER = "contains a field marker of the chat format"
    NAME_LOST = (
        "lost a placeholder or a tool's name, or a field's, of the student's own instruction"
    )
    FORMAT_LOST = "lost a mark of the output format that the student's own instruction asks for"
    EXAMPLE_COPIED = "copies a passage of an example"
    ANSWER_GIVEN = "gives away the answer of an example"
    OTHER_LANGUAGE = "not in the language asked for, or of the student's own instruction"
    UNANSWERED = "the prompt model refused the request"
    UNPARSABLE = "the prompt model's reply could not be parsed"
    CUT_OFF = "the prompt model's reply ended at its limit of tokens (raise its max_tokens)"

    @property
    def usable(self) -> bool:
        """Whether the rewrite goes on to be scored."""
        return self in (
            Fate.KEPT, Fate.SHORTENED, Fate.CLIPPED, Fate.OVER_BUDGET, Fate.RECALLED
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the prompt model wrote, measured.

    Attributes:
        text: The instruction as it will be tried (clipped, if it was clipped).
        fate: What was done with it.
        words_allowed: The word budget it was asked to keep.
        words_proposed: Words changed in what the prompt model first wrote.
        words_changed: Words changed in ``text``.
        failures_shown: Examples (by index) whose failures its author was shown, or on which a
            recalled prompt is tried first.
        origin: Where it was found, if it comes from the memory of earlier runs.
        predictor: Whose instruction it is.
        asked_alone: Whether it was asked for by itself because a reply that was to hold it with
            others did not.
    """

    text: str
    fate: Fate
    words_allowed: int
    words_proposed: int = 0
    words_changed: int = 0
    failures_shown: tuple[int, ...] = ()
    origin: str = ""
    predictor: str = ""
    asked_alone: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change of the parent program, with its result.

    Attributes:
        rewrites: The new instructions, one per predictor; none if only demos are new.
        demos: The new demos.
        score: Like that of a :class:`ScoredPrompt`; None if it was not scored.
        evaluations: Number of examples behind ``score``.
        gain: By how much it was better than its parent on those examples, weighted by how often
            the parent is right and wrong; None if it was not scored.
    """

    rewrites: tuple[Rewrite, ...]
    demos: Demos = ()
    score: float | None = None
    evaluations: int = 0
    gain: float | None = None

    @property
    def rewrite(self) -> Rewrite:
        """The rewrite of a candidate that has one."""
        return self.rewrites[0]

    @property
    def usable(self) -> bool:
        """Whether anything of it can be scored."""
        return bool(self.demos) or any(rewrite.fate.usable for rewrite in self.rewrites)

    @property
    def recalled(self) -> bool:
        """Whether it comes from the memory of earlier runs."""
        return any(rewrite.origin for rewrite in self.rewrites)

    @property
    def failures_shown(self) -> tuple[int, ...]:
        """Examples (by index) whose failures the authors were shown."""
        shown = [i for r in self.rewrites if r.fate.usable for i in r.failures_shown]
        return tuple(dict.fromkeys(shown))

    def trial(self, failures: int) -> tuple[int, ...]:
        """Return the examples (by index) that it is tried on: a recalled one on all it came with.

        Args:
            failures: On how many of those that its authors were shown, otherwise.
        """
        return self.failures_shown if self.recalled else self.failures_shown[:failures]

    def of(self, parent: ProgramState) -> ProgramState:
        """Return the parent with what is usable of the change."""
        texts = {r.predictor: r.text for r in self.rewrites if r.fate.usable}
        return parent.rewritten(texts).with_demos(self.demos)


@dataclass(frozen=True, slots=True)
class DirectionText:
    """An update direction in the prompt model's words.

    Attributes:
        kind: "summary" of the trajectory, or "reflection" on failures of the current prompt.
        predictor: Whose instruction is to be rewritten.
        step: The step it was written in.
        text: The text; empty if there is none to use.
        problem: Why there is none: the step went on without it.
    """

    kind: str
    predictor: str
    step: int
    text: str = ""
    problem: Fate | None = None


@dataclass(frozen=True, slots=True)
class UpdateDirection:
    """What shows the prompt model where "up" is, for one predictor in one step.

    Attributes:
        current: The predictor's present prompt, with the score of the program it stands in.
        prompts: Earlier prompts in ascending order of score.
        texts: The direction in words.
    """

    current: ScoredPrompt
    prompts: tuple[ScoredPrompt, ...] = ()
    texts: tuple[DirectionText, ...] = ()

    def text(self, kind: str) -> str:
        """Return the text of a kind, empty if there is none."""
        return next((text.text for text in self.texts if text.kind == kind), "")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """All that one step did.

    Attributes:
        step: Its number, from 1.
        parent: The program that it started from.
        predictors: Names of the predictors that were rewritten; none in a step that drew demos.
        words_allowed: The word budget.
        retrieved: The update direction: the prompts shown, in ascending order of score.
        candidates: The changes with their results.
        accepted: Index of the candidate that was accepted, or None.
        score: Score in [0, 1] of the best program after the step, estimated from what all
            accepted programs were scored on.
        metric_calls: Metric calls of the run so far.
        texts: The update direction in words, if it was put into any.
    """

    step: int
    parent: ProgramState
    predictors: tuple[str, ...]
    words_allowed: int
    retrieved: tuple[ScoredPrompt, ...]
    candidates: tuple[Candidate, ...]
    accepted: int | None
    score: float
    metric_calls: int
    texts: tuple[DirectionText, ...] = ()

    @property
    def what(self) -> str:
        """What was changed: names of predictors, or "demos"."""
        return ", ".join(self.predictors) or "demos"


class StopReason(enum.Enum):
    """Why a run ended, with the remedy."""

    METRIC_CALLS = "the metric calls left do not pay for another step; raise max_metric_calls"
    COST = "the dollars for the search are spent; raise max_cost"
    TOKENS = "the tokens for the search are spent; raise max_tokens"
    SECONDS = "the time for the search is up; raise max_seconds"
    EPOCHS = "all epochs over the training set are done"
    PERFECT = "no failure is left on any example the search may use"
    STALLED = (
        "the prompt model wrote nothing in several steps in a row that is new and can be used (see "
        "what became of its rewrites); try another prompt_model or a higher temperature"
    )
    NO_PROGRESS = (
        "no candidate beat its parent in stop_after steps in a row; raise stop_after, or try a "
        "stronger prompt_model"
    )
    INTERRUPTED = "interrupted from the keyboard"
    BACKEND = "an LM backend was unavailable"
    ARGUMENT = "a function given as an argument failed"


@dataclass(frozen=True, slots=True)
class StepBegun:
    """A step that is under way.

    Attributes:
        parent: The program that it started from.
        predictors: Names of the predictors that it rewrites.
    """

    parent: ProgramState
    predictors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands between two steps; each step knows no more than that of its beginning.

    Attributes:
        current: The program that the next step starts from: its parent.
        best: The best program so far.
        best_score: Score in [0, 1] of ``best``, estimated as in the last record.
        accepted: Every program that was accepted, in order; the first is the student's own.
        calls_at_start: Metric calls made before the first step.
        records: What the steps so far did.
        under_way: The steps that were begun and have no record yet, in order.
    """

    current: ProgramState
    best: ProgramState
    best_score: float
    accepted: tuple[ProgramState, ...] = field(repr=False)
    calls_at_start: int = 0
    records: tuple[StepRecord, ...] = field(default=(), repr=False)
    under_way: tuple[StepBegun, ...] = field(default=(), repr=False)

    @property
    def step(self) -> int:
        """Number of finished steps."""
        return len(self.records)

    @property
    def next_step(self) -> int:
        """Number of the next step to begin, from 1."""
        return len(self.records) + len(self.under_way) + 1

    @property
    def rewritten(self) -> frozenset[str]:
        """Names of the predictors that were rewritten, or are being."""
        return frozenset(name for step in self._begun for name in step.predictors)

    @property
    def parents(self) -> list[ProgramState]:
        """The program that each step with rewrites started from, those under way included."""
        return [step.parent for step in self._begun if step.predictors]

    @property
    def _begun(self) -> tuple[StepRecord | StepBegun, ...]:
        return (*self.records, *self.under_way)
