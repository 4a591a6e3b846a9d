"""A result for the eye: both prompts, what changed, and what can be claimed."""

from __future__ import annotations

from itertools import takewhile

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gpo_dspy.edits import word_diff
from gpo_dspy.evaluation.statistics import Estimate
from gpo_dspy.meta_prompt import show_fields
from gpo_dspy.result import GPOResult, percent
from gpo_dspy.state import DirectionText

STYLES = {"insert": "green", "delete": "red strike", "equal": ""}


def show_result(result: GPOResult, console: Console | None = None) -> None:
    """Print the start and the best prompts with their scores, a word diff of the two, and demos.

    Args:
        result: ``compiled.detailed_results``.
        console: Where to; default: standard output.
    """
    console = console or Console()
    best, demos = dict(result.best), dict(result.best_demos)
    for name, start in result.start:
        title = "" if len(result.start) == 1 else f" of {name}"
        console.print(Panel(Text(start), title=f"start prompt{title}", title_align="left"))
        console.print(Panel(Text(best[name]), title=f"best prompt{title}", title_align="left"))
        console.print(Panel(diff_text(start, best[name]), title="word diff", title_align="left"))
        for demo in demos.get(name, ()):
            source = "a run that went right" if demo.bootstrapped else "the training set"
            lines = show_fields("", demo.values())
            shown = Text("\n".join(line.strip() for line in lines))
            console.print(Panel(shown, title=f"demo{title}, from {source}", title_align="left"))
    for text in _last_directions(result):
        about = "" if len(result.start) == 1 else f" for {text.predictor}"
        title = f"last {text.kind}{about}, from step {text.step}"
        console.print(Panel(Text(text.text), title=title, title_align="left"))
    console.print(_scores(result))
    if result.front:
        console.print(_front(result))
    if result.claim is not None:
        console.print(f"[bold]{result.verdict}[/bold]", highlight=False)
    if (result.returned, result.returned_demos) != (result.best, result.best_demos):
        console.print("The student's own prompt is returned: it did better on the unseen examples.")
    console.print(
        f"{result.metric_calls:,} metric calls; {result.task_usage.lm_calls:,} LM calls of the "
        f"program, {result.prompt_usage.lm_calls:,} of the prompt model; {result.usage.dollars}; "
        f"{result.seconds:.1f} s",
        highlight=False,
    )


def diff_text(before: str, after: str) -> Text:
    """Return ``after`` with its new words green, and the words it lost struck out in red."""
    text = Text()
    for hunk in word_diff(before, after):
        if hunk.kind == "equal":
            text.append(hunk.after)
            continue
        same = _shared(hunk.before, hunk.after)
        lost, new = hunk.before[same:], hunk.after[same:]
        text.append(hunk.before[:same])
        text.append(lost, STYLES["delete"])
        if lost and new and not lost[-1].isspace():
            text.append(" ")
        text.append(new, STYLES["insert"])
    return text


def _shared(before: str, after: str) -> int:
    """Return how many characters both begin with, in whole words.

    Punctuation goes with its word in a diff, so that a word may stand on both sides of a hunk.
    """
    pairs = zip(before, after, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    while any(0 < same < len(t) and t[same - 1 : same + 1].isalnum() for t in (before, after)):
        same -= 1
    return same


def _last_directions(result: GPOResult) -> list[DirectionText]:
    """Return the last update direction in words, of each kind and predictor."""
    texts = (text for record in result.records for text in record.texts if not text.problem)
    return list({(text.predictor, text.kind): text for text in texts}.values())


def _scores(result: GPOResult) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "start prompt", "best prompt"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(
        "score in the search (too high: the best of many)",
        percent(result.start_score),
        percent(result.best_score),
    )
    best = dict(result.best_scores)
    for name, score in result.start_scores:
        table.add_row(f"of that, {name}", percent(score), percent(best[name]))
    if result.claim is not None:
        table.add_row(
            f"score on {result.claim.base.n} examples the search never saw, 95 % interval",
            _interval(result.claim.base),
            _interval(result.claim.final),
        )
    return table


def _front(result: GPOResult) -> Table:
    """Show the programs that no other beats in all scores."""
    head, *rows = result.front_rows()
    table = Table(title="Pareto front", title_justify="left", box=None, pad_edge=False)
    for column in head:
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _interval(estimate: Estimate) -> str:
    return f"{percent(estimate.value)}  ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"
