"""The command ``gpo-dspy`` over a storage that real runs have written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import dspy
import pytest
from fakes import scripted_lm
from test_resume import Shop, Stopping

from gpo_dspy import GPOResult
from gpo_dspy.cli import main
from gpo_dspy.storage import open_storage

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.finished = shop.run(study="whole")  # type: ignore[attr-defined]
    shop.run(study="begun", seed=1, memory=False, callbacks=[Stopping(1)])
    return shop


@pytest.fixture
def run(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str, url: str = shop.url) -> tuple[int, str, str]:
        status = main([*arguments, "--storage", url])
        out, err = capsys.readouterr()
        return status, out, err

    return command


def test_runs_are_listed(run: Run, shop: Shop) -> None:
    status, out, _ = run("runs")
    first, second = out.splitlines()[1:]
    finished: GPOResult = shop.finished  # type: ignore[attr-defined]
    assert status == 0
    assert first.split()[:4] == ["1", "whole", "Predict", "finished"]
    assert f"{finished.metric_calls:,}" in first.split()
    assert f"{100 * finished.best_score:.1f}" in first
    assert second.split()[:4] == ["2", "begun", "Predict", "stopped"]


def test_a_finished_run_is_shown_with_its_result(run: Run, shop: Shop) -> None:
    status, out, _ = run("runs", "show", "1")
    finished: GPOResult = shop.finished  # type: ignore[attr-defined]
    assert status == 0
    assert dict(finished.best)["self"].split()[-1] in out
    assert str(finished.claim) in out.replace("\n", " ").replace("  ", " ")
    steps = out[out.index("step ") :].splitlines()[1 : 1 + len(finished.records)]
    assert [line.split()[0] for line in steps] == [str(r.step) for r in finished.records]


def test_a_run_that_stopped_is_shown_as_far_as_it_is(run: Run) -> None:
    status, out, _ = run("runs", "show", "2")
    assert status == 0
    assert "the same compile call carries on" in out


def test_the_json_export_holds_everything(run: Run, shop: Shop, tmp_path: Path) -> None:
    finished: GPOResult = shop.finished  # type: ignore[attr-defined]
    status, out, _ = run("runs", "export", "1")
    content = json.loads(out)
    assert status == 0
    assert run("runs", "export", "1", "--out", str(tmp_path / "run.json"))[0] == 0
    assert json.loads((tmp_path / "run.json").read_text()) == content
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert content["run"]["study"] == "whole"
    assert content["result"]["metric_calls"] == finished.metric_calls
    assert len(content["steps"]) == len(finished.records)
    assert len(content["evaluations"]) == finished.metric_calls
    assert len(content["lm_calls"]) == (
        finished.task_usage.lm_calls + finished.prompt_usage.lm_calls
    )
    assert {prompt["text"] for prompt in content["prompts"]} == {
        prompt.text for prompt in finished.trajectories["self"]
    }


def test_the_csv_export_has_a_row_for_each_evaluation(run: Run, shop: Shop) -> None:
    finished: GPOResult = shop.finished  # type: ignore[attr-defined]
    status, out, _ = run("runs", "export", "1", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0
    assert len(rows) == finished.metric_calls
    first = json.loads(rows[0]["example"])
    assert first["inputs"]["question"].startswith("item ")
    assert sum(int(row["lm_calls"]) for row in rows) == finished.task_usage.lm_calls


def test_prompts_are_found_by_meaning(run: Run) -> None:
    status, out, _ = run("memory", "search", "alpha beta", "--embedder", "hashed-ngrams", "-k", "2")
    assert status == 0
    assert out.count("similarity") == 2
    assert "alpha" in out
    nothing = run("memory", "search", "x", "--embedder", "hashed-ngrams", "--kind", "ReAct")
    assert "Nothing found" in nothing[1]


def test_deleting_needs_a_yes(shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.run(study="unwanted", seed=2, memory=False, callbacks=[Stopping(1)])
    with open_storage(shop.url) as storage:
        number = str(storage.runs()[-1].id)
    status, _, err = run("runs", "delete", number)
    assert (status, "--yes" in err) == (2, True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "Nothing was deleted" in run("runs", "delete", number)[1]
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert "Deleted run" in run("runs", "delete", number)[1]
    with open_storage(shop.url) as storage:
        assert number not in [str(row.id) for row in storage.runs()]


def test_what_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    status, out, err = run("runs", "show", "77")
    assert (status, out) == (2, "")
    assert "has no run 77; the latest are: 1, 2" in err
    status, _, err = run("runs", url=f"sqlite:///{tmp_path}/none.db")
    assert status == 2
    assert not (tmp_path / "none.db").exists()
    assert "runs.db is not a URL" in run("runs", url="runs.db")[2].replace("'", "")


def test_names_that_look_like_markup_are_shown_as_they_are(shop: Shop, run: Run) -> None:
    shop.run(study="[/x] [bold]study", seed=3, memory=False, callbacks=[Stopping(1)])
    with open_storage(shop.url) as storage:
        number = str(storage.runs()[-1].id)
    assert "[/x] [bold]study" in run("runs")[1]
    assert "[/x] [bold]study" in run("runs", "show", number)[1]
    assert "[/x] [bold]study" in run("runs", "delete", number, "--yes")[1]


@pytest.mark.parametrize("number", ["99999999999999999999", "-1", "x"])
def test_what_is_no_id_is_refused(run: Run, number: str) -> None:
    with pytest.raises(SystemExit):
        run("runs", "show", number)


@pytest.mark.parametrize("text", ["", "  "])
def test_a_search_for_nothing_is_refused(
    run: Run, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        run("memory", "search", text)
    assert refused.value.code == 2
    assert "is empty; give a few words" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as told:
        main(["--version"])
    assert told.value.code == 0
    assert capsys.readouterr().out.split() == ["gpo-dspy", version("gpo-dspy")]


def test_the_storage_is_taken_from_the_environment_or_the_folder(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPO_DSPY_STORAGE", raising=False)
    assert main(["runs"]) == 2
    assert "give --storage" in capsys.readouterr().err
    (tmp_path / "runs.db").write_bytes(Path(shop.url.removeprefix("sqlite:///")).read_bytes())
    assert main(["runs"]) == 0
    monkeypatch.setenv("GPO_DSPY_STORAGE", "sqlite:///missing.db")
    assert main(["runs"]) == 2


def test_a_reader_that_leaves_early_is_no_error(shop: Shop) -> None:
    command = [sys.executable, "-m", "gpo_dspy.cli", "runs", "export", "1"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"GPO_DSPY_STORAGE": shop.url},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_odd_text_and_numbers_are_exported(shop: Shop, run: Run) -> None:
    odd = [
        dspy.Example(question=f"item {i} alpha", answer="right \ud83d", weight=float("nan"))
        for i in range(40)
    ]
    train = [example.with_inputs("question") for example in odd]
    start = dspy.Predict("question -> answer")
    shop.run(start, train, study="odd", memory=False, lm=scripted_lm(lambda _: {"answer": "x"}))
    with open_storage(shop.url) as storage:
        number = str(storage.runs()[-1].id)
    status, out, err = run("runs", "export", number)
    assert (status, err) == (0, "")
    contents = [e["example_content"] for e in json.loads(out)["evaluations"]]
    assert any(content["labels"].get("weight") == "NaN" for content in contents)


def test_run_as_a_module_it_says_the_same(shop: Shop) -> None:
    command = [sys.executable, "-m", "gpo_dspy.cli", "runs", "show", "77", "--storage", shop.url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("gpo-dspy runs: the storage")
