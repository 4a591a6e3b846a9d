"""Tuning a soft prompt: the loop, its settings, and what it leaves behind."""

from j6.tuner.config import J6Config
from j6.tuner.history import EvalRecord, History, StepRecord
from j6.tuner.result import TuneResult
from j6.tuner.stopping import StopReason
from j6.tuner.tuner import J6Tuner

__all__ = [
    "EvalRecord",
    "History",
    "J6Config",
    "J6Tuner",
    "StepRecord",
    "StopReason",
    "TuneResult",
]
