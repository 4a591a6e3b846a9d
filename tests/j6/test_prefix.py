from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoConfig, Lfm2Config, MptConfig

from j6 import J6Tuner, SoftPromptConfig
from j6.examples import EncodedExample, collate
from j6.objectives import resolve_objectives
from j6.tuner import shared as shared_module
from j6.tuner.answers import AnswerRunner, frozen
from j6.tuner.prefix import PrefixCache, common_prefix, without_prefix
from j6.tuner.shared import shared_prefix
from tests.j6._models import ARCHITECTURES, GATED, tiny_model
from tests.j6._tasks import tokenizer
from tests.j6.test_soft_prompt import TOLERANCE, prompt_for
from tests.j6.test_tuner import CONFIG, losses

SYSTEM = (1, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29)
EXAMPLES = [
    EncodedExample((*SYSTEM, 30, 31), (32, 2), 11),
    EncodedExample((*SYSTEM, 33), (34, 35, 36, 2), 12),
    EncodedExample((*SYSTEM, 37, 38, 39), (40, 2), 13),
]


def test_common_prefix_ends_before_the_soft_prompt_and_leaves_a_token() -> None:
    assert common_prefix(EXAMPLES) == 11
    assert common_prefix([replace(e, insert_at=6) for e in EXAMPLES]) == 6
    assert common_prefix([replace(e, insert_at=3) for e in EXAMPLES]) == 0
    assert common_prefix([EncodedExample(SYSTEM, (2,), 11)]) == 10
    assert common_prefix(EXAMPLES, window=16) == 11
    assert common_prefix(EXAMPLES, window=15) == 0
    assert without_prefix(EXAMPLES[1], 11) == EncodedExample((33,), (34, 35, 36, 2), 1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cached_prefix_changes_no_loss_and_no_gradient(name: str) -> None:
    model = tiny_model(name)
    if getattr(model.config, "sliding_window", None) is not None:
        model = tiny_model(name, sliding_window=40)
    soft_prompt = prompt_for(model)
    objectives = resolve_objectives(["factuality", "stay_close"])
    leaves = list(soft_prompt.leaves())
    with soft_prompt.attached(model), frozen(model):
        expected = AnswerRunner(soft_prompt, model).losses(collate(EXAMPLES), objectives)
        with soft_prompt.disabled():
            prefix = PrefixCache(model, torch.tensor(SYSTEM))
        runner = AnswerRunner(soft_prompt, model, prefix)
        rest = collate([without_prefix(e, prefix.length) for e in EXAMPLES])
        for _ in range(2):  # a batch must not leave anything in the cache
            found = runner.losses(rest, objectives)
            torch.testing.assert_close(found, expected, **TOLERANCE)
        plain = torch.autograd.grad(expected.sum(), leaves)
        for a, b in zip(torch.autograd.grad(found.sum(), leaves), plain, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_tuner_runs_a_shared_prefix_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"w1 w2 w3 w4 w5 w{i}", f"w{2 * i}") for i in range(6, 14)]
    config = replace(CONFIG, prompt=SoftPromptConfig(n_tokens=3, position="end"))

    def run() -> Any:
        model = tiny_model("qwen3")
        return J6Tuner(model, tokenizer(), config).fit(pairs, validation=pairs, progress=False)

    cached = run()
    monkeypatch.setattr(shared_module, "common_prefix", lambda *_: 0)
    plain = run()
    torch.testing.assert_close(
        torch.tensor(losses(cached)), torch.tensor(losses(plain)), atol=1e-3, rtol=1e-3
    )
    assert cached.before is not None
    assert plain.before is not None
    assert cached.before.nll == pytest.approx(plain.before.nll, rel=1e-4)


def unusual_model(name: str) -> Any:
    """Models whose cache cannot be used here: by columns, in windows, with convolutions."""
    if name == "mpt":
        config: Any = MptConfig(vocab_size=61, d_model=16, n_layers=3, n_heads=2, max_seq_len=64)
    elif name == "gpt_neo":
        config = GPTNeoConfig(
            vocab_size=61,
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            attention_types=[[["global", "local"], 1]],
            window_size=8,
            max_position_embeddings=64,
        )
    else:
        config = Lfm2Config(**GATED, layer_types=["conv", "full_attention", "conv"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    return model


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mpt", "a cache changes the answers"),
        ("gpt_neo", "a cache changes the answers"),
        ("lfm2", "AttributeError"),
    ],
)
def test_a_cache_that_would_be_wrong_is_not_used(
    name: str, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = "w1 w2 w3 w4 w5"
    pairs = [(f"{start} w6", "w7"), (f"{start} w8 w9 w10 w11 w12 w13 w14 w15", "w16")]
    prompt = SoftPromptConfig(n_tokens=2, position="end")
    config = replace(CONFIG, prompt=prompt, max_steps=1, batch_size=2)

    def run() -> list[float]:
        tuner = J6Tuner(unusual_model(name), tokenizer(), config)
        result = tuner.fit(pairs, validation=pairs, progress=False)
        assert result.before is not None
        return [result.before.nll, *losses(result)[0]]

    with caplog.at_level("INFO", logger="j6"):
        found = run()
    assert why in caplog.text
    monkeypatch.setattr(shared_module, "common_prefix", lambda *_: 0)
    assert found == pytest.approx(run(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_rounding_does_not_keep_a_cache_from_being_used(name: str, dtype: torch.dtype) -> None:
    wide = {"sliding_window": 40} if name == "gemma3" else {}
    model = tiny_model(name, **wide).to(dtype)
    soft_prompt = prompt_for(model)
    with soft_prompt.attached(model), frozen(model):
        prefix = shared_prefix(soft_prompt, model, EXAMPLES)
    assert prefix is not None
    assert prefix.length == 11
