"""The table and the plot of ``compare.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

Row = Mapping[str, Any]


REFERENCES = ("GPO", "GPO+demos")


def write_table(rows: Sequence[Row], path: Path) -> str:
    """Write the means and the paired differences to GPO as Markdown, and return it."""
    names = {row["optimizer"] for row in rows}
    table = "\n".join(_table(rows, name) for name in REFERENCES if name in names)
    path.write_text(table, "utf-8")
    return table


def _table(rows: Sequence[Row], mine_is: str) -> str:
    lines = [
        "| budget | optimizer | metric calls used | prompt model calls | thousand tokens, program "
        "| thousand tokens, prompt model | start | held-out score "
        f"| {mine_is} minus it, 95 % interval | tasks where {mine_is} is above / below |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for budget in sorted({row["budget"] for row in rows}):
        here = [row for row in rows if row["budget"] == budget]
        reference = {(r["task"], r["seed"]): r["final"] for r in here if r["optimizer"] == mine_is}
        for name in dict.fromkeys(row["optimizer"] for row in here):
            mine = [row for row in here if row["optimizer"] == name]
            lines.append(
                f"| {budget:,} | {name} | {fmean(r['calls'] for r in mine):,.0f} "
                f"| {fmean(r['prompt_model_calls'] for r in mine):,.0f} "
                f"| {fmean(r['program_tokens'] for r in mine) / 1000:,.0f} "
                f"| {fmean(r['prompt_model_tokens'] for r in mine) / 1000:,.0f} "
                f"| {100 * fmean(r['base'] for r in mine):.1f} "
                f"| {100 * fmean(r['final'] for r in mine):.1f} "
                f"| {_difference(mine, reference)} | {_tasks(mine, reference)} |"
            )
    return "\n".join(lines) + "\n"


def _difference(rows: Iterable[Row], reference: Mapping[tuple[str, int], float]) -> str:
    differences = _differences(rows, reference)
    if not any(differences):
        return ""
    if len(differences) == 1:
        return f"{100 * differences[0]:+.1f}"
    mean, half = _interval(differences)
    return f"{100 * mean:+.1f} [{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"


def _tasks(rows: Sequence[Row], reference: Mapping[tuple[str, int], float]) -> str:
    """Count the tasks on which the interval of the difference lies above 0, and below 0."""
    above = below = 0
    tasks = sorted({row["task"] for row in rows})
    for task in tasks:
        differences = _differences((row for row in rows if row["task"] == task), reference)
        if len(differences) > 1:
            mean, half = _interval(differences)
            above += mean - half > 0
            below += mean + half < 0
    return f"{above} / {below} of {len(tasks)}" if above or below else ""


def _differences(rows: Iterable[Row], reference: Mapping[tuple[str, int], float]) -> list[float]:
    pairs = ((reference.get((row["task"], row["seed"])), row["final"]) for row in rows)
    return [mine - other for mine, other in pairs if mine is not None]


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % t interval; the runs are the units."""
    from scipy.stats import t

    n = len(values)
    return fmean(values), float(t.ppf(0.975, n - 1)) * stdev(values) / n**0.5


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Plot the mean held-out score against the metric calls really used."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name in dict.fromkeys(row["optimizer"] for row in rows):
        points = sorted(_points([row for row in rows if row["optimizer"] == name]))
        calls, scores, errors = zip(*points, strict=True)
        style = {"linewidth": 2.5, "zorder": 3} if name == "GPO" else {"linewidth": 1.2}
        axes.errorbar(
            calls, scores, errors, marker="o", markersize=4, capsize=2, label=name, **style
        )
    axes.axhline(100 * fmean(r["base"] for r in rows), color="grey", ls=":", label="start prompt")
    axes.set(
        xscale="log",
        xlabel="metric calls used",
        ylabel="held-out score, % (mean, standard error)",
        title="Simulated LMs: mean over tasks and seeds",
    )
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _points(rows: Sequence[Row]) -> Iterable[tuple[float, float, float]]:
    for budget in {row["budget"] for row in rows}:
        here = [row for row in rows if row["budget"] == budget]
        scores = [100 * row["final"] for row in here]
        error = stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
        yield fmean(row["calls"] for row in here), fmean(scores), error
