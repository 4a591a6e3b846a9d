"""From texts to batches: tokenised prompts and answers, padded on the left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from j6.soft_prompt.config import BosId, Position
from j6.soft_prompt.placement import system_length


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example as token ids.

    Attributes:
        prompt: Ids of the prompt, special tokens included.
        answer: Ids of the answer, with the ending token where there is one.
        insert_at: Number of prompt tokens before the soft prompt.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    insert_at: int


class Batch(NamedTuple):
    """Examples side by side: prompts and answers end in the last column.

    Attributes:
        input_ids: Ids, shape ``[B, T]``.
        attention_mask: 1 for real tokens, shape ``[B, T]``.
        insert_at: Number of real tokens before the soft prompt, shape ``[B]``.
        labels: The answers' ids, 0 where there is no answer, shape ``[B, A]``.
        mask: 1 on the answers' tokens, shape ``[B, A]``.
    """

    input_ids: Tensor
    attention_mask: Tensor
    insert_at: Tensor
    labels: Tensor
    mask: Tensor


class ExampleLines(list[Any]):
    """Examples of a file, which know their lines, so that an error can name file and line.

    Args:
        path: The file.
        lines: Line number and example.
    """

    def __init__(self, path: str, lines: Sequence[tuple[int, Any]]) -> None:
        super().__init__(example for _, example in lines)
        self.path = path
        self.numbers = [number for number, _ in lines]

    def place(self, index: int) -> str:
        """Where an example stands.

        Args:
            index: Its place in this list.

        Returns:
            File and line.
        """
        return f"{self.path}, line {self.numbers[index]}"


class ExampleEncoder:
    """Tokenises examples for one model and one place of the soft prompt.

    An example is a pair ``(prompt, answer)``, a mapping with ``prompt`` and ``answer``, a mapping
    with ``messages``, or a list of chat messages whose last one, the assistant's, is the answer.

    Args:
        tokenizer: The model's tokenizer.
        position: Where the soft prompt stands.
        max_length: Most tokens of prompt and answer together, or ``None``.
        bos_id: Id of the BOS token, or ``None``; ``"auto"``: the tokenizer's.
    """

    def __init__(
        self,
        tokenizer: Any,
        position: Position,
        max_length: int | None,
        bos_id: BosId = "auto",
    ) -> None:
        self.tokenizer = tokenizer
        self.position = position
        self.max_length = max_length
        self.bos_id: int | None = tokenizer.bos_token_id if bos_id == "auto" else bos_id

    def encode_all(self, examples: Iterable[Any], name: str = "example") -> list[EncodedExample]:
        """Tokenise examples.

        Args:
            examples: The examples; a ``datasets.Dataset`` will do.
            name: What an error calls one of them; those of a file by file and line.

        Returns:
            One encoded example each, in order.

        Raises:
            TypeError: If an example has none of the known forms.
            ValueError: If there are none, or an example's answer is empty or too long; the message
                says which.
        """
        encoded = []
        for index, example in enumerate(examples):
            try:
                encoded.append(self.encode(example))
            except (TypeError, ValueError) as error:
                place = f"{name} {index} (counted from 0)"
                if isinstance(examples, ExampleLines):
                    place = examples.place(index)
                msg = f"{place}: {error}"
                raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error
        if not encoded:
            msg = f"there are no {name}s: pass at least one"
            raise ValueError(msg)
        return encoded

    def encode(self, example: Any) -> EncodedExample:
        """Tokenise one example.

        Args:
            example: The example.

        Returns:
            Its ids.

        Raises:
            TypeError: If it has none of the known forms.
            ValueError: If its answer is empty or it is too long.
        """
        if isinstance(example, Mapping):
            example = _from_mapping(example)
        if isinstance(example, Sequence) and not isinstance(example, str) and example:
            if all(isinstance(message, Mapping) for message in example):
                return self._chat(example)
            if len(example) == 2 and all(isinstance(text, str) for text in example):
                return self._pair(*example)
        msg = (
            f"{example!r:.80} is no example: pass (prompt, answer), a mapping with 'prompt' and "
            "'answer', or chat messages ending with the assistant's"
        )
        raise TypeError(msg)

    def _pair(self, prompt: str, answer: str) -> EncodedExample:
        if not answer.strip():
            msg = f"the answer to {prompt!r:.60} is empty: there is nothing to learn from it"
            raise ValueError(msg)
        tokenizer = self.tokenizer
        eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        before = list(tokenizer(prompt)["input_ids"])
        if eos and before[-1:] == eos and len(before) > 1:
            before.pop()  # some tokenizers end every text
        after = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
        return self._checked(before, [*after, *eos], 0)

    def _chat(self, messages: Sequence[Mapping[str, str]]) -> EncodedExample:
        if len(messages) < 2 or messages[-1].get("role") != "assistant":
            msg = "a chat must end with the assistant's message, after at least one other"
            raise ValueError(msg)
        if not all(isinstance(message.get("role"), str) for message in messages):
            msg = "a message has no role: each needs one, such as 'user' or 'assistant'"
            raise ValueError(msg)
        answer = messages[-1].get("content")
        if not (isinstance(answer, str) and answer.strip()):
            msg = "the assistant's last message has no text: there is nothing to learn from it"
            raise ValueError(msg)
        chat = [dict(message) for message in messages]
        whole = self._rendered(chat)
        head = self._rendered(chat[:-1], add_generation_prompt=True)
        if whole[: len(head)] != head or len(whole) == len(head):
            msg = (
                "the chat template renders the prompt differently once the answer is there: pass "
                "(prompt, answer) pairs rendered by yourself"
            )
            raise ValueError(msg)
        system = system_length(self.tokenizer, chat) if self.position == "after_system" else 0
        return self._checked(head, whole[len(head) :], system)

    def _rendered(self, chat: list[dict[str, str]], **options: bool) -> list[int]:
        from jinja2 import TemplateError  # transformers needs it for chat templates, and only there

        render = self.tokenizer.apply_chat_template
        try:
            return list(render(chat, tokenize=True, return_dict=False, **options))
        except TemplateError as error:
            msg = f"the chat template does not take the chat ({error}): change its roles or turns"
            raise ValueError(msg) from error

    def _checked(self, prompt: list[int], answer: list[int], system: int) -> EncodedExample:
        if not prompt:
            msg = "the prompt has no tokens, so nothing predicts the answer's first: give it text"
            raise ValueError(msg)
        if not answer:
            msg = "the answer has no tokens: there is nothing to learn from it"
            raise ValueError(msg)
        total = len(prompt) + len(answer)
        if self.max_length is not None and total > self.max_length:
            msg = (
                f"prompt and answer have {len(prompt)} and {len(answer)} tokens, together more "
                f"than the {self.max_length} that fit beside the soft prompt: shorten it"
            )
            raise ValueError(msg)
        starts_with_bos = prompt[0] == self.bos_id
        place = {
            "start": 0,
            "after_bos": int(starts_with_bos),
            "after_system": system or int(starts_with_bos),
            "end": len(prompt),
        }[self.position]
        return EncodedExample(tuple(prompt), tuple(answer), place)


def collate(examples: Sequence[EncodedExample], device: torch.device | str = "cpu") -> Batch:
    """Put examples into one batch.

    Args:
        examples: At least one example.
        device: Where the batch goes.

    Returns:
        The batch. Padding has id 0 and is masked, so no padding token is needed.
    """
    rows = [(*example.prompt, *example.answer) for example in examples]
    return Batch(
        input_ids=_left_padded(rows).to(device),
        attention_mask=_left_padded([[1] * len(row) for row in rows]).to(device),
        insert_at=torch.tensor([example.insert_at for example in examples]).to(device),
        labels=_left_padded([example.answer for example in examples]).to(device),
        mask=_left_padded([[1] * len(example.answer) for example in examples]).to(device),
    )


def in_batches(
    examples: Sequence[EncodedExample], size: int, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Cut examples into batches, in order.

    Args:
        examples: The examples.
        size: Most examples in one batch.
        device: Where the batches go.

    Yields:
        The batches.
    """
    for start in range(0, len(examples), size):
        yield collate(examples[start : start + size], device)


def batch_indices(step: int, size: int, count: int, seed: int) -> list[int]:
    """Which examples a step sees: shuffled epochs one after another, each example once in each.

    Args:
        step: Number of the step, from 1.
        size: Examples per step.
        count: Number of examples.
        seed: Seed of the shuffles.

    Returns:
        Places in the list of examples; a function of the arguments alone.
    """
    first, last = (step - 1) * size, step * size
    order: list[int] = []
    for epoch in range(first // count, -(-last // count)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order += torch.randperm(count, generator=generator).tolist()
    skipped = first - first // count * count
    return order[skipped : skipped + size]


def _left_padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])


def _from_mapping(example: Mapping[str, Any]) -> Any:
    if "messages" in example:
        return example["messages"]
    if "prompt" in example and "answer" in example:
        return (example["prompt"], example["answer"])
    msg = f"it has the fields {sorted(example)}; 'prompt' and 'answer', or 'messages', are needed"
    raise ValueError(msg)
