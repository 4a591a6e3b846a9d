from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from j6 import J6Tuner, SoftPrompt, SoftPromptConfig, export_peft, import_peft
from tests.j6._models import ARCHITECTURES, tiny_model
from tests.j6._tasks import PAIRS, tokenizer
from tests.j6.test_soft_prompt import batch, prompt_for
from tests.j6.test_tuner import CONFIG

# PEFT 0.21 still asks transformers under the old name.
peft_asks = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    model = tiny_model(name)
    soft_prompt = prompt_for(model)
    soft_prompt.save(tmp_path / "a" / "b")
    loaded = SoftPrompt.load(tmp_path / "a" / "b")
    assert loaded.config == soft_prompt.config
    ids, mask = batch()
    with soft_prompt.attached(model):
        expected = soft_prompt(ids, mask).logits
    with loaded.attached(model):
        assert torch.equal(loaded(ids, mask).logits, expected)
    assert {p.name for p in (tmp_path / "a" / "b").iterdir()} == {
        "soft_prompt.safetensors",
        "soft_prompt.json",
    }


def test_same_model_in_half_precision_is_accepted(tmp_path: Path) -> None:
    prompt_for(tiny_model()).save(tmp_path)
    model = tiny_model().to(torch.bfloat16)
    with SoftPrompt.load(tmp_path).attached(model):
        pass


def test_another_model_is_refused(tmp_path: Path) -> None:
    prompt_for(tiny_model()).save(tmp_path)
    loaded = SoftPrompt.load(tmp_path)
    for other, match in (
        (tiny_model(seed=1), "the values of the embedding"),
        (tiny_model("mistral"), "model_type llama against mistral"),
        (tiny_model(num_hidden_layers=4), "n_layers 3 against 4"),
    ):
        with pytest.raises(ValueError, match=f"made for 'LlamaForCausalLM'.*{match}"):
            loaded.attach(other)


def fine_tuned(model: Any) -> Any:
    """A change of one layer alone, which leaves the embedding as it was."""
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1.05)
    return model


def test_a_fine_tune_is_warned_of(tmp_path: Path) -> None:
    prompt_for(tiny_model()).save(tmp_path)
    loaded = SoftPrompt.load(tmp_path)
    match = r"other values in 1 parameters \(model\.layers\.1\.mlp\.down_proj\.weight, …\)"
    with pytest.warns(UserWarning, match=match):
        loaded.attach(fine_tuned(tiny_model()))
    loaded.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_number_formats_are_not_taken_for_fine_tunes(dtype: torch.dtype) -> None:
    soft_prompt = prompt_for(tiny_model().to(torch.float16))
    with soft_prompt.attached(tiny_model().to(dtype)):
        pass  # warnings are errors


def test_prompts_saved_before_parameters_were_sampled_load(tmp_path: Path) -> None:
    prompt_for(tiny_model()).save(tmp_path)
    path = tmp_path / "soft_prompt.json"
    description = json.loads(path.read_text())
    del description["model"]["parameters"]
    path.write_text(json.dumps(description))
    with SoftPrompt.load(tmp_path).attached(fine_tuned(tiny_model())):
        pass


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no soft_prompt\.json"):
        SoftPrompt.load(tmp_path)
    prompt_for(tiny_model()).save(tmp_path)
    tensors, description = tmp_path / "soft_prompt.safetensors", tmp_path / "soft_prompt.json"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"soft_prompt\.safetensors is broken"):
        SoftPrompt.load(tmp_path)
    text = description.read_text()
    description.write_text(json.dumps({**json.loads(text), "format": 9}))
    with pytest.raises(ValueError, match="has format 9; this version reads format 1"):
        SoftPrompt.load(tmp_path)
    tensors.write_bytes(whole)
    for broken in ({"format": 1}, {**json.loads(text), "model": {}}):
        description.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=r"soft_prompt\.json is broken"):
            SoftPrompt.load(tmp_path)
    description.write_text(text[:30])
    with pytest.raises(ValueError, match="is no JSON file"):
        SoftPrompt.load(tmp_path)


def test_nan_is_not_saved(tmp_path: Path) -> None:
    soft_prompt = prompt_for(tiny_model())
    soft_prompt.save(tmp_path)
    before = (tmp_path / "soft_prompt.safetensors").read_bytes()
    with torch.no_grad():
        soft_prompt.h[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="h holds NaN or infinity"):
        soft_prompt.save(tmp_path)
    assert (tmp_path / "soft_prompt.safetensors").read_bytes() == before


@peft_asks
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_peft_runs_what_we_export(name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = tiny_model(name)
    config = SoftPromptConfig(n_tokens=3, layers=(), position="start")
    soft_prompt = SoftPrompt.for_model(model, config)
    export_peft(soft_prompt, tmp_path)
    ids, mask = batch("right")
    with soft_prompt.attached(model), torch.no_grad():
        expected = soft_prompt(ids, mask).logits
    adapted = peft.PeftModel.from_pretrained(tiny_model(name), tmp_path)
    with torch.no_grad():
        found = adapted(input_ids=ids, attention_mask=mask).logits
    real = torch.cat([torch.ones(3, 3, dtype=torch.bool), mask == 1], dim=1)
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-4)


@peft_asks
def test_we_run_what_peft_saves(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapted = peft.get_peft_model(tiny_model(), config)
    adapted.save_pretrained(tmp_path)
    ids, _ = batch(lengths=(6, 6))
    with torch.no_grad():
        expected = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    model = tiny_model()
    soft_prompt = import_peft(tmp_path, model)
    with soft_prompt.attached(model), torch.no_grad():
        found = soft_prompt(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert import_peft(tmp_path, model, layers=(1,)).h.shape == (1, 4, 16)


def test_what_peft_cannot_hold_is_said(tmp_path: Path) -> None:
    soft_prompt = prompt_for(tiny_model())
    with (
        pytest.warns(UserWarning, match="h is left out"),
        pytest.warns(UserWarning, match="not 'after_bos'"),
    ):
        export_peft(soft_prompt, tmp_path)


def test_other_adapters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "CAUSAL_LM"}')
    with pytest.raises(ValueError, match="holds a LORA adapter"):
        import_peft(tmp_path, tiny_model())


def test_a_broken_adapter_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    config = SoftPromptConfig(n_tokens=2, layers=(), position="start")
    export_peft(SoftPrompt.for_model(model, config), tmp_path)
    tensors = tmp_path / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is broken"):
        import_peft(tmp_path, model)


@peft_asks
def test_an_adapter_with_a_prompt_of_its_own_is_refused() -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapted = peft.get_peft_model(tiny_model(), config)
    with pytest.raises(TypeError, match=r"adapter of type PROMPT_TUNING.*j6\.import_peft"):
        SoftPrompt.for_model(adapted)


def with_lora(model: Any) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    return peft.get_peft_model(model, config)


@peft_asks
def test_a_model_with_lora_takes_a_soft_prompt() -> None:
    adapted = with_lora(tiny_model())
    ids, mask = batch()
    soft_prompt = prompt_for(adapted)
    base = adapted.get_base_model()
    with soft_prompt.attached(base), adapted.disable_adapter(), torch.no_grad():
        expected = soft_prompt(ids, mask).logits  # LoRA starts at 0
    with soft_prompt.attached(adapted), torch.no_grad():
        torch.testing.assert_close(soft_prompt(ids, mask).logits, expected)
        assert soft_prompt.generate(ids, mask, max_new_tokens=2).shape == (3, 2)
        with pytest.raises(RuntimeError, match="PeftModelForCausalLM passes its model by"):
            adapted(input_ids=ids)
    result = J6Tuner(adapted, tokenizer(), CONFIG).fit(PAIRS, progress=False)
    assert result.history.steps


@peft_asks
def test_a_model_with_lora_and_its_base_are_told_apart() -> None:
    adapted, base = with_lora(tiny_model()), tiny_model()
    for made_for, other in ((adapted, base), (base, adapted)):
        soft_prompt = prompt_for(made_for)
        with pytest.warns(UserWarning, match=r"one has them and the other not.*with LoRA"):
            soft_prompt.attach(other)
        soft_prompt.detach()


def test_parameters_that_cannot_be_read_are_not_compared() -> None:
    model = tiny_model()
    layer = model.model.layers[1].mlp.down_proj
    soft_prompt = prompt_for(model)
    codes = torch.zeros(3, dtype=torch.uint8)  # stands for a quantised weight
    layer.weight = torch.nn.Parameter(codes, requires_grad=False)
    soft_prompt.attach(model)  # warnings are errors


def test_what_an_older_fingerprint_leaves_out_of_a_quantised_model_is_no_change() -> None:
    now = SoftPrompt.for_model(tiny_model()).made_for
    unreadable = next(iter(now.parameters))
    known = {name: values for name, values in now.parameters.items() if name != unreadable}
    older = replace(now, parameters=known)
    quantised = replace(now, parameters={**known, unreadable: ()})
    for one, two in ((older, quantised), (quantised, older)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one.check(two)
