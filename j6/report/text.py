"""The attribution report as plain text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from j6.metrics import Metrics
from j6.report.summary import findings, phases
from j6.tuner.history import History
from j6.tuner.stopping import WINDOW


def report_text(history: History) -> str:
    """Say who drives what, where the objectives conflict, and what was gained.

    Args:
        history: The run.

    Returns:
        The report, several lines.

    Raises:
        ValueError: If the run took no step.
    """
    thirds = phases(history)
    head = ["", *(phase.name for phase in thirds)]
    rows: list[Sequence[str]] = [
        head,
        ["steps", *(f"{phase.first_step}-{phase.last_step}" for phase in thirds)],
    ]
    for o, objective in enumerate(history.objectives):
        rows.append([f"{objective}, loss", *(f"{phase.losses[o]:.3f}" for phase in thirds)])
        for p, group in enumerate(history.groups):
            values = (f"{phase.shares[o][p]:.0%}" for phase in thirds)
            rows.append([f"{objective}, from {group}", *values])
    if len(history.objectives) > 1:
        for p, group in enumerate(history.groups):
            values = (f"{phase.agreement[p]:+.2f}" for phase in thirds)
            rows.append([f"agreement in {group}", *values])
    for i, name in enumerate(history.weight_names):
        rows.append([f"weight {name}", *(f"{phase.weights[i]:.2f}" for phase in thirds)])
    lines = [*findings(history), "", *_table(rows)]
    if history.untuned is not None and history.evaluations:
        best = min(history.evaluations, key=lambda look: look.score)
        lines += ["", *metrics_table({"untuned": history.untuned, "tuned": best.metrics})]
    return "\n".join(lines)


def losses_table(history: History) -> list[str]:
    """Mean losses on the batches of the first and of the last steps.

    Args:
        history: The run.

    Returns:
        Lines; none for a run without steps.
    """
    steps = history.steps
    if not steps:
        return []
    size = min(WINDOW, max(len(steps) // 2, 1))
    ends = [steps[:size], steps[-size:]] if len(steps) > 1 else [steps]
    rows: list[Sequence[str]] = [
        ["mean loss", *(f"steps {end[0].step}-{end[-1].step}" for end in ends)]
    ]
    for o, objective in enumerate(history.objectives):
        means = (statistics.fmean(step.losses[o] for step in end) for end in ends)
        rows.append([objective, *(f"{mean:.3f}" for mean in means)])
    return _table(rows)


def metrics_table(metrics: dict[str, Metrics]) -> list[str]:
    """Metrics side by side.

    Args:
        metrics: Metrics by name of the column.

    Returns:
        Lines.
    """
    names = ("accuracy", "nll", "entropy", "brier", "ece", "confident_wrong")
    rows: list[Sequence[str]] = [["", *metrics]]
    rows += [[name, *(f"{getattr(m, name):.3f}" for m in metrics.values())] for name in names]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    first = max(len(row[0]) for row in rows)
    others = max(len(cell) for row in rows for cell in row[1:]) + 2
    return [
        (f"{row[0]:{first}}" + "".join(f"{cell:>{others}}" for cell in row[1:])).rstrip()
        for row in rows
    ]
