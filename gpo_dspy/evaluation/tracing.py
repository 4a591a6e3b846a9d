"""Which predictor got and gave what while a program ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

DSPyTrace = list[tuple[Any, dict[str, Any], Any]]
"""DSPy's own form: (predictor, inputs, prediction) triples, in order."""


@dataclass(frozen=True, slots=True)
class PredictorCall:
    """What one predictor got and gave while a program ran."""

    predictor: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


class NoHistory(list[Any]):
    """The LM history of a module that keeps none."""

    def append(self, entry: Any) -> None:
        """Forget an entry."""


def without_history(program: dspy.Module) -> dspy.Module:
    """Have a program's modules keep no LM history, and return it.

    DSPy looks for predictors in every list of a module, its history too: after a few hundred
    metric calls that takes longer than the rest of a call. An LM's own history is kept.
    """
    for _, module in program.named_sub_modules(dspy.Module):
        module.history = NoHistory()
    return program


def name_calls(program: dspy.Module, trace: Iterable[Any]) -> tuple[PredictorCall, ...]:
    """Name the predictors of a DSPy trace; by object, since signatures may be equal."""
    names = predictor_names(program)
    return tuple(
        PredictorCall(names[id(predictor)], dict(inputs), dict(outputs))
        for predictor, inputs, outputs in trace
        if id(predictor) in names
    )


def last_calls(program: dspy.Module, trace: Iterable[Any]) -> dict[str, tuple[Any, Any, Any]]:
    """Return the last call of each predictor in a DSPy trace, by name, in the program's order."""
    names = predictor_names(program)
    last = {names[id(call[0])]: call for call in trace if id(call[0]) in names}
    return {name: last[name] for name in names.values() if name in last}


def predictor_names(program: dspy.Module) -> dict[int, str]:
    """Return the names of a program's predictors by the ``id`` of the object."""
    return {id(predictor): name for name, predictor in program.named_predictors()}


class FailureLocator(BaseCallback):  # type: ignore[misc]  # DSPy has no types
    """Remembers which predictor was running when a program raised.

    The exception names only a signature, and two predictors may share that.
    """

    def __init__(self) -> None:
        self._running: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._failed: list[tuple[BaseException, Any, dict[str, Any]]] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Note who starts; called by DSPy."""
        self._running[call_id] = (instance, inputs)

    def on_module_end(
        self,
        call_id: str,
        outputs: Any | None,  # noqa: ARG002 - DSPy passes it by name
        exception: BaseException | None = None,
    ) -> None:
        """Note who ended, and how; called by DSPy."""
        started = self._running.pop(call_id, None)
        if exception is not None and started is not None:
            self._failed.append((exception, *started))

    def failed_call(
        self, program: dspy.Module, error: BaseException, outputs: dict[str, Any]
    ) -> tuple[PredictorCall, ...]:
        """Return the call of the predictor that raised, with what it gave instead of its fields.

        A program may have caught an earlier error and gone on, so only ``error`` itself counts.
        """
        names = predictor_names(program)
        calls = [
            PredictorCall(names[id(instance)], dict(inputs.get("kwargs", inputs)), outputs)
            for exception, instance, inputs in self._failed
            if exception is error and id(instance) in names
        ]
        return tuple(calls[:1])
