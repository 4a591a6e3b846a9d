from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import j6_quality, j6_speed
from benchmarks.j6_knowledge import WORLDS, Knowledge, World, sentences, trained_model
from j6 import J6Update
from j6.tuner.answers import frozen


@pytest.mark.parametrize(("world", "facts"), [("noisy", 720), ("clean", 1440)])
def test_facts_are_split_without_overlap(world: str, facts: int) -> None:
    parts = Knowledge.generate(WORLDS[world]).split(0)
    assert [len(part) for part in parts] == [192, 128, facts - 320]
    assert len(set().union(*parts)) == facts


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_sentences_say_what_the_sources_say(world: World) -> None:
    knowledge = Knowledge.generate(world)
    ids = knowledge.vocabulary()
    rows = sentences(knowledge, 20_000, torch.Generator().manual_seed(0))
    facts = (rows[:, 2] - ids["e0"]) * 6 + rows[:, 3] - ids["r0"]
    right = rows[:, 4] - ids["o0"] == knowledge.truth[facts]
    almanac, forum = rows[:, 1] == ids["almanac"], rows[:, 1] == ids["forum"]
    assert right[almanac].float().mean() > 0.65
    assert right[forum].float().mean() < 0.45


@pytest.mark.parametrize("architecture", j6_quality.ARCHITECTURES)
def test_models_are_trained_tuned_and_measured(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(j6_quality, "STEPS", 2)
    knowledge = Knowledge.generate(replace(WORLDS["noisy"], steps=3))
    model = trained_model(architecture, knowledge, tmp_path)
    again = trained_model(architecture, knowledge, tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    metrics = j6_quality.tune(
        j6_quality.Subject(model, knowledge), {"update": J6Update()}, 0.1, seed=0
    )
    assert metrics["examples"] == 400


def test_the_curve_is_met_at_equal_entropy() -> None:
    def row(accuracy: float, entropy: float) -> dict[str, float]:
        return dict.fromkeys(j6_quality.METRICS, 0.0) | {"accuracy": accuracy, "entropy": entropy}

    sums = {0.0: {"llama": [row(0.8, 1.0)]}, 0.5: {"llama": [row(0.72, 0.5)]}}
    accuracy, _ = j6_quality.off_the_curve({"llama": [row(0.75, 0.75)]}, sums)
    assert accuracy == pytest.approx(-0.01)
    assert j6_quality.off_the_curve({"llama": [row(0.7, 0.1)]}, sums)[0] == pytest.approx(-0.02)
    sums[0.9] = {"llama": [row(0.2, 0.3)]}  # collapsed
    assert j6_quality.off_the_curve({"llama": [row(0.7, 0.4)]}, sums)[0] == pytest.approx(-0.02)


def test_a_calibrated_model_has_a_calibration_error() -> None:
    few, many = (
        j6_quality.calibrated_error(torch.linspace(0.1, 0.9, count)) for count in (400, 40_000)
    )
    assert 0.03 < few < 0.06
    assert many < few / 5


def test_every_way_to_a_direction_runs() -> None:
    arguments = argparse.Namespace(
        size="tiny", dtype="float32", device="cpu", batch=2, length=24, answer=8
    )
    workload = j6_speed.Workload(arguments)
    directions = {}
    with frozen(workload.model):
        for name in ("plain", "usual", "j6", "between", "loop", "per_example", "prefix"):
            directions[name] = getattr(workload, name)()
    torch.testing.assert_close(directions["j6"], directions["loop"], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(directions["usual"], directions["plain"], atol=1e-5, rtol=1e-3)
    assert directions["per_example"].shape == (2, 2, 2, 8 * 128)


def test_a_step_takes_less_memory_than_plain_training() -> None:
    arguments = argparse.Namespace(
        size="tiny", dtype="float32", device="cpu", batch=4, length=64, answer=32
    )
    workload = j6_speed.Workload(arguments)
    with frozen(workload.model):
        plain, j6 = (j6_speed.peak_memory(w, "cpu") for w in (workload.plain, workload.j6))
    assert j6 < 0.95 * plain
