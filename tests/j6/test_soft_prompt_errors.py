from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    CLIPVisionConfig,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    LlamaPreTrainedModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MambaForCausalLM,
    MptConfig,
    MptForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from j6 import J6Config, J6Update, SoftPrompt, SoftPromptConfig, system_length
from j6.soft_prompt.anatomy import Anatomy
from tests.j6._models import COMMON, GATED, tiny_model


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_tokens": 0}, "n_tokens is 0; a whole number from 1 up"),
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
    ("arguments", "match"),
    [
        ({"n_tokens": 2.5}, "n_tokens is 2.5; a whole"),
        ({"n_tokens": True}, "n_tokens is True; a whole"),
        ({"layers": 1}, "layers is 1; a tuple"),
        ({"layers": ("0",)}, "a number in layers is '0'; a whole"),
        ({"seed": 0.5}, "seed is 0.5; a whole"),
        ({"bos_id": "<s>"}, r"bos_id is '<s>'; a whole number from 0 up \(or 'auto'"),
    ],
)
def test_settings_of_the_wrong_type_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
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


def test_models_of_the_wrong_kind_are_refused_by_name() -> None:
    bert = BertConfig(**COMMON, intermediate_size=24)
    llama = LlamaConfig(**GATED)
    rwkv = RwkvConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, context_length=16)
    models: list[tuple[Any, str]] = [
        (BertForMaskedLM(bert), "BertForMaskedLM is bidirectional"),
        (BertLMHeadModel(bert), "BertLMHeadModel is bidirectional.*is_decoder=True"),
        (LlamaModel(llama), "LlamaModel has no output over the vocabulary.*AutoModelForCausalLM"),
        (LlamaForSequenceClassification(llama), "Classification has no output over the voc"),
        (RwkvForCausalLM(rwkv), "RwkvForCausalLM uses no attention_mask"),
    ]
    for model, match in models:
        with pytest.raises(TypeError, match=match):
            SoftPrompt.for_model(model)
    decoder = BertLMHeadModel(BertConfig(**COMMON, intermediate_size=24, is_decoder=True))
    assert SoftPrompt.for_model(decoder.eval()).h.shape == (1, 8, 16)


def test_a_model_of_ones_own_need_not_generate() -> None:
    class Own(LlamaPreTrainedModel):
        def __init__(self, config: LlamaConfig) -> None:
            super().__init__(config)
            self.model = LlamaModel(config)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

        def get_input_embeddings(self) -> nn.Module:
            return self.model.embed_tokens

        def get_output_embeddings(self) -> nn.Module:
            return self.lm_head

        def forward(
            self, inputs_embeds: Any = None, attention_mask: Any = None, **others: Any
        ) -> Any:
            return self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **others)

    model = Own(LlamaConfig(**GATED)).eval()
    assert not model.can_generate()
    assert SoftPrompt.for_model(model).w.shape[1] == 16


def test_numbers_of_numpy_and_torch_will_do() -> None:
    prompt = SoftPromptConfig(n_tokens=np.int64(4), layers=range(2), seed=np.int32(3))
    assert prompt == SoftPromptConfig(n_tokens=4, layers=(0, 1), seed=3)
    assert SoftPromptConfig(layers=np.arange(2)).layers == (0, 1)
    config = J6Config(batch_size=np.int64(4), learning_rate=np.float32(0.5), patience=np.int64(2))
    assert json.loads(json.dumps(config.describe()))["batch_size"] == 4
    for bias in (np.array([0.5, 0.25]), torch.tensor([0.5, 0.25]), [0.5, 0.25]):
        assert J6Update(preference=bias) == J6Update(preference=(0.5, 0.25))
    assert J6Update(temperature=torch.tensor(0.5)) == J6Update(temperature=0.5)


def test_embeddings_of_ids_in_every_layer_are_refused() -> None:
    config = Gemma3nTextConfig(
        **{**GATED, "intermediate_size": [24] * 3},
        head_dim=8,
        vocab_size_per_layer_input=61,
        hidden_size_per_layer_input=4,
        num_kv_shared_layers=1,
        laurel_rank=4,
        altup_num_inputs=2,
        activation_sparsity_pattern=[0.0] * 3,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
    )
    with pytest.raises(TypeError, match=r"hidden_size_per_layer_input is 4.* virtual tokens lack"):
        SoftPrompt.for_model(Gemma3nForCausalLM(config))


def test_the_text_models_layers_are_found_beside_a_tower_as_deep() -> None:
    vision = CLIPVisionConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
    )
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**GATED))
    model = LlavaForConditionalGeneration(config).eval()
    anatomy = Anatomy.of(model)
    assert {type(layer).__name__ for layer in anatomy.layers} == {"LlamaDecoderLayer"}
    assert SoftPrompt.for_model(model).h.shape == (1, 8, 16)


def test_layers_that_do_not_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    idle = tuple(nn.Identity() for _ in range(3))
    monkeypatch.setattr("j6.soft_prompt.anatomy._decoder_layers", lambda *_: idle)
    with pytest.raises(ValueError, match=r"layers is \(1,\), but only 0 of these.*layers=\(\)"):
        SoftPrompt.for_model(model)


def test_a_context_limit_by_another_name_is_seen() -> None:
    config = MptConfig(vocab_size=20, d_model=16, n_layers=2, n_heads=2, max_seq_len=12)
    assert Anatomy.of(MptForCausalLM(config)).max_length == 12


def test_a_model_without_attention_takes_a_soft_prompt() -> None:
    config = MambaConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(config).eval()
    soft_prompt = SoftPrompt.for_model(model, SoftPromptConfig(n_tokens=2))
    ids, mask = torch.tensor([[0, 0, 7], [5, 6, 7]]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    with soft_prompt.attached(model), torch.no_grad():
        padded = soft_prompt(ids, mask).logits[0, -1]
        torch.testing.assert_close(padded, soft_prompt(ids[:1, 2:]).logits[0, -1])


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
        with pytest.raises(ValueError, match=r"insert_at is 1 for rows"):
            soft_prompt(ids, insert_at=1)
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
