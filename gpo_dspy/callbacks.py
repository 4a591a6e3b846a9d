"""Being told how a run goes."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence

from gpo_dspy.ledger import Usage
from gpo_dspy.plan import Plan
from gpo_dspy.result import GPOResult
from gpo_dspy.state import RunState

logger = logging.getLogger(__name__)


class Callback:
    """Base class: override what you want to hear of. All are called in the compiling thread.

    What a callback raises is logged and does not disturb the run.
    """

    def on_start(self, plan: Plan) -> None:
        """Called before the first metric call."""

    def on_metric_call(self, metric_calls: int, usage: Usage) -> None:
        """Called after each metric call, with the count so far and the usage of all LMs."""

    def on_step(self, state: RunState) -> None:
        """Called after each step."""

    def on_end(self, result: GPOResult) -> None:
        """Called with the result, also if the run was interrupted or a backend went away."""

    def on_error(self, error: BaseException) -> None:
        """Called instead of ``on_end`` if an error ends the run without a result."""


class Callbacks(Callback):
    """Tells several callbacks, each shielded from the others' mistakes."""

    def __init__(self, callbacks: Sequence[Callback], hide: Callable[[str], str] = str) -> None:
        self._callbacks = tuple(callbacks)
        self._hide = hide  # an error's text may hold a key

    def on_start(self, plan: Plan) -> None:
        self._tell("on_start", plan)

    def on_metric_call(self, metric_calls: int, usage: Usage) -> None:
        self._tell("on_metric_call", metric_calls, usage)

    def on_step(self, state: RunState) -> None:
        self._tell("on_step", state)

    def on_end(self, result: GPOResult) -> None:
        self._tell("on_end", result)

    def on_error(self, error: BaseException) -> None:
        self._tell("on_error", error)

    def _tell(self, event: str, *values: object) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, event)(*values)
            except Exception:  # noqa: BLE001 - user code may raise anything
                logger.error(
                    "%s.%s failed; the run goes on\n%s",
                    type(callback).__name__, event, self._hide(traceback.format_exc()),
                )  # fmt: skip
