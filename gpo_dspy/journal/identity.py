"""What makes a compile call the same as an earlier one, and a metric call too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import dspy

from gpo_dspy.data import Data
from gpo_dspy.fingerprint import (
    digest,
    example_fingerprint,
    example_json,
    metric_fingerprint,
    program_fingerprints,
)
from gpo_dspy.fingerprint.programs import PARTS
from gpo_dspy.memory.text import task_text
from gpo_dspy.plan import Plan
from gpo_dspy.program import (
    describe_predictor,
    optimizable_predictors,
    predictor_kind,
    state_of,
)
from gpo_dspy.secrets import Secrets
from gpo_dspy.storage.rows import NewRun, PredictorRow, RunRow
from gpo_dspy.version import installed_version

if TYPE_CHECKING:
    from gpo_dspy.optimizer import GPO

SEARCH = 5
"""Version of the search, to be raised when the same call takes other steps than it did: a run that
was begun by another version cannot be replayed."""

NOT_SETTINGS = frozenset(
    {
        "metric",
        "prompt_model",
        "num_threads",
        "executor",
        "callbacks",
        "verbose",
        "storage",
        "study",
        "resume",
    }
)
"""Arguments of GPO that change nothing in what a run does, or have a fingerprint of their own."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What identifies a metric call beyond the state of the program.

    Attributes:
        program: Fingerprint of all of the program but its state, LMs and settings included.
        metric: Fingerprint of the metric.
        prompt_model: Fingerprint of the LM that writes the rewrites.
        examples: Fingerprints of the examples, by index; copies of one example have different
            ones, since each is a metric call of its own.
        contents: The examples as JSON text, by index.
    """

    program: str
    metric: str
    prompt_model: str
    examples: tuple[str, ...]
    contents: tuple[str, ...]


def keys_of(new: NewRun, data: Data) -> Keys:
    """Return what identifies the metric calls of a run; its fingerprints are taken as they are."""
    copies: Counter[str] = Counter()
    prints = []
    for example in data.examples:
        fingerprint = example_fingerprint(example)
        prints.append(digest(fingerprint, str(copies[fingerprint])))
        copies[fingerprint] += 1
    return Keys(
        digest(*(new.fingerprints[part] for part in PARTS)),
        new.fingerprints["metric"],
        new.fingerprints["prompt_model"],
        tuple(prints),
        tuple(map(example_json, data.examples)),
    )


def new_run(
    optimizer: GPO,
    student: dspy.Module,
    prompt_model: dspy.LM,
    sets: Mapping[str, Sequence[dspy.Example]],
    plan: Plan,
    secrets: Secrets,
) -> NewRun:
    """Describe a compile call, with a fingerprint of everything that its outcome depends on.

    Args:
        optimizer: The optimizer.
        student: The program.
        prompt_model: Writes the rewrites.
        sets: The examples as they were given, by argument ("trainset", ...).
        plan: The run in numbers.
        secrets: What must not be written.
    """
    settings = {
        name: _setting(value)
        for name, value in optimizer.get_params().items()
        if name not in NOT_SETTINGS
    }
    fingerprints = {
        "search": str(SEARCH),
        **program_fingerprints(student),
        "instructions": state_of(student).key,
        "metric": metric_fingerprint(optimizer.metric.function),
        "prompt_model": program_fingerprints(_asking(prompt_model))["lm"],
        **{name: digest(*map(example_fingerprint, examples)) for name, examples in sets.items()},
        **{name: digest(value) for name, value in settings.items()},
    }
    return NewRun(
        identity=digest(*(f"{name}={value}" for name, value in sorted(fingerprints.items()))),
        study=optimizer.study,
        fingerprints=fingerprints,
        settings={name: secrets.hide(value) for name, value in settings.items()},
        program=type(student).__name__,
        prompt_model=str(prompt_model.model),
        predictors=_predictors(student, sets["trainset"]),
        plan=asdict(plan),
        version=installed_version(),
    )


def differences(row: RunRow, new: NewRun) -> list[str]:
    """Name what differs between a stored run and a call; of settings, the values too."""
    named = dict.fromkeys([*row.fingerprints, *new.fingerprints])
    return [
        f"{name} ({row.settings[name]} -> {new.settings[name]})"
        if name in row.settings and name in new.settings
        else name
        for name in named
        if row.fingerprints.get(name) != new.fingerprints.get(name)
    ]


def _setting(value: Any) -> str:
    """Write the value of an argument so that equal values are written alike."""
    if isinstance(value, Mapping):
        value = dict(sorted(value.items()))
    if is_dataclass(value) and not isinstance(value, type):  # a field may hold a function
        parts = (f"{field.name}={_setting(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__qualname__}({', '.join(parts)})"
    if callable(value):
        return f"{getattr(value, '__qualname__', type(value).__qualname__)} " + metric_fingerprint(
            value
        )
    return repr(value)


def _asking(lm: dspy.LM) -> dspy.Module:
    """Return a program of one predictor that asks the given LM."""
    program = dspy.Predict("request -> answer")
    program.lm = lm
    return program


def _predictors(student: dspy.Module, trainset: Sequence[dspy.Example]) -> tuple[PredictorRow, ...]:
    default = dspy.settings.lm
    return tuple(
        PredictorRow(
            name,
            predictor_kind(student, name),
            task_text(describe_predictor(student, name), trainset),
            str((predictor.lm or default).model),
        )
        for name, predictor in optimizable_predictors(student).items()
    )
