"""Models that are quantised, or spread over several devices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from j6 import J6Tuner
from j6.cli import main
from j6.commands import load_model
from j6.soft_prompt.anatomy import Anatomy
from j6.soft_prompt.attachment import Insertion, _add_at
from j6.soft_prompt.placement import insert_tokens
from tests.j6._models import tiny_model
from tests.j6._tasks import HELD_OUT, PAIRS, tokenizer
from tests.j6.test_soft_prompt import batch
from tests.j6.test_tuner import CONFIG


def test_what_is_added_goes_to_the_device_it_is_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands for another one than that of the ids and the prompt."""
    embeds, hidden = (torch.zeros(2, n, 8, device="meta") for n in (4, 7))
    mask = torch.ones(2, 4, dtype=torch.long)
    prompted = insert_tokens(embeds, mask, torch.zeros(3, 8), torch.tensor([1, 2]))
    assert prompted.inputs_embeds.device == embeds.device
    assert prompted.virtual.device.type == "cpu"

    def scatter_add(*arguments: Any) -> Any:
        assert {a.device for a in arguments if isinstance(a, Tensor)} == {hidden.device}
        return hidden

    monkeypatch.setattr(torch, "scatter_add", scatter_add)
    _add_at(hidden, Insertion(prompted.virtual, 7, torch.zeros(1, 3, 8)), 0)


def test_an_offloaded_embedding_is_refused() -> None:
    with pytest.raises(ValueError, match="embedding is offloaded"):
        Anatomy.of(tiny_model().to("meta"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model, large enough for blocks of 64 weights."""
    model = tiny_model(hidden_size=64, intermediate_size=128, head_dim=32)
    model.save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "w1 w2", "answer": "w3"}\n')
    return tmp_path


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_placed_model_stays_where_it_is(
    device: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    moves = []
    load = transformers.AutoModelForCausalLM.from_pretrained

    def loaded(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        model.to = lambda *a: moves.append(a)  # not before: transformers 4 moves it itself
        return model

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loaded)
    arguments = argparse.Namespace(
        model=str(folder / "model"), dtype="auto", bits=None, device=device
    )
    if device == "cpu":
        with pytest.raises(AttributeError):  # of what the replaced method returned
            load_model(arguments)
        assert moves == [("cpu",)]
    else:
        load_model(arguments)
        assert moves == []


@pytest.fixture(params=[8, 4])
def bits(request: pytest.FixtureRequest) -> int:
    pytest.importorskip("accelerate")
    pytest.importorskip("bitsandbytes")
    return int(request.param)


def quantised(folder: Path, bits: int) -> Any:
    arguments = argparse.Namespace(
        model=str(folder / "model"), dtype="auto", bits=bits, device="cpu"
    )
    return load_model(arguments)[0]


@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast:UserWarning")
def test_quantised_models_are_tuned_and_generate(bits: int, folder: Path) -> None:
    model = quantised(folder, bits)
    assert any(not p.is_floating_point() for p in model.parameters())
    ids, mask = batch("left")
    for _ in range(2):  # a forward pass and a generation without gradient lie in between
        result = J6Tuner(model, tokenizer(), CONFIG).fit(PAIRS, validation=HELD_OUT, progress=False)
        losses = [step.losses[0] for step in result.history.steps]
        assert len(losses) == CONFIG.max_steps
        assert min(losses) < losses[0]
        with result.soft_prompt.attached(model), torch.no_grad():
            found = result.soft_prompt.generate(
                ids, mask, max_new_tokens=3, do_sample=False, eos_token_id=None
            )
            for _ in range(3):
                token = result.soft_prompt(ids, mask).logits[:, -1].argmax(-1, keepdim=True)
                ids, mask = torch.cat([ids, token], 1), torch.cat([mask, mask[:, :1] | 1], 1)
        assert torch.equal(found, ids[:, -3:])
        ids, mask = ids[:, :-3], mask[:, :-3]


@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast:UserWarning")
def test_a_prompt_goes_from_a_quantised_model_to_the_whole_one(bits: int, folder: Path) -> None:
    result = J6Tuner(quantised(folder, bits), tokenizer(), CONFIG).fit(PAIRS, progress=False)
    whole = load_model(
        argparse.Namespace(model=str(folder / "model"), dtype="auto", bits=None, device="cpu")
    )[0]
    with result.soft_prompt.attached(whole):
        pass  # what can be compared is equal: no warning


@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast:UserWarning")
def test_command_line_with_a_model_saved_quantised(bits: int, folder: Path) -> None:
    quantised(folder, bits).save_pretrained(folder / "small")
    tokenizer().save_pretrained(folder / "small")
    for model in (
        ["--model", str(folder / "small")],
        ["--model", str(folder / "model"), "--bits", str(bits)],
    ):
        out = str(folder / f"prompt-{len(model)}")
        data = str(folder / "pairs.jsonl")
        common = [*model, "--device", "cpu"]
        assert main(["tune", *common, "--train", data, "--out", out, "--steps", "2"]) == 0
        assert main(["eval", *common, "--prompt", out, "--data", data]) == 0
