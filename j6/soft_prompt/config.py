"""What a soft prompt looks like: how many tokens, where, and how it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from j6.settings import check_type, plain, put, whole

Position = Literal["start", "after_bos", "after_system", "end"]
Kind = Literal["tokens", "changes"]
Init = Literal["text", "vocabulary", "random"]
BosId = int | Literal["auto"] | None


@dataclass(frozen=True)
class SoftPromptConfig:
    """Shape, place and start of a soft prompt.

    Attributes:
        n_tokens: Number n of virtual tokens. ``None``: as many as ``text`` has tokens, or 8.
        layers: Decoder layers after whose output h is added, counted from 0, negative from the
            end. Each has vectors of its own. ``None``: the middle layer; ``()``: no h. The last
            layer is refused, since nothing at later positions could see it.
        position: Where the virtual tokens stand. ``"start"``: before everything; ``"after_bos"``:
            after the BOS token where there is one; ``"after_system"``: after the system turn,
            whose length is passed as ``insert_at`` (:func:`j6.system_length`); ``"end"``: after
            the whole prompt, right before the answer.
        kind: ``"tokens"``: w is the embedding of the virtual tokens. ``"changes"``: the virtual
            tokens are the given tokens of ``text``, and w is added to their embeddings.
        init: Start of w for ``kind="tokens"``: the embeddings of ``text`` (repeated or cut to n
            tokens), of n tokens drawn from the vocabulary, or normal random vectors of the
            vocabulary's size. For ``kind="changes"`` w starts at 0.
        text: Text for ``init="text"`` and ``kind="changes"``.
        seed: Seed of the draws.
        bos_id: Id of the BOS token that ``position="after_bos"`` looks for, or ``None`` for
            none. ``"auto"``: the tokenizer's in tuning, which the tuned prompt then keeps, so that
            it stands in the same place in use; the model's in prompts that keep none.
    """

    n_tokens: int | None = None
    layers: tuple[int, ...] | None = None
    position: Position = "after_bos"
    kind: Kind = "tokens"
    init: Init = "vocabulary"
    text: str | None = None
    seed: int = 0
    bos_id: BosId = "auto"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("position", self.position, get_args(Position)),
            ("kind", self.kind, get_args(Kind)),
            ("init", self.init, get_args(Init)),
        ):
            if value not in choices:
                msg = f"{name} is {value!r}; allowed are {', '.join(map(repr, choices))}"
                raise ValueError(msg)
        if self.n_tokens is not None:
            put(self, n_tokens=whole("n_tokens", self.n_tokens, 1))
        layers = plain(self.layers)
        allowed = (tuple, list, range, type(None))
        check_type("layers", layers, allowed, "a tuple of numbers, or None,")
        if layers is not None:
            put(self, layers=tuple(whole("a number in layers", layer) for layer in layers))
        if self.bos_id not in ("auto", None):
            put(self, bos_id=whole("bos_id", self.bos_id, 0, " (or 'auto', or None)"))
        put(self, seed=whole("seed", self.seed))
        if self.needs_text and not self.text:
            msg = f"kind={self.kind!r} with init={self.init!r} starts from a text: pass text="
            raise ValueError(msg)
        if self.text is not None and not self.needs_text:
            msg = f"text is given but init={self.init!r} does not use it: pass init='text'"
            raise ValueError(msg)

    @property
    def needs_text(self) -> bool:
        """Whether the start is made from ``text``, for which a tokenizer is needed."""
        return self.kind == "changes" or self.init == "text"
