"""Drawings of a run: who drives what over time, where the objectives conflict, and the gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from j6.tuner.history import History, comparable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_history(history: History) -> Figure:
    """Draw attribution over time, the conflict map and the accuracy/confidence curve.

    Args:
        history: The run.

    Returns:
        A figure with three panels; nothing is shown or saved.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "plotting needs matplotlib, which is not installed: pip install matplotlib"
        raise ImportError(msg) from error
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    attribution, conflict, curve = figure.subplots(1, 3)
    _attribution(attribution, history)
    _conflict(conflict, history)
    _curve(curve, history)
    return figure


def _attribution(axes: Axes, history: History) -> None:
    axes.set(title="Which group drives which objective", xlabel="step", ylabel="share")
    axes.set_ylim(0, 1)
    steps = [record.step for record in history.steps]
    for o, objective in enumerate(history.objectives):
        for p, group in enumerate(history.groups):
            shares = [record.shares[o][p] for record in history.steps]
            style = "-" if o == 0 else "--"
            axes.plot(steps, shares, style, color=f"C{p}", label=f"{group} · {objective}")
    if steps:
        axes.legend(fontsize="small")


def _conflict(axes: Axes, history: History) -> None:
    axes.set(title="Conflict (red) and synergy (blue)", xlabel="step")
    axes.set_yticks(range(len(history.groups)), history.groups)
    if len(history.objectives) < 2 or not history.steps:
        axes.text(0.5, 0.5, "one objective", ha="center", transform=axes.transAxes)
        return
    records = comparable(history.steps)
    rows = list(zip(*(record.agreement for record in records), strict=True))
    # Each column reaches to the next step that is compared, however far that is.
    across = [*(record.step - 0.5 for record in records), history.steps[-1].step + 0.5]
    down = [i - 0.5 for i in range(len(rows) + 1)]
    limits: dict[str, Any] = {"vmin": -1, "vmax": 1, "cmap": "RdBu", "rasterized": True}
    image = axes.pcolormesh(across, down, rows, **limits)
    axes.invert_yaxis()
    label = f"cosine of {history.objectives[0]} and {history.objectives[1]}"
    axes.figure.colorbar(image, ax=axes, label=label)


def _curve(axes: Axes, history: History) -> None:
    axes.set(title="Accuracy and confidence", xlabel="entropy (nats per token)", ylabel="accuracy")
    looks = history.evaluations
    if not looks:
        axes.text(0.5, 0.5, "no validation set", ha="center", transform=axes.transAxes)
        return
    entropy = [look.metrics.entropy for look in looks]
    accuracy = [look.metrics.accuracy for look in looks]
    axes.plot(entropy, accuracy, "o-", color="C0", label="tuned, look by look")
    best = min(looks, key=lambda look: look.score)
    axes.plot(best.metrics.entropy, best.metrics.accuracy, "*", ms=16, color="C2", label="best")
    if history.untuned is not None:
        untuned = history.untuned
        axes.plot(untuned.entropy, untuned.accuracy, "s", color="C3", label="untuned")
    axes.legend(fontsize="small")
