"""A progress bar on standard error."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Shows steps and losses while standard error is a terminal, and else nothing.

    Args:
        total: Number of steps.
        shown: Whether to show anything.
    """

    def __init__(self, total: int, shown: bool) -> None:
        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("tuning"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, step: int, losses: Mapping[str, float]) -> None:
        """Say how far the run is.

        Args:
            step: Steps taken.
            losses: The objectives' values by name.
        """
        text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self._bar.update(self._task, completed=step, description=text)
