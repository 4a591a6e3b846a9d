"""GPO: a DSPy optimizer that treats a prompt as a parameter.

The update direction comes from earlier prompts with their scores, retrieved by meaning; the
update is a rewrite by an LLM; the learning rate is the number of words it may change
(arXiv 2402.17564).

    import dspy
    from gpo_dspy import GPO

    dspy.configure(lm=dspy.LM("ollama_chat/llama3.2:3b", engine="litellm"))
    optimizer = GPO(metric=metric, prompt_model=dspy.LM("anthropic/claude-sonnet-4-5"))
    compiled = optimizer.compile(program, trainset=trainset, valset=valset)
    print(compiled.detailed_results)

Schedules are in :mod:`gpo_dspy.schedule`, directions in :mod:`gpo_dspy.direction`, and a
simulated pair of LMs to try things on without a key in :mod:`gpo_dspy.sandbox`.
"""

from gpo_dspy.callbacks import Callback
from gpo_dspy.errors import (
    ArgumentFailed,
    BackendUnavailable,
    GPOError,
    MetricError,
    PriceUnknown,
    ProgramError,
    ResumeRefused,
    RunBusy,
    RunEnded,
    StorageError,
)
from gpo_dspy.front import FrontMember
from gpo_dspy.optimizer import GPO
from gpo_dspy.result import Claim, GPOResult
from gpo_dspy.state import Fate, RunState, ScoredPrompt, StepRecord, StopReason

__all__ = [
    "GPO",
    "ArgumentFailed",
    "BackendUnavailable",
    "Callback",
    "Claim",
    "Fate",
    "FrontMember",
    "GPOError",
    "GPOResult",
    "MetricError",
    "PriceUnknown",
    "ProgramError",
    "ResumeRefused",
    "RunBusy",
    "RunEnded",
    "RunState",
    "ScoredPrompt",
    "StepRecord",
    "StopReason",
    "StorageError",
]
