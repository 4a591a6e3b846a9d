"""What a run found, what it cost, and what can honestly be claimed of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from gpo_dspy.errors import StorageError
from gpo_dspy.evaluation.metric import NamedScores
from gpo_dspy.evaluation.runner import Outcome
from gpo_dspy.evaluation.statistics import Estimate
from gpo_dspy.front import FrontMember
from gpo_dspy.ledger import Usage
from gpo_dspy.plan import Plan, counted
from gpo_dspy.program_state import Demos, Instructions, ProgramState
from gpo_dspy.state import Fate, ScoredPrompt, StepRecord, StopReason

LONGEST_REASON = 200
"""Characters of a failure's reason that are printed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Both programs on examples the search never saw.

    Attributes:
        base: Score of the student's own program.
        final: Score of the best program found.
        difference: Final minus base on the same examples, with its paired 95 % interval.
    """

    base: Estimate
    final: Estimate
    difference: Estimate

    @property
    def shown(self) -> bool:
        """Whether the gain is distinguishable from nothing: its interval is above 0."""
        return self.difference.low > 0

    def __str__(self) -> str:
        sentence = (
            f"{100 * self.base.value:.1f} % -> {100 * self.final.value:.1f} % on "
            f"{self.difference.n} examples the search never saw; gain "
            f"{100 * self.difference.value:+.1f} points, 95 % interval "
            f"[{100 * self.difference.low:+.1f}, {100 * self.difference.high:+.1f}]"
        )
        return sentence if self.shown else f"{sentence}: no gain could be shown"


@dataclass(frozen=True, slots=True)
class GPOResult:
    """The outcome of ``GPO.compile``, attached to the program as ``detailed_results``.

    Attributes:
        start: The student's instructions, (predictor name, text) pairs.
        best: The best instructions the search found.
        returned: The instructions of the returned program: ``best``, or ``start`` where the
            held-out examples speak against ``best``.
        best_demos: The demos of the best program, (predictor name, demos) pairs; a predictor that
            is not there has the student's own.
        returned_demos: Those of the returned program.
        start_score: Score in [0, 1] of ``start`` on the search's examples, estimated from those
            that each program was scored on, so that the two compare.
        best_score: The same of ``best``; the best of many noisy scores, so too high: quote
            ``claim`` instead.
        claim: Scores on examples the search never saw; None if there were none.
        stop_reason: Why the run ended, and the remedy.
        plan: What was planned.
        metric_calls: Metric calls paid for, in all sessions of the run.
        reused: Results that other runs in the storage had paid for.
        outcomes: How the metric calls ended, counted.
        fates: What became of the rewrites, counted.
        task_usage: LM calls, tokens and US dollars of the program.
        prompt_usage: The same of the prompt model, for rewrites and directions in words.
        seconds: Wall time.
        records: Every step.
        trajectories: Every scored prompt by predictor, in order of age.
        start_scores: The same of each named score of ``start``, where the metric gives several.
        best_scores: The same of ``best``.
        front: With ``objective="pareto"`` the programs that no other beats in all scores, the best
            in the first score first; ``front[0].program(student)`` makes one.
        storage_problem: What could not be stored, and why; None if all is well.
        reasons: The commonest reason of the metric calls that failed, by outcome.
    """

    start: Instructions
    best: Instructions
    returned: Instructions
    best_demos: Demos
    returned_demos: Demos
    start_score: float
    best_score: float
    claim: Claim | None
    stop_reason: StopReason
    plan: Plan
    metric_calls: int
    reused: int
    outcomes: dict[str, int]
    fates: dict[str, int]
    task_usage: Usage
    prompt_usage: Usage
    seconds: float
    records: tuple[StepRecord, ...] = field(repr=False)
    trajectories: dict[str, tuple[ScoredPrompt, ...]] = field(repr=False)
    storage_problem: str | None = None
    start_scores: NamedScores = ()
    best_scores: NamedScores = ()
    front: tuple[FrontMember, ...] = field(default=(), repr=False)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        """What program and prompt model used together."""
        return self.task_usage + self.prompt_usage

    @property
    def verdict(self) -> str:
        """What came of the run, in a sentence."""
        found = any(record.accepted is not None for record in self.records)
        if not self.metric_calls and not self.reused:
            return "nothing was measured"
        if self.best == self.start and not found:
            score = self.start_score if self.claim is None else self.claim.base.value
            where = "the search's own examples"
            if self.claim is not None:
                where = f"{self.claim.base.n} examples the search never saw"
            return (
                f"nothing better was found than your program, which has {percent(score)} on {where}"
            )
        if self.claim is not None:
            return str(self.claim)
        return (
            f"{percent(self.start_score)} -> {percent(self.best_score)} on the search's own "
            "examples (not measured on others, so no gain is claimed)"
        )

    @property
    def cost(self) -> float:
        """US dollars of all LM calls whose price is known."""
        return self.usage.cost

    @property
    def step_price(self) -> tuple[float, float]:
        """Metric calls and US dollars that one more step would have cost, by those so far."""
        calls = float(self.plan.least_step)
        if len(self.records) > 1:  # the first step's share cannot be told from what was before it
            first, last = self.records[0], self.records[-1]
            spent = last.metric_calls - first.metric_calls
            calls = spent / (len(self.records) - 1) or calls  # steps may have come to nothing
        return calls, calls * self.cost / max(self.metric_calls, 1)

    @property
    def unwritten_directions(self) -> dict[Fate, int]:
        """Why steps went on without a direction in words that was asked for, counted."""
        problems = (text.problem for record in self.records for text in record.texts)
        return dict(Counter(problem for problem in problems if problem))

    def front_rows(self) -> list[tuple[str, ...]]:
        """Return the front as rows of a table, the first one its head."""
        if not self.front:
            return []
        names = [name for name, _ in self.front[0].scores]
        rows = [("member", *names, "examples", "")]
        for number, member in enumerate(self.front):
            scores = (percent(score) for _, score in member.scores)
            rows.append((str(number), *scores, str(member.evaluations), self._remark(member)))
        return rows

    def _remark(self, member: FrontMember) -> str:
        known = {
            ProgramState(self.start): "start",
            ProgramState(self.best, self.best_demos): "best by the plain mean",
        }
        return known.get(member.state, "")

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_plain))
        return plain

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result as JSON; beside the target first, then moved, so never half a file.

        Args:
            path: The file; missing folders are made.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        beside.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False), "utf-8")
        beside.replace(target)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GPOResult:
        """Read a result that :meth:`save` wrote.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds something else, or another version's result of another form.
        """
        from gpo_dspy.storage.codec import result_from  # which knows this class

        content = Path(path).read_bytes()
        try:
            fields = json.loads(content.decode("utf-8"))
            if not isinstance(fields, dict):
                raise ValueError(f"a JSON {type(fields).__name__}")
            return result_from(json.dumps(fields))
        except (ValueError, StorageError) as error:
            raise ValueError(
                f"path={os.fspath(path)!r} holds no result that this version of gpo_dspy can read; "
                "give a file that GPOResult.save wrote (a program's own file is for its load)."
            ) from error

    def __str__(self) -> str:
        calls, dollars = self.step_price
        requests = counted(self.prompt_usage.lm_calls, "request")
        price = "" if self.usage.unpriced_calls or not dollars else f", ${dollars:.4f}"
        lines = [
            self.verdict,
            f"{counted(self.metric_calls, 'metric call')}, {requests} to the prompt model, "
            f"{self.usage.dollars}, {self.seconds:.1f} s",
            f"stopped: {self.stop_reason.value}; one more step: about "
            f"{counted(round(calls), 'metric call')}{price}",
        ]
        if self.best_scores:
            before = dict(self.start_scores)
            changes = (f"{n} {percent(before[n])} -> {percent(s)}" for n, s in self.best_scores)
            lines.append(f"scores in the search: {', '.join(changes)}")
        if self.front:
            lines.append("Pareto front:")
            lines.extend(f"  {row}" for row in _columns(self.front_rows()))
        if self.reused:
            lines.append(f"{self.reused:,} results of earlier runs were used again, for nothing")
        if self.storage_problem:
            lines.append(self.storage_problem)
        if self.returned_demos:
            shown = (f"{len(demos)} for {name}" for name, demos in self.returned_demos)
            lines.append(f"demos: {', '.join(shown)}")
        elif self.returned == self.start:
            lines.append("returned: the student's own instructions")
        failed = {Outcome[name].value: n for name, n in self.outcomes.items()}
        failed.pop(Outcome.SCORED.value, None)
        refused = {Fate[name].value: n for name, n in self.fates.items() if not Fate[name].usable}
        texts = {fate.value: n for fate, n in self.unwritten_directions.items()}
        for what, counts in (
            ("metric calls that failed", failed),
            ("rewrites not tried", refused),
            ("directions not put into words", texts),
        ):
            if counts:
                lines.append(f"{what}: " + "; ".join(f"{n:,} {why}" for why, n in counts.items()))
        for name, reason in self.reasons.items():
            said = " ".join(reason.split())[:LONGEST_REASON]
            lines.append(f"{Outcome[name].value}, most often: {said}")
        return "\n".join(lines)


def percent(score: float) -> str:
    """Write a score in [0, 1] as people read it."""
    return f"{100 * score:.1f} %"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"{type(value).__name__} is not JSON-serializable")
