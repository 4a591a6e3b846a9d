"""The front door of both simulated models: what is asked decides who answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .reading import read
from .replying import render
from .rewriting import is_meta, rewrite
from .solving import solve

# Model -> (factor on its mistakes with items, share of sensible guesses when it writes prompts).
_SKILLS = {"solver": (1.0, 0.15), "rewriter": (0.4, 0.35)}


def reply(model: str, messages: Sequence[Mapping[str, Any]], draw: int = 0) -> str:
    """Answer a request, as a pure function of its messages.

    Args:
        model: ``solver`` or ``rewriter``.
        messages: OpenAI-style chat messages.
        draw: Which of several replies to the same request.
    """
    request = read(messages)
    mistakes, sense = _SKILLS[model]
    if is_meta(request):
        return render(rewrite(request, draw, sense), request.frame)
    return render(solve(request, mistakes), request.frame)
