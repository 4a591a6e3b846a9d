from __future__ import annotations

from typing import Any

import pytest

from j6.examples import ExampleEncoder, batch_indices, collate
from tests.j6._tasks import tokenizer

CHAT = [
    {"role": "system", "content": "w1 w2"},
    {"role": "user", "content": "w3"},
    {"role": "assistant", "content": "w4 w5"},
]


def encoder(position: Any = "after_bos", max_length: int | None = None) -> ExampleEncoder:
    return ExampleEncoder(tokenizer(), position, max_length)


@pytest.mark.parametrize(
    "example",
    [("w1 w2", "w3"), ["w1 w2", "w3"], {"prompt": "w1 w2", "answer": "w3"}],
)
def test_pairs_and_mappings(example: Any) -> None:
    encoded = encoder().encode(example)
    assert encoded.prompt == (1, 9, 10)
    assert encoded.answer == (11, 2)
    assert encoded.insert_at == 1


@pytest.mark.parametrize("example", [CHAT, {"messages": CHAT}])
@pytest.mark.parametrize(
    ("position", "place"), [("start", 0), ("after_bos", 1), ("after_system", 5), ("end", 9)]
)
def test_chats(example: Any, position: str, place: int) -> None:
    encoded = encoder(position).encode(example)
    assert encoded.prompt == (1, 4, 9, 10, 7, 5, 11, 7, 6)
    assert encoded.answer == (12, 13, 7)
    assert encoded.insert_at == place


def test_a_dataset_will_do() -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"prompt": ["w1", "w2"], "answer": ["w3", "w4"]})
    assert [e.answer for e in encoder().encode_all(rows)] == [(11, 2), (12, 2)]
    chats = datasets.Dataset.from_list([{"messages": CHAT}])
    assert encoder().encode_all(chats)[0].answer == (12, 13, 7)


@pytest.mark.parametrize(
    ("example", "match"),
    [
        (("w1", ""), r"example 0 \(counted from 0\): the answer to 'w1' is empty"),
        (("w1", "  "), "is empty"),
        ({"prompt": "w1"}, r"fields \['prompt'\]; 'prompt' and 'answer', or 'messages'"),
        ({"prompt": "w1", "answer": None}, "is no example"),
        ("w1 w2", "is no example"),
        (("w1", "w2", "w3"), "is no example"),
        (CHAT[:2], "must end with the assistant's message"),
        ([*CHAT[:2], {"role": "assistant", "content": ""}], "last message has no text"),
        (("w1 w2", "w3 w4 w5 w6 w7"), "3 and 6 tokens, together more than the 8"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(example: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        encoder(max_length=8).encode_all([example])


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no examples"):
        encoder().encode_all([])


def test_template_that_rewrites_the_prompt_is_refused() -> None:
    rewriting = tokenizer()
    rewriting.chat_template = "{{ '<s> ' }}{% if messages|length > 2 %}{{ 'w9 ' }}{% endif %}w1 w2"
    with pytest.raises(ValueError, match="renders the prompt differently"):
        ExampleEncoder(rewriting, "start", None).encode(CHAT)


def test_a_chat_that_the_template_refuses_is_told_by_number() -> None:
    picky = tokenizer()
    picky.chat_template = "{{ raise_exception('no role ' + messages[0].role) }}"
    encoder = ExampleEncoder(picky, "start", None)
    with pytest.raises(ValueError, match=r"^example 0 .*does not take the chat \(no role system\)"):
        encoder.encode_all([CHAT])


def test_a_tokenizer_without_pad_and_ending_is_fine() -> None:
    bare = ExampleEncoder(tokenizer(pad_token=None, eos_token=None), "start", None)
    batch = collate(bare.encode_all([("w1", "w2"), ("w1 w2", "w3 w4")]))
    assert batch.input_ids.tolist() == [[0, 0, 1, 9, 10], [1, 9, 10, 11, 12]]
    assert batch.attention_mask.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert batch.labels.tolist() == [[0, 10], [11, 12]]
    assert batch.mask.tolist() == [[0, 1], [1, 1]]


def test_each_epoch_sees_every_example_once() -> None:
    seen = [i for step in range(1, 8) for i in batch_indices(step, 3, 7, seed=5)]
    assert [sorted(seen[start : start + 7]) for start in (0, 7, 14)] == [list(range(7))] * 3
    assert seen[:7] != seen[7:14]
    assert batch_indices(1, 21, 7, seed=5) == seen
