"""Checkpoints of a run: a tensor file, then a JSON file that names it and makes it count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from j6.files import read_json, write_json, write_tensors
from j6.tuner.history import History

DESCRIPTION = "checkpoint.json"
FORMAT = 1
WITHOUT_VALUE = {
    "examples": "other examples",
    "start": "another prompt to start from",
    "embedding": "another embedding of the model",
    "parameters": "other parameters of the model",
}
"""What is said of differing digests and the like, whose values would tell nobody anything."""


@dataclass
class RunState:
    """Everything a run needs to go on; what is not here follows from the settings.

    Attributes:
        step: Steps taken.
        history: What happened so far.
        tensors: Parameters and Adam's moments by name: as they are (``now``), when the validation
            score was best (``best``), and when the training loss was lowest (``good``); gradients
            that later steps use again, by objective (``kept``).
        good_step: Steps after which the training loss was lowest.
        best_step: Steps after which the validation score was best.
        best_score: That score, or ``None`` before the first look.
        looks_since_best: Looks at the validation set since then.
    """

    step: int
    history: History
    tensors: dict[str, dict[str, Tensor]]
    good_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    looks_since_best: int = 0


def write_checkpoint(folder: Path, state: RunState, identity: dict[str, Any]) -> None:
    """Write a checkpoint; killed at any moment, the folder holds this one or the one before.

    Args:
        folder: Where to write; made if it is not there.
        state: The run's state.
        identity: What makes it this run; checked on reading.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"checkpoint-{state.step:08d}.safetensors"
    flat = {f"{kind}/{k}": v for kind, values in state.tensors.items() for k, v in values.items()}
    write_tensors(folder / name, flat)
    description = {
        "format": FORMAT,
        "identity": identity,
        "tensors": name,
        "step": state.step,
        "good_step": state.good_step,
        "best_step": state.best_step,
        "best_score": state.best_score,
        "looks_since_best": state.looks_since_best,
        "history": state.history.to_json(),
    }
    write_json(folder / DESCRIPTION, description)
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(folder: Path, identity: dict[str, Any]) -> RunState | None:
    """Read the checkpoint of a run.

    Args:
        folder: The folder.
        identity: What makes it this run.

    Returns:
        The state, or ``None`` where no checkpoint was finished.

    Raises:
        ValueError: If the checkpoint is damaged, or of another run or format; the message names
            what differs.
    """
    if not (folder / DESCRIPTION).is_file():
        return None
    with _damage_told(folder):
        found = read_json(folder / DESCRIPTION)
    if found.get("format") != FORMAT:
        msg = f"{folder} has a checkpoint of format {found.get('format')!r}; {FORMAT} is read"
        raise ValueError(msg)
    with _damage_told(folder):
        differing = _differences(found["identity"], identity)
    if differing:
        msg = (
            f"{folder} holds a checkpoint of another run ({'; '.join(differing)}): use another "
            "folder, or start over with resume=False (on the command line --restart)"
        )
        raise ValueError(msg)
    with _damage_told(folder):
        return _read(folder, found)


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OSError, SafetensorError) as error:
        msg = (
            f"{folder} holds a damaged checkpoint ({error!r}): use another folder, or start over "
            "with resume=False (on the command line --restart)"
        )
        raise ValueError(msg) from error


def _read(folder: Path, found: dict[str, Any]) -> RunState:
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, value in load_file(folder / found["tensors"]).items():
        kind, _, key = name.partition("/")
        tensors.setdefault(kind, {})[key] = value
    return RunState(
        step=found["step"],
        history=History.from_json(found["history"]),
        tensors=tensors,
        good_step=found["good_step"],
        best_step=found["best_step"],
        best_score=found["best_score"],
        looks_since_best=found["looks_since_best"],
    )


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name the settings that differ, with both values; digests and the like by name alone.

    The start is named only where nothing before it differs, since it follows from the settings.
    """
    differing = []
    for key, value in now.items():
        before = saved.get(key)
        if before == value:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            differing += _differences(before, value)
        elif key in WITHOUT_VALUE:
            if key != "start" or not differing:
                differing.append(WITHOUT_VALUE[key])
        else:
            differing.append(f"{key} {before!r} → {value!r}")
    return list(dict.fromkeys(differing))  # one seed may be that of the order and of the prompt
