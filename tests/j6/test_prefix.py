from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from j6 import J6Tuner, SoftPromptConfig
from j6.examples import EncodedExample, collate
from j6.objectives import resolve_objectives
from j6.tuner import tuner as tuner_module
from j6.tuner.answers import AnswerRunner, frozen
from j6.tuner.prefix import PrefixCache, common_prefix, without_prefix
from tests.j6._models import ARCHITECTURES, tiny_model
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
    monkeypatch.setattr(tuner_module, "common_prefix", lambda *_: 0)
    plain = run()
    torch.testing.assert_close(
        torch.tensor(losses(cached)), torch.tensor(losses(plain)), atol=1e-3, rtol=1e-3
    )
    assert cached.before is not None
    assert plain.before is not None
    assert cached.before.nll == pytest.approx(plain.before.nll, rel=1e-4)
