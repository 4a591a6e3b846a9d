"""What a tuning run gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from j6.metrics import Metrics
from j6.soft_prompt import SoftPrompt
from j6.tuner.history import History
from j6.tuner.stopping import StopReason


@dataclass(frozen=True)
class TuneResult:
    """A tuned soft prompt and how it came about.

    Attributes:
        soft_prompt: The best prompt on the validation set, or the last without one; not attached.
        history: Every step, with components, weights and cosines, and every look.
        best_step: Steps after which the prompt was as it is given back.
        stop_reason: Why the run ended.
        message: The same in words, with what is known in addition.
    """

    soft_prompt: SoftPrompt
    history: History
    best_step: int
    stop_reason: StopReason
    message: str

    @property
    def before(self) -> Metrics | None:
        """The model without the prompt on the validation set, where there is one."""
        return self.history.untuned

    @property
    def after(self) -> Metrics | None:
        """The model with the prompt given back on the validation set, where there is one."""
        looks = [look for look in self.history.evaluations if look.step == self.best_step]
        return looks[-1].metrics if looks else None

    def __str__(self) -> str:
        """What was tuned, how the run ended, and the figures before and after."""
        from j6.report.text import losses_table, metrics_table

        if self.before is None or self.after is None:
            figures = losses_table(self.history)
        else:
            figures = metrics_table({"untuned": self.before, "tuned": self.after})
        return "\n".join([repr(self.soft_prompt), self.message, *figures])

    def plot(self) -> Any:
        """Draw attribution over time, the conflict map and the accuracy/confidence curve.

        Returns:
            A ``matplotlib.figure.Figure``.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        from j6.report.plot import plot_history

        return plot_history(self.history)
