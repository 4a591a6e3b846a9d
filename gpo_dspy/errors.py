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


class ResumeRefused(GPOError):
    """The run to carry on had other data, another metric, program or other settings.

    Or, with ``resume="force"``, what it left of the budget does not pay for a step.
    """


class RunEnded(GPOError):
    """Something that the run cannot do without failed; nothing that was finished is lost.

    Attributes:
        program: The best program so far, as ``compile`` would have returned it; None if the
            error did not come through ``compile``.
        result: The :class:`~gpo_dspy.GPOResult` so far, likewise.
    """

    program: Module | None = None
    result: GPOResult | None = None


class BackendUnavailable(RunEnded):
    """An LM backend refused to answer, or stayed away longer than the run may wait.

    Nothing is scored 0 because of it.
    """


class ArgumentFailed(RunEnded, ValueError):
    """A function given as an argument raised, or returned what cannot be used."""


class StorageError(GPOError):
    """The storage could not be read or written; what was stored before is as it was.

    Attributes:
        lasting: Whether trying again is useless until somebody acts: the disk is full, the file
            is read-only or damaged. False for what passes: a lock, a lost connection.
    """

    def __init__(self, message: str, *, lasting: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting


class RunBusy(StorageError):
    """A live process works on the run, or has taken it over."""

    def __init__(self, message: str) -> None:
        super().__init__(message, lasting=False)
