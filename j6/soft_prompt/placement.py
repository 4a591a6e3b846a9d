"""Where the virtual tokens go in a padded batch; everything else follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from j6.soft_prompt.config import Position


class PromptedInputs(NamedTuple):
    """A batch with n virtual tokens in every row.

    Attributes:
        inputs_embeds: Embeddings, shape ``[B, n + T, d]``.
        attention_mask: 1 for real and virtual tokens, 0 for padding, shape ``[B, n + T]``.
        position_ids: Positions counted over the mask from 0, shape ``[B, n + T]``.
        virtual: Columns of the virtual tokens, shape ``[B, n]``.
        real: Columns of the tokens of the original batch, shape ``[B, T]``.
    """

    inputs_embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    virtual: Tensor
    real: Tensor


def insert_tokens(
    token_embeds: Tensor, attention_mask: Tensor, virtual_embeds: Tensor, insert_at: Tensor
) -> PromptedInputs:
    """Insert virtual tokens before the ``insert_at``-th real token of every row.

    Args:
        token_embeds: Embeddings of the batch, shape ``[B, T, d]``.
        attention_mask: 1 for real tokens, shape ``[B, T]``; padding on either side.
        virtual_embeds: Embeddings of the virtual tokens, shape ``[n, d]`` or ``[B, n, d]``.
        insert_at: Number of real tokens before the virtual ones, shape ``[B]``.

    Returns:
        The lengthened batch.
    """
    batch, length, width = token_embeds.shape
    n = virtual_embeds.shape[-2]
    virtual_embeds = virtual_embeds.to(token_embeds).expand(batch, n, width)
    columns = torch.arange(length, device=attention_mask.device)  # [T]

    # The cut is the column of the first real token with insert_at real tokens before it.
    rank = attention_mask.cumsum(1) - attention_mask  # [B, T], real tokens before each column
    before = (rank < insert_at[:, None]) | ((attention_mask == 0) & (rank == 0))
    cut = before.sum(1)  # [B]

    virtual = cut[:, None] + torch.arange(n, device=cut.device)  # [B, n]
    real = columns + n * (columns >= cut[:, None])  # [B, T]
    source = torch.cat([real, virtual], dim=1).argsort(dim=1)  # [B, T + n], inverse permutation

    mask = torch.cat([attention_mask, attention_mask.new_ones(batch, n)], dim=1)
    mask = mask.gather(1, source)
    embeds = torch.cat([token_embeds, virtual_embeds], dim=1)  # [B, T + n, d]
    order = source[..., None].expand(-1, -1, width).to(embeds.device)  # ids may be elsewhere
    embeds = embeds.gather(1, order)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return PromptedInputs(embeds, mask, positions, virtual, real)


def default_place(
    position: Position, input_ids: Tensor, attention_mask: Tensor, bos_token_id: int | None
) -> Tensor:
    """Number of real tokens before the virtual ones, where the caller names none.

    Args:
        position: The configured position.
        input_ids: Token ids, shape ``[B, T]``.
        attention_mask: 1 for real tokens, shape ``[B, T]``.
        bos_token_id: Id of the BOS token, or ``None``.

    Returns:
        Numbers of tokens, shape ``[B]``.

    Raises:
        ValueError: If the position is after the system turn, which cannot be told from ids.
    """
    if position == "after_system":
        msg = "position is 'after_system': pass insert_at, for example from j6.system_length"
        raise ValueError(msg)
    if position == "end":
        return attention_mask.sum(1)
    if position == "start" or bos_token_id is None or input_ids.shape[1] == 0:
        return attention_mask.new_zeros(len(attention_mask))
    first = input_ids.gather(1, attention_mask.argmax(1, keepdim=True))[:, 0]  # [B]
    return (first == bos_token_id).long()


def check_place(insert_at: Tensor, attention_mask: Tensor) -> None:
    """Refuse places outside the rows of a batch.

    Args:
        insert_at: Number of real tokens before the virtual ones, shape ``[B]``.
        attention_mask: 1 for real tokens, shape ``[B, T]``.

    Raises:
        ValueError: If there is not one place per row, within its real tokens.
    """
    lengths = attention_mask.sum(1)
    if insert_at.shape != lengths.shape or bool(((insert_at < 0) | (insert_at > lengths)).any()):
        msg = (
            f"insert_at is {insert_at.tolist()} for rows of {lengths.tolist()} tokens; one number "
            "from 0 to the row's length is needed per row"
        )
        raise ValueError(msg)


def pad_left(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of every row to its left, as generation needs it.

    Args:
        input_ids: Token ids, shape ``[B, T]``.
        attention_mask: 1 for real tokens, shape ``[B, T]``.

    Returns:
        Ids and mask with the real tokens, in order, on the right.
    """
    order = attention_mask.argsort(dim=1, stable=True)
    return input_ids.gather(1, order), attention_mask.gather(1, order)


def system_length(tokenizer: Any, messages: Sequence[dict[str, str]]) -> int:
    """Number of tokens of the system turn, BOS included, in a chat rendered by its template.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The chat, for example ``[{"role": "system", "content": …}, …]``.

    Returns:
        Tokens that the rendered chat and its system turn alone have in common; without a system
        turn, 1 where the chat begins with BOS and else 0.

    Raises:
        ValueError: If the template cannot render a system turn alone (some fold it into the first
            user turn).
    """
    from jinja2 import TemplateError  # transformers needs it for chat templates, and only there

    chat = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    if not messages or messages[0]["role"] != "system":
        return int(bool(chat) and chat[0] == tokenizer.bos_token_id)
    try:
        turn = tokenizer.apply_chat_template(messages[:1], tokenize=True, return_dict=False)
    except TemplateError as error:
        msg = (
            f"the chat template does not render a system turn alone ({error}): "
            "use position='after_bos', or pass insert_at"
        )
        raise ValueError(msg) from error
    same = [a == b for a, b in zip(chat, turn, strict=False)]
    return same.index(False) if False in same else len(same)
