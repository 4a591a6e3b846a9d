from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from j6 import SoftPrompt, SoftPromptConfig, system_length
from tests.j6._models import tiny_model


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_tokens": 0}, "n_tokens is 0; at least 1"),
        ({"position": "middle"}, "position is 'middle'; allowed are 'start'"),
        ({"kind": "prefix"}, "kind is 'prefix'; allowed are 'tokens', 'changes'"),
        ({"init": "zeros"}, "init is 'zeros'; allowed are"),
        ({"init": "text"}, "pass text="),
        ({"kind": "changes"}, "pass text="),
        ({"text": "hello"}, "pass init='text'"),
    ],
)
def test_settings_that_contradict_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SoftPromptConfig(**arguments)


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ((3,), r"layers contains 3, but the model has 3 layers: allowed are -3 to 1"),
        ((-4,), "layers contains -4"),
        ((2,), r"last layer \(2\).*would never be trained"),
        ((-1,), "last layer"),
        ((0, -3), "names a layer twice"),
    ],
)
def test_layers_that_cannot_be_used_are_refused(layers: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SoftPrompt.for_model(tiny_model(), SoftPromptConfig(layers=layers))


def test_one_layer_model_is_refused_with_the_way_out() -> None:
    model = tiny_model(num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"pass layers=\(\)"):
        SoftPrompt.for_model(model)
    assert SoftPrompt.for_model(model, SoftPromptConfig(layers=())).h.shape == (0, 8, 16)


def test_encoder_decoder_is_refused() -> None:
    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with pytest.raises(TypeError, match="T5ForConditionalGeneration is an encoder-decoder"):
        SoftPrompt.for_model(T5ForConditionalGeneration(config))


def test_model_without_inputs_embeds_is_refused() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = tiny_model().config

        def forward(self, input_ids: Tensor) -> Tensor:
            return input_ids

    with pytest.raises(TypeError, match=r"Plain.forward takes no inputs_embeds"):
        SoftPrompt.for_model(Plain())
    with pytest.raises(TypeError, match="Linear has no Hugging Face config"):
        SoftPrompt.for_model(nn.Linear(2, 2))


def test_compiled_model_is_refused_with_the_way_out() -> None:
    compiled: Any = torch.compile(tiny_model(), backend="eager")
    with pytest.raises(TypeError, match=r"torch\.compile\(soft_prompt\)"):
        SoftPrompt.for_model(compiled)


def test_projected_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="embeddings of width 8 and a residual stream of width 16"):
        SoftPrompt.for_model(tiny_model("opt", word_embed_proj_dim=8))


def test_text_start_without_tokenizer_is_refused() -> None:
    config = SoftPromptConfig(init="text", text="be right")
    with pytest.raises(ValueError, match="pass the model's tokenizer"):
        SoftPrompt.for_model(tiny_model(), config)


def test_texts_of_the_wrong_length_are_refused() -> None:
    def tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [5] * len(text.split())}

    config = SoftPromptConfig(kind="changes", text="be right", n_tokens=3)
    with pytest.raises(ValueError, match="n_tokens is 3 but text has 2 tokens"):
        SoftPrompt.for_model(tiny_model(), config, tokenizer)
    with pytest.raises(ValueError, match="has no tokens"):
        SoftPrompt.for_model(tiny_model(), SoftPromptConfig(init="text", text=" "), tokenizer)


def test_model_of_another_width_is_refused() -> None:
    soft_prompt = SoftPrompt.for_model(tiny_model())
    with pytest.raises(ValueError, match="width 16 against 32"):
        soft_prompt.attach(tiny_model(hidden_size=32, head_dim=16))


def test_batches_that_do_not_fit_are_refused() -> None:
    model = tiny_model()
    ids = torch.full((2, 5), 7)
    soft_prompt = SoftPrompt.for_model(model)
    with soft_prompt.attached(model):
        with pytest.raises(ValueError, match=r"\[2, 5\] and attention_mask \[2, 4\]"):
            soft_prompt(ids, torch.ones(2, 4))
        with pytest.raises(ValueError, match=r"\[5\] and attention_mask \[5\]"):
            soft_prompt(ids[0])
        with pytest.raises(ValueError, match=r"60 tokens and 8 virtual tokens do not fit.*64"):
            soft_prompt(torch.full((1, 60), 7))
        with pytest.raises(ValueError, match=r"insert_at is \[1, 6\] for rows of \[5, 5\] tokens"):
            soft_prompt(ids, insert_at=torch.tensor([1, 6]))
        with pytest.raises(ValueError, match=r"insert_at is \[1\] for rows"):
            soft_prompt(ids, insert_at=torch.tensor([1]))
        with pytest.raises(ValueError, match="use_cache is False"):
            soft_prompt.generate(ids, use_cache=False)
        with pytest.raises(ValueError, match="assistant_model is given"):
            soft_prompt.generate(ids, assistant_model=tiny_model())


def test_after_system_needs_the_place() -> None:
    model = tiny_model()
    soft_prompt = SoftPrompt.for_model(model, SoftPromptConfig(position="after_system"))
    with soft_prompt.attached(model), pytest.raises(ValueError, match=r"j6\.system_length"):
        soft_prompt(torch.full((1, 4), 7))


class ChatTokenizer:
    """One id per word of a rendered chat."""

    bos_token_id = 1

    def __init__(self, folds_system: bool = False) -> None:
        self.folds_system = folds_system

    def apply_chat_template(
        self, messages: list[dict[str, str]], tokenize: bool, return_dict: bool
    ) -> list[int]:
        from jinja2 import TemplateError

        if self.folds_system and len(messages) == 1:
            raise TemplateError("a user turn is needed")
        text = " ".join(f"<{m['role']}> {m['content']} </>" for m in messages)
        return [1, *(sum(map(ord, word)) for word in text.split())]


def test_system_length_counts_the_whole_turn() -> None:
    user = {"role": "user", "content": "hello there"}
    system = {"role": "system", "content": "be brief"}
    assert system_length(ChatTokenizer(), [system, user]) == 5
    assert system_length(ChatTokenizer(), [user]) == 1
    with pytest.raises(ValueError, match=r"a user turn is needed.*position='after_bos'"):
        system_length(ChatTokenizer(folds_system=True), [system, user])
