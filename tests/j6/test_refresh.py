from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from j6 import J6Config, J6Tuner, J6Update, SoftPrompt, SoftPromptConfig, StopReason
from j6.examples import ExampleEncoder, batch_indices, collate
from j6.objectives import factuality, resolve_objectives
from j6.tuner import shared as shared_module
from j6.tuner.answers import AnswerRunner, frozen
from j6.tuner.history import History
from tests.j6._models import tiny_model
from tests.j6._tasks import PAIRS, tokenizer
from tests.j6._twin import j6_two_by_two
from tests.j6.test_tuner import CONFIG, fit, losses


class Recorder:
    """An update that keeps the Jacobians it is given."""

    def __init__(self, update: Any) -> None:
        self.update = update
        self.seen: list[Tensor] = []

    def __call__(self, jacobian: Tensor) -> Tensor:
        self.seen.append(jacobian.clone())
        direction: Tensor = self.update(jacobian)
        return direction


def fresh_rows(seen: list[Tensor]) -> list[list[int]]:
    """Rows of every Jacobian that are not those of the one before."""
    rows = range(len(seen[0]))
    found = [list(rows)]
    for i in range(1, len(seen)):
        found.append([row for row in rows if not torch.equal(seen[i][row], seen[i - 1][row])])
    return found


def twin(config: J6Config) -> tuple[list[list[float]], SoftPrompt]:
    """The loop by hand: one forward and backward pass for every gradient that is due."""
    model, words = tiny_model(), tokenizer()
    prompt = SoftPrompt.for_model(model, config.prompt, words)
    examples = ExampleEncoder(words, "after_bos", None).encode_all(PAIRS)
    f, c = resolve_objectives(["factuality", "confidence"])
    leaves = [prompt.h, prompt.w]
    adam = torch.optim.Adam(leaves)
    found = []
    with prompt.attached(model), frozen(model):
        runner = AnswerRunner(prompt, model)
        for step in range(1, config.max_steps + 1):
            places = batch_indices(step, config.batch_size, len(examples), config.seed)
            batch = collate([examples[place] for place in places])
            loss_f, loss_c = (runner.losses(batch, [o]).mean() for o in (f, c))
            found.append([loss_f.item(), loss_c.item()])
            h, w = torch.autograd.grad(loss_f, leaves)
            row_f = torch.stack([h.flatten(), w.flatten()])
            if (step - 1) % config.refresh_every == 0:
                h, w = torch.autograd.grad(loss_c, leaves)
                row_c = torch.stack([h.flatten(), w.flatten()])
            d_h, d_w = j6_two_by_two(torch.stack([row_f, row_c]), "gram", 0.3)
            prompt.h.grad = d_h.float().reshape(prompt.h.shape)
            prompt.w.grad = d_w.float().reshape(prompt.w.shape)
            adam.param_groups[0]["lr"] = config.learning_rate_at(step)
            adam.step()
    return found, prompt


@pytest.mark.parametrize("every", [1, 2, 3, 5, 100])
def test_steps_are_those_of_the_loop_by_hand(every: int) -> None:
    config = replace(CONFIG, refresh_every=every)
    result = fit(config, validation=None)
    expected, prompt = twin(config)
    close: dict[str, Any] = {"atol": 1e-3, "rtol": 1e-3}  # Adam blows rounding up
    torch.testing.assert_close(torch.tensor(losses(result)), torch.tensor(expected), **close)
    torch.testing.assert_close(result.soft_prompt.h, prompt.h, **close)
    torch.testing.assert_close(result.soft_prompt.w, prompt.w, **close)
    due = [(step - 1) % every == 0 for step in range(1, 13)]
    assert [step.refreshed for step in result.history.steps] == due


def test_only_what_is_due_is_differentiated() -> None:
    differentiated = []

    def second(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        differentiated.append(logits.requires_grad)
        return logits.square().mean((1, 2))

    config = replace(CONFIG, objectives=("factuality", second), max_steps=5, refresh_every=2)
    result = fit(config, validation=None)
    assert differentiated == [True, False, True, False, True]
    assert len({value for _, value in losses(result)}) == 5  # values are of the step's own batch


def test_the_priority_is_always_fresh() -> None:
    names = ("confidence", "brier", "factuality")
    config = replace(CONFIG, objectives=names, refresh_every=4)
    norms = [step.norms for step in fit(config).history.steps]
    kept, other, priority = (len(set(column)) for column in zip(*norms, strict=True))
    assert (kept, other, priority) == (3, 3, 12)
    assert replace(config, update=J6Update(priority="brier")).fresh_objective() == 1
    assert replace(config, update=J6Update(priority=None)).fresh_objective() == 0
    assert replace(config, update=lambda jacobian: jacobian.mean(0)).fresh_objective() == 0


def test_every_step_descends_the_priority_on_its_own_batch() -> None:
    recorder = Recorder(J6Update())
    fit(replace(CONFIG, update=recorder, refresh_every=3, max_steps=24))
    assert fresh_rows(recorder.seen) == [[0, 1], [0], [0]] * 8
    for jacobian in recorder.seen:
        descent = (J6Update()(jacobian) * jacobian[0]).sum(-1)  # [P]
        assert (descent >= -1e-6 * jacobian[0].norm()).all()


def test_torchjd_aggregators_get_kept_rows() -> None:
    torchjd = pytest.importorskip("torchjd.aggregation")
    from j6.aggregation import AggregatorUpdate

    recorder = Recorder(AggregatorUpdate(torchjd.MGDA()))
    result = fit(replace(CONFIG, update=recorder, refresh_every=2, max_steps=4))
    assert result.stop_reason is StopReason.MAX_STEPS
    assert fresh_rows(recorder.seen) == [[0, 1], [0], [0, 1], [0]]


def test_several_layers_and_objectives_and_one_alone() -> None:
    config = replace(
        CONFIG,
        objectives=("factuality", "stay_close", "brier"),
        prompt=SoftPromptConfig(n_tokens=2, layers=(0, 1)),
        refresh_every=2,
    )
    assert fit(config).stop_reason is StopReason.MAX_STEPS
    alone = replace(CONFIG, objectives=("factuality",))
    result = fit(replace(alone, refresh_every=2))
    assert losses(result) == losses(fit(alone))
    assert all(step.refreshed for step in result.history.steps)


def test_a_constant_objective_changes_nothing() -> None:
    def constant(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return torch.ones(len(logits))

    config = replace(CONFIG, objectives=("factuality", constant))
    assert losses(fit(replace(config, refresh_every=2))) == losses(fit(config))
    last = replace(config, objectives=("factuality", constant, "confidence"), refresh_every=2)
    assert fit(last).stop_reason is StopReason.MAX_STEPS


def test_a_step_without_gradient_is_tried_again_with_all_computed() -> None:
    """The first has a gradient at the first step alone, the second at all others."""
    calls = 0

    def first(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        values = factuality(logits, labels, mask)
        return values if calls == 1 else values.detach()

    def second(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        values = factuality(logits, labels, mask)
        return values.detach() if calls == 1 else values

    config = replace(
        CONFIG,
        objectives=(first, second),
        update=J6Update(priority="first"),
        refresh_every=3,
        max_steps=5,
    )
    result = fit(config, validation=None)
    assert result.stop_reason is StopReason.MAX_STEPS
    assert [step.refreshed for step in result.history.steps] == [True, True, False, True, False]


def test_after_a_cached_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"w1 w2 w3 w4 w5 w{i}", f"w{2 * i}") for i in range(6, 14)]
    prompt = SoftPromptConfig(n_tokens=3, position="end")
    config = replace(CONFIG, prompt=prompt, refresh_every=2)

    def run() -> Tensor:
        tuner = J6Tuner(tiny_model(), tokenizer(), config)
        return torch.tensor(losses(tuner.fit(pairs, progress=False)))

    cached = run()
    monkeypatch.setattr(shared_module, "common_prefix", lambda *_: 0)
    torch.testing.assert_close(cached, run(), atol=1e-3, rtol=1e-3)


def test_older_histories_are_of_runs_that_refreshed_at_every_step() -> None:
    history = fit(replace(CONFIG, max_steps=2)).history
    written = history.to_json()
    for step in written["steps"]:
        del step["refreshed"]
    assert History.from_json(written) == history
