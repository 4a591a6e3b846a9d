from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from j6 import SoftPrompt, SoftPromptConfig
from tests.j6._models import ARCHITECTURES, BOS, PAD, switch_on_checkpointing, tiny_model

TOLERANCE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-4}


def prompt_for(model: Any, **config: Any) -> SoftPrompt:
    """A soft prompt with h away from 0."""
    config = {"n_tokens": 3, "layers": (0, 1), **config}
    soft_prompt = SoftPrompt.for_model(model, SoftPromptConfig(**config))
    torch.manual_seed(1)
    with torch.no_grad():
        soft_prompt.h.normal_()
    return soft_prompt


def batch(side: str = "right", lengths: tuple[int, ...] = (7, 4, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.full((len(lengths), max(lengths)), PAD)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        columns = slice(0, length) if side == "right" else slice(max(lengths) - length, None)
        ids[row, columns] = torch.randint(3, 60, (length,), generator=generator)
        ids[row, columns][0] = BOS
        mask[row, columns] = 1
    return ids, mask


def by_hand(model: Any, soft_prompt: SoftPrompt, ids: Tensor, place: int) -> Tensor:
    """Logits of one unpadded row, with the decoder layers changed in the plainest way."""
    embeds = model.get_input_embeddings()(ids[None])
    virtual = soft_prompt.w * soft_prompt.w_scale + soft_prompt.base
    embeds = torch.cat([embeds[:, :place], virtual[None], embeds[:, place:]], dim=1)
    additions = dict(zip(soft_prompt.config.layers or (), soft_prompt.h, strict=True))
    scales = dict(zip(soft_prompt.config.layers or (), soft_prompt.h_scale, strict=True))
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    blocks = next(m for m in lists if len(m) == 3)
    originals = [block.forward for block in blocks]
    for layer, block in enumerate(blocks):
        if layer in additions:

            def changed(
                *args: Any, _forward: Any = block.forward, _layer: int = layer, **kwargs: Any
            ) -> Any:
                output = _forward(*args, **kwargs)
                hidden = (output[0] if isinstance(output, tuple) else output).clone()
                hidden[:, place : place + len(virtual)] += additions[_layer] * scales[_layer]
                return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

            block.forward = changed
    try:
        return model(inputs_embeds=embeds).logits[0]  # type: ignore[no-any-return]
    finally:
        for block, original in zip(blocks, originals, strict=True):
            block.forward = original


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("position", ["start", "after_bos", "end"])
def test_same_logits_as_a_hand_written_forward(name: str, side: str, position: str) -> None:
    model = tiny_model(name)
    soft_prompt = prompt_for(model, position=position)
    ids, mask = batch(side)
    with soft_prompt.attached(model), torch.no_grad():
        prompted = soft_prompt.insert(ids, mask)
        logits = soft_prompt(ids, mask).logits
    for row in range(len(ids)):
        tokens = ids[row][mask[row] == 1]
        place = {"start": 0, "after_bos": 1, "end": len(tokens)}[position]
        with torch.no_grad():
            expected = by_hand(model, soft_prompt, tokens, place)
        found = logits[row][prompted.attention_mask[row] == 1]
        torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_generation_has_the_logits_of_a_full_forward(name: str, side: str) -> None:
    model = tiny_model(name)
    soft_prompt = prompt_for(model)
    ids, mask = batch(side)
    with soft_prompt.attached(model), torch.no_grad():
        out = soft_prompt.generate(
            ids,
            mask,
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        steps = torch.stack(out.logits, dim=1)  # [B, 5, V]
        assert out.sequences.shape == (3, 5)
        for row in range(len(ids)):
            tokens = torch.cat([ids[row][mask[row] == 1], out.sequences[row]])
            full = soft_prompt(tokens[None]).logits[0, -6:-1]
            torch.testing.assert_close(steps[row], full, **TOLERANCE)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("how", ["beams", "sampling", "beams and several", "static cache"])
def test_ways_to_generate(name: str, how: str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "beams": {"num_beams": 3, "do_sample": False},
        "sampling": {"do_sample": True, "top_k": 20, "num_return_sequences": 2},
        "beams and several": {"num_beams": 4, "num_return_sequences": 2, "do_sample": False},
        "static cache": {"cache_implementation": "static", "do_sample": False},
    }
    arguments = ways[how] | {"max_new_tokens": 4, "min_new_tokens": 4}
    if how == "static cache":
        arguments["disable_compile"] = True
    model = tiny_model(name)
    soft_prompt = prompt_for(model)
    ids, mask = batch("right")
    with soft_prompt.attached(model):
        torch.manual_seed(0)
        together = soft_prompt.generate(ids, mask, **arguments)
        if how == "sampling":
            assert together.shape == (6, 4)
            return
        copies = arguments.get("num_return_sequences", 1)
        for row in range(len(ids)):
            alone = soft_prompt.generate(ids[row : row + 1, : int(mask[row].sum())], **arguments)
            assert torch.equal(alone, together[row * copies : (row + 1) * copies])


def test_direct_calls_of_the_model_carry_the_prompt() -> None:
    model = tiny_model()
    soft_prompt = prompt_for(model)
    ids, mask = batch()
    labels = ids.masked_fill(mask == 0, -100)
    with soft_prompt.attached(model):
        through = soft_prompt(ids, mask, labels=labels)
        for direct in (
            model(ids, mask, labels=labels),
            model(input_ids=ids, attention_mask=mask, labels=labels),
        ):
            torch.testing.assert_close(direct.logits, through.logits)
            torch.testing.assert_close(direct.loss, through.loss)
        with pytest.raises(RuntimeError, match=r"soft_prompt.generate\(\)"):
            model.generate(ids, attention_mask=mask, max_new_tokens=2)
        with pytest.raises(RuntimeError, match="brings its own embeddings"):
            model(inputs_embeds=torch.zeros(1, 4, 16))
        soft_prompt(ids, mask)
        with pytest.raises(RuntimeError, match="not a part of it"):
            model.model(ids)


def test_detached_cleanly() -> None:
    model = tiny_model()
    ids, mask = batch()
    before = model(ids, attention_mask=mask).logits
    names = set(model.state_dict())
    soft_prompt = prompt_for(model)
    with soft_prompt.attached(model):
        assert not torch.equal(soft_prompt(ids, mask).logits[:, 3:], before)
        with soft_prompt.disabled():
            assert torch.equal(model(ids, attention_mask=mask).logits, before)
    assert torch.equal(model(ids, attention_mask=mask).logits, before)
    assert set(model.state_dict()) == names
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(RuntimeError, match="not attached"):
        soft_prompt(ids, mask)


def test_parameters_are_w_and_h_alone_while_attached() -> None:
    model = tiny_model()
    soft_prompt = prompt_for(model).attach(model)
    assert {name for name, _ in soft_prompt.named_parameters()} == {"w", "h"}
    with pytest.raises(RuntimeError, match="attached to a model already"):
        soft_prompt.attach(model)


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    model = tiny_model(name, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    soft_prompt = prompt_for(model)
    ids, mask = batch()

    def gradients() -> tuple[Tensor, ...]:
        loss = soft_prompt(ids, mask, labels=ids, use_cache=False).loss
        with soft_prompt.disabled():
            model(ids)  # another pass before the backward one must not matter
        return torch.autograd.grad(loss, [soft_prompt.h, soft_prompt.w])

    with soft_prompt.attached(model):
        expected = gradients()
        model.train()
        switch_on_checkpointing(model)
        for found, plain in zip(gradients(), expected, strict=True):
            torch.testing.assert_close(found, plain)


def test_leaves_per_example_give_gradients_per_example() -> None:
    model = tiny_model()
    soft_prompt = prompt_for(model)
    ids, mask = batch()
    h, w = soft_prompt.leaves()
    leaves = type(soft_prompt.leaves())(
        h.detach()[:, None].repeat(1, 3, 1, 1).requires_grad_(),
        w.detach()[None].repeat(3, 1, 1).requires_grad_(),
    )
    with soft_prompt.attached(model):
        loss = soft_prompt(ids, mask, leaves=leaves).logits.square().sum()
        dh, dw = torch.autograd.grad(loss, leaves)
        for row in range(3):
            logits = soft_prompt(ids[row : row + 1], mask[row : row + 1]).logits
            own = torch.autograd.grad(logits.square().sum(), [h, w])
            torch.testing.assert_close(dh[:, row], own[0], **TOLERANCE)
            torch.testing.assert_close(dw[row], own[1], **TOLERANCE)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bfloat16(name: str) -> None:
    model = tiny_model(name)
    soft_prompt = prompt_for(model)
    ids, mask = batch()
    with soft_prompt.attached(model), torch.no_grad():
        exact = soft_prompt(ids, mask).logits
    model = model.to(torch.bfloat16)
    with soft_prompt.attached(model):
        logits = soft_prompt(ids, mask).logits
        grads = torch.autograd.grad(logits.float().square().mean(), [soft_prompt.h, soft_prompt.w])
        generated = soft_prompt.generate(ids, mask, max_new_tokens=2)
    assert logits.dtype == torch.bfloat16
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.any() for g in grads)
    assert generated.shape[0] == 3
    cosine = torch.nn.functional.cosine_similarity(logits.float().flatten(), exact.flatten(), dim=0)
    assert cosine > 0.98


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_torch_compile(name: str) -> None:
    model = tiny_model(name)
    soft_prompt = prompt_for(model)
    ids, mask = batch()
    with soft_prompt.attached(model):
        expected = soft_prompt(ids, mask, use_cache=False).logits
        compiled = torch.compile(soft_prompt, backend="aot_eager")
        logits = compiled(ids, mask, use_cache=False).logits
        torch.testing.assert_close(logits, expected, **TOLERANCE)
        grads = torch.autograd.grad(logits.square().sum(), [soft_prompt.h, soft_prompt.w])
        plain = torch.autograd.grad(expected.square().sum(), [soft_prompt.h, soft_prompt.w])
        for a, b in zip(grads, plain, strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["tokens", "changes"])
def test_start_from_text_is_the_text(kind: Any) -> None:
    class Tokenizer:
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [10 + len(word) for word in text.split()]}

    model = tiny_model("gemma3")
    config = SoftPromptConfig(kind=kind, init="text", text="be brief and right", position="start")
    soft_prompt = SoftPrompt.for_model(model, config, Tokenizer())
    ids, _ = batch()
    with soft_prompt.attached(model), torch.no_grad():
        found = soft_prompt(ids[:1]).logits
    words = torch.tensor([[12, 15, 13, 15]])
    expected = model(torch.cat([words, ids[:1]], dim=1)).logits
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert soft_prompt.n_tokens == 4
    assert bool(soft_prompt.w.any()) == (kind == "tokens")
    if kind == "tokens":
        longer = SoftPromptConfig(n_tokens=6, init="text", text="be brief and right")
        rows = SoftPrompt.for_model(model, longer, Tokenizer()).w
        torch.testing.assert_close(rows[4:], rows[:2])


def test_random_start_has_the_vocabularys_size() -> None:
    soft_prompt = prompt_for(tiny_model(), init="random", n_tokens=40)
    assert 0.9 < soft_prompt.w.std() < 1.1
    again = prompt_for(tiny_model(), init="random", n_tokens=40)
    assert torch.equal(soft_prompt.w, again.w)


def test_middle_layer_is_the_default() -> None:
    assert SoftPrompt.for_model(tiny_model()).config.layers == (1,)
    assert SoftPrompt.for_model(tiny_model(), SoftPromptConfig(layers=(-2, 0))).config.layers == (
        0,
        1,
    )


def test_masks_of_any_type_and_places_in_a_list_will_do() -> None:
    model = tiny_model()
    soft_prompt = prompt_for(model)
    ids, mask = batch()
    with soft_prompt.attached(model), torch.no_grad():
        expected = soft_prompt(ids, mask).logits
        for kind in (torch.bool, torch.float32):
            torch.testing.assert_close(soft_prompt(ids, mask.to(kind)).logits, expected)
        places = soft_prompt.insert(ids, mask, torch.ones(len(ids), dtype=torch.long))
        assert soft_prompt.insert(ids, mask, [1] * len(ids)).virtual.equal(places.virtual)


def test_a_prompt_may_stand_alone() -> None:
    model = tiny_model()
    soft_prompt = prompt_for(model)
    with soft_prompt.attached(model):
        new = soft_prompt.generate(torch.zeros(2, 0, dtype=torch.long), max_new_tokens=2)
    assert new.shape == (2, 2)
