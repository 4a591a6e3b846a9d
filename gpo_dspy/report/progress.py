"""The plan, a live progress bar and the outcome, on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from gpo_dspy.callbacks import Callback
from gpo_dspy.ledger import Usage
from gpo_dspy.plan import Plan
from gpo_dspy.result import GPOResult
from gpo_dspy.state import RunState


class Progress(Callback):
    """Shows how a run goes: best score, metric calls, money.

    On a terminal the bar is live; elsewhere (a log file, CI) one line a step is written.

    Args:
        console: Where to write; default: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Bar(
            TextColumn("GPO"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("metric calls · best {task.fields[best]} · {task.fields[cost]} ·"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def on_start(self, plan: Plan) -> None:
        self._console.print(f"GPO plan: {plan}", highlight=False, soft_wrap=True)
        self._task = self._bar.add_task("", total=plan.max_metric_calls, best="–", cost="$0")
        self._bar.start()

    def on_metric_call(self, metric_calls: int, usage: Usage) -> None:
        self._bar.update(self._task, completed=metric_calls, cost=usage.dollars)

    def on_step(self, state: RunState) -> None:
        record = state.records[-1]
        best = f"{100 * state.best_score:.1f} %"
        self._bar.update(self._task, best=best)
        branched = state.accepted[-1] != state.best
        if record.accepted is None and self._console.is_terminal:
            return  # the bar shows it; a line is written for what is worth keeping
        what = "prompt" if record.predictors else "set of demos"
        verdict = f"no better {what}"
        if record.accepted is not None:
            verdict = f"better than an earlier {what}" if branched else f"a better {what}"
            if (record.candidates[record.accepted].gain or 0.0) <= 0.0:
                verdict = f"goes on with another {what}"  # the paper's rule: the best new one
        where = f" for {record.what}" if record.predictors not in ((), ("self",)) else ""
        words = f", up to {record.words_allowed} words changed" if record.predictors else ""
        self._console.print(
            f"step {record.step}: {verdict}{where}{words}; best {best} by estimate "
            f"after {record.metric_calls:,} calls",
            highlight=False,
            soft_wrap=True,
        )

    def on_end(self, result: GPOResult) -> None:
        self._bar.stop()
        self._console.print(f"GPO: {result}", highlight=False, soft_wrap=True)

    def on_error(self, error: BaseException) -> None:  # noqa: ARG002 - shown by whoever catches it
        self._bar.stop()
