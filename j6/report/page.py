"""The attribution report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from j6.report.summary import findings
from j6.report.text import report_text
from j6.tuner.history import History, comparable

WIDTH, HEIGHT, MARGIN = 640, 220, 36
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>J6 attribution report</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: auto; padding: 1rem }}
svg {{ width: 100%; height: auto }}
pre {{ overflow-x: auto }}
</style>
</head>
<body>
<h1>J6 attribution report</h1>
<ul>
{findings}
</ul>
{charts}
<pre>{table}</pre>
</body>
</html>
"""


def report_html(history: History) -> str:
    """Write the report as a page with charts.

    Args:
        history: The run.

    Returns:
        The page.

    Raises:
        ValueError: If the run took no step.
    """
    sentences = findings(history)
    shares = {
        f"{group} · {objective}": [(step.step, step.shares[o][p]) for step in history.steps]
        for o, objective in enumerate(history.objectives)
        for p, group in enumerate(history.groups)
    }
    over = (history.steps[0].step, history.steps[-1].step)
    charts = [_chart("Share of each group in each objective's gradient", shares, over, (0, 1))]
    if len(history.objectives) > 1:
        agreement = {
            group: [(step.step, step.agreement[p]) for step in comparable(history.steps)]
            for p, group in enumerate(history.groups)
        }
        title = f"Cosine of {history.objectives[0]} and {history.objectives[1]}; below 0: conflict"
        charts.append(_chart(title, agreement, over, (-1, 1)))
    losses = {
        objective: [(step.step, step.losses[o]) for step in history.steps]
        for o, objective in enumerate(history.objectives)
    }
    low = min(loss for step in history.steps for loss in step.losses)
    high = max(loss for step in history.steps for loss in step.losses)
    charts.append(_chart("Objectives on the training batches", losses, over, (min(low, 0), high)))
    return PAGE.format(
        findings="\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences),
        charts="\n".join(charts),
        table=html.escape(report_text(history).partition("\n\n")[2]),
    )


def _chart(
    title: str,
    lines: Mapping[str, Sequence[tuple[int, float]]],
    steps: tuple[int, int],
    values: tuple[float, float],
) -> str:
    """A line chart of (step, value) as inline SVG; both axes from the first to the second."""
    (first, last), (low, high) = steps, values
    span = (high - low) or 1.0

    def x(step: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (step - first) / max(last - first, 1)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / span

    parts = [f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(v):.1f}" y2="{y(v):.1f}" '
             f'stroke="#ccc"/><text x="2" y="{y(v) + 4:.1f}" font-size="11">{v:.2g}</text>'
             for v in (low, low + span / 2, low + span)]  # fmt: skip
    for step in sorted({first, (first + last) // 2, last}):
        label = f"step {step}" if step == first else str(step)
        parts.append(
            f'<text x="{x(step):.1f}" y="{HEIGHT - MARGIN + 14}" font-size="11" '
            f'text-anchor="middle">{label}</text>'
        )
    for i, (name, points) in enumerate(lines.items()):
        drawn = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        colour = COLOURS[i % len(COLOURS)]
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}"/>')
        place = MARGIN + i * (WIDTH - 2 * MARGIN) / len(lines)
        label = html.escape(name)
        parts.append(
            f'<text x="{place:.0f}" y="{HEIGHT - 8}" font-size="12" fill="{colour}">{label}</text>'
        )
    return (
        f'<h2>{html.escape(title)}</h2>\n<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )
