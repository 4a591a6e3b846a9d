from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from transformers import T5Config

from j6 import SoftPrompt, SoftPromptConfig
from j6.cli import main
from j6.commands import read_examples
from tests.j6._models import tiny_model
from tests.j6._tasks import HELD_OUT, PAIRS, tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model with its tokenizer, training pairs and held-out chats."""
    tiny_model().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    pairs = [json.dumps({"prompt": p, "answer": a}) for p, a in PAIRS]
    (tmp_path / "train.jsonl").write_text("\n".join(pairs) + "\n\n")
    (tmp_path / "val.jsonl").write_text("\n".join(json.dumps(pair) for pair in HELD_OUT))
    return tmp_path


def test_tune_eval_explain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(folder / "model"), "--device", "cpu"]
    out = folder / "prompt"
    data = ["--train", str(folder / "train.jsonl"), "--val", str(folder / "val.jsonl")]
    some = ["--steps", "3", "--tokens", "2", "--refresh-every", "2"]
    assert main(["tune", *model, *data, "--out", str(out), *some]) == 0
    steps = json.loads((out / "history.json").read_text())["steps"]
    assert [step["refreshed"] for step in steps] == [True, False, True]
    said = capsys.readouterr().out
    assert "stopped after 3 steps" in said
    assert "untuned" in said

    arguments = ["eval", *model, "--prompt", str(out), "--data", str(folder / "val.jsonl")]
    assert main(arguments) == 0
    assert "confident_wrong" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"untuned", "tuned"}

    page = folder / "report.html"
    assert main(["explain", str(out), "--html", str(page)]) == 0
    assert "squared gradient" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")


def test_wrong_input_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = folder / "bad.jsonl"
    T5Config().save_pretrained(folder / "t5")
    tune = ["tune", "--model", str(folder / "model"), "--out", str(folder / "o"), "--train"]
    train = str(folder / "train.jsonl")
    SoftPrompt.for_model(tiny_model(), SoftPromptConfig(n_tokens=2)).save(folder / "p")
    evaluate = ["eval", *tune[1:3], "--prompt", str(folder / "p"), "--data", str(bad)]
    cases = [
        ([*tune, str(folder / "none.jsonl")], None, "No such file"),
        ([*tune, str(bad)], '{"prompt": "w1"', "bad.jsonl, line 1: no JSON"),
        ([*tune, str(bad)], "\n", "holds no examples"),
        ([*tune, str(bad)], '\n{"prompt": "w1", "answer": ""}', "bad.jsonl, line 2: the answer"),
        ([*tune, train, "--val", str(bad)], '{"prompt": "w1"}', "bad.jsonl, line 1: it has"),
        ([*evaluate, "--batch-size", "0"], None, "--batch-size is 0; a whole number from 1 up"),
        (evaluate, '{"prompt": "w1"}', "bad.jsonl, line 1: it has the fields"),
        ([*tune, str(bad), "--layers", "9"], '["w1", "w2"]', "layers contains 9"),
        ([*tune, str(bad)], '"ab"', "line 1: 'ab' is no example"),
        ([*tune, str(bad)], '[{"role": "user"}, {"role": "assistant"}]', "has no text"),
        ([*tune, str(bad)], '[{"content": "w1"}, {"role": "assistant"}]', "has no role"),
        ([*tune, str(bad), "--refresh-every", "0"], '["w1", "w2"]', "refresh_every is 0; a"),
        ([*tune, str(bad), "--text", ""], '["w1", "w2"]', "pass text="),
        ([*tune, str(bad), "--device", "moon"], '["w1", "w2"]', "put on device 'moon'"),
        ([*tune, str(bad), "--model", "./moon"], '["w1", "w2"]', "there is no folder ./moon"),
        (
            [*tune, str(bad), "--model", "no/such/model"],
            '["w1", "w2"]',
            "no/such/model is no folder here, and could not be fetched: ",
        ),
        ([*tune, str(bad), "--model", str(folder / "t5")], '["w1", "w2"]', "an encoder-decoder"),
        (["explain", str(folder)], None, "has no history.json"),
    ]
    for arguments, text, expected in cases:
        if text is not None:
            bad.write_text(text)
        assert main(arguments) == 2
        said = capsys.readouterr().err.splitlines()[-1]  # transformers shows bars before it
        assert said.startswith(f"j6 {arguments[0]}: ")
        assert expected in said


def test_marks_and_separators_in_a_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_bytes('\ufeff["w1", "a\u2028b"]\r\n\r\n["w2", "c"]'.encode())
    examples = read_examples(str(file))
    assert examples == [["w1", "a\u2028b"], ["w2", "c"]]
    assert examples.place(1) == f"{file}, line 3"
    file.write_bytes('["w1", "w2"]'.encode("utf-16"))
    with pytest.raises(ValueError, match=r"some\.jsonl is not in UTF-8"):
        read_examples(str(file))


def test_broken_history_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"step": 1, "learning_rate": 0.1, "losses": [1.0], "norms": [1.0], "shares": [[1.0]]}
    history = {
        "objectives": ["factuality", "confidence"],
        "groups": ["h", "w"],
        "weight_names": [],
        "steps": [{**step, "cosines": [[1.0]], "weights": []}],
        "evaluations": [],
        "untuned": None,
    }
    for broken in ({"steps": []}, {**history, "steps": [3]}, {**history, "steps": None}, history):
        (tmp_path / "history.json").write_text(json.dumps(broken))
        assert main(["explain", str(tmp_path)]) == 2
        assert "history.json is no history of a run" in capsys.readouterr().err


def test_other_settings_need_a_restart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["tune", "--model", str(folder / "model"), "--device", "cpu", "--out", str(folder / "o")]
    tune += ["--train", str(folder / "train.jsonl"), "--tokens", "2", "--steps"]
    assert main([*tune, "1"]) == 0
    assert main([*tune, "2"]) == 2
    assert "(max_steps 1 → 2): use another folder" in capsys.readouterr().err
    assert main([*tune, "2", "--restart"]) == 0
    assert "stopped after 2 steps" in capsys.readouterr().out


@pytest.mark.parametrize("looks", [False, True])
def test_a_run_without_one_good_step_writes_nothing(
    looks: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    model.save_pretrained(folder / "model")
    tune = ["tune", "--model", str(folder / "model"), "--device", "cpu", "--out", str(folder / "o")]
    data = ["--train", str(folder / "train.jsonl")]
    data += ["--val", str(folder / "val.jsonl")] if looks else []
    assert main([*tune, *data]) == 1
    said = capsys.readouterr()
    assert "stopped after 0 steps: a loss or gradient became NaN" in said.err
    assert "nothing is written" in said.err
    assert said.out == ""
    assert not list((folder / "o").glob("*.json"))


def test_a_run_broken_off_later_writes_what_it_had(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()
    monkeypatch.setattr("j6.tuner.run.has_diverged", lambda *_: next(calls) == 4)
    tune = ["tune", "--model", str(folder / "model"), "--device", "cpu", "--out", str(folder / "o")]
    assert main([*tune, "--train", str(folder / "train.jsonl"), "--tokens", "2"]) == 1
    assert "the training loss rose far above" in capsys.readouterr().err
    assert main(["explain", str(folder / "o")]) == 0
    assert SoftPrompt.load(folder / "o").n_tokens == 2


def test_a_place_that_cannot_be_written_is_told_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = str(folder / "train.jsonl")
    assert main(["tune", "--model", "./none", "--train", train, "--out", train]) == 2
    assert f"--out is {train}, which cannot be written to" in capsys.readouterr().err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "{tune,eval,explain}" in capsys.readouterr().out
