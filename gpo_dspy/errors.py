"""What can stop a run, each with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy import Module

    from gpo_dspy.result import GPOResult


class GPOError(Exception):
    """Base class of the errors that ``gpo_dspy`` raises while a program is optimised."""


class MetricError(GPOError):
    """The metric broke its contract: it must return a score in [0, 1]."""


class ProgramError(GPOError):
    """The program cannot be optimised, or failed on every example of the first block."""


class PriceUnknown(GPOError):
    """There is a limit on dollars, and a model whose price is not known."""


class BackendUnavailable(GPOError):
    """An LM backend refused to answer, or stayed away longer than the run may wait.

    Nothing is scored 0 because of it, and nothing that was finished is lost.

    Attributes:
        program: The best program so far, as ``compile`` would have returned it; None if the
            error did not come through ``compile``.
        result: The :class:`~gpo_dspy.GPOResult` so far, likewise.
    """

    program: Module | None = None
    result: GPOResult | None = None
