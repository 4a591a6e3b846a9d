from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from j6 import J6Config, StopReason, TuneResult, files
from tests.j6.test_tuner import CONFIG, fit

LAZY = replace(CONFIG, refresh_every=3)  # checkpoints fall between two refreshes


class KilledError(Exception):
    """Stands for the process ending."""


def same(a: TuneResult, b: TuneResult) -> bool:
    return a.history == b.history and bool(
        torch.equal(a.soft_prompt.w, b.soft_prompt.w)
        and torch.equal(a.soft_prompt.h, b.soft_prompt.h)
    )


@pytest.mark.parametrize("config", [CONFIG, LAZY], ids=["every step", "every third step"])
@pytest.mark.parametrize("write", range(1, 7))
def test_killed_while_writing_and_resumed_ends_the_same(
    config: J6Config, write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit(config)
    count = 0
    whole = files.write_bytes

    def dies(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == write:
            path.with_name(f".{path.name}.1").write_bytes(data[: len(data) // 2])
            raise KilledError
        whole(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", dies)
        with pytest.raises(KilledError):
            fit(config, checkpoints=tmp_path)
    assert same(fit(config, checkpoints=tmp_path), expected)


def stopped_by_nan(folder: Path, bad_call: int) -> TuneResult:
    """A run of ``LAZY`` whose second objective is infinite once, and leaves its checkpoints."""
    calls = itertools.count(1)

    def second(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        values = logits.square().mean((1, 2))
        return values * torch.inf if next(calls) == bad_call else values

    config = replace(LAZY, objectives=("factuality", second))
    return fit(config, checkpoints=folder)


@pytest.mark.parametrize("bad", [6, 7])  # in between, and where all gradients are computed
def test_a_bad_gradient_is_not_kept(bad: int, tmp_path: Path) -> None:
    stopped = stopped_by_nan(tmp_path / "bad", bad)
    assert stopped.stop_reason is StopReason.NOT_FINITE
    assert len(stopped.history.steps) == bad - 1
    (path,) = (tmp_path / "bad").glob("*.safetensors")
    assert load_file(path)["kept/second"].isfinite().all()
    resumed = stopped_by_nan(tmp_path / "bad", 0)
    assert same(resumed, stopped_by_nan(tmp_path / "good", 0))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda row: None, "is missing"),
        (lambda row: row[:1], r"has shape \[1, 64\]"),
        (lambda row: row / 0, "holds NaN or infinity"),
    ],
)
def test_a_broken_kept_gradient_is_refused(change: Any, wrong: str, tmp_path: Path) -> None:
    first = fit(LAZY, checkpoints=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    tensors = load_file(path)
    row = change(tensors.pop("kept/confidence"))
    save_file(tensors if row is None else {**tensors, "kept/confidence": row}, path)
    with pytest.raises(
        ValueError, match=rf"kept gradient of 'confidence' {wrong}; finite .*resume"
    ):
        fit(LAZY, checkpoints=tmp_path)
    assert same(fit(LAZY, checkpoints=tmp_path, resume=False), first)


@pytest.mark.parametrize("damage", ["tensors cut", "tensors gone", "no fields", "no JSON"])
def test_a_damaged_checkpoint_is_told_with_the_way_out(damage: str, tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=2)
    fit(config, checkpoints=tmp_path)
    (tensors,) = tmp_path.glob("*.safetensors")
    if damage == "tensors cut":
        tensors.write_bytes(tensors.read_bytes()[:-20])
    elif damage == "tensors gone":
        tensors.unlink()
    else:
        text = '{"format": 1}' if damage == "no fields" else '{"for'
        (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(ValueError, match=r"holds a damaged checkpoint .*resume=False.*--restart"):
        fit(config, checkpoints=tmp_path)
    assert fit(config, checkpoints=tmp_path, resume=False).history.steps


def test_finished_run_is_given_back_without_a_step(tmp_path: Path) -> None:
    calls = 0

    def counted(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return logits.square().mean((1, 2))

    config = replace(CONFIG, objectives=("factuality", counted))
    first = fit(config, checkpoints=tmp_path)
    before = calls
    assert same(fit(config, checkpoints=tmp_path), first)
    assert calls == before
    assert len(list(tmp_path.iterdir())) == 2


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    fit(checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(learning_rate 0.1 → 0.2\).*resume=False"):
        fit(replace(CONFIG, learning_rate=0.2), checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(refresh_every 1 → 2\)"):
        fit(replace(CONFIG, refresh_every=2), checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(other examples\)"):
        fit(checkpoints=tmp_path, validation=None)
    reseeded = replace(CONFIG, seed=7, prompt=replace(CONFIG.prompt, seed=7))
    with pytest.raises(ValueError, match=r"another run \(seed 0 → 7\)"):
        fit(reseeded, checkpoints=tmp_path)
    other = fit(replace(CONFIG, learning_rate=0.2), checkpoints=tmp_path, resume=False)
    assert same(other, fit(replace(CONFIG, learning_rate=0.2)))


SCRIPT = """
import sys, time
from pathlib import Path
from tests.j6.test_tuner import CONFIG, fit
from dataclasses import replace
import j6.tuner.run as run
write = run.write_checkpoint
def slow(*arguments):
    write(*arguments)
    print("written", flush=True)
    time.sleep(0.05)
run.write_checkpoint = slow
fit(replace(CONFIG, checkpoint_every=1, refresh_every=3), checkpoints=Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_kill_minus_nine_and_resume_ends_the_same(tmp_path: Path) -> None:
    config: Any = replace(CONFIG, checkpoint_every=1, refresh_every=3)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline() == "written\n"
    time.sleep(0.06)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert same(fit(config, checkpoints=tmp_path), fit(config))
