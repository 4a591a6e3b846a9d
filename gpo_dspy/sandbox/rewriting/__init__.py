"""The simulated rewriter: reads what went wrong, guesses why, and words some advice."""

from __future__ import annotations

import json
import re
from typing import Any

from gpo_dspy.sandbox.dice import Dice
from gpo_dspy.sandbox.reading import Field, Request
from gpo_dspy.sandbox.solving.fields import typed

from .compose import compose, reflect
from .cues import material
from .meta import Brief, understand
from .summary import summarize

__all__ = ["is_meta", "rewrite"]

_WRITES = re.compile(r"instruct|prompt|advice", re.I)
_DESCRIBES = re.compile(r"observ|summary|descri|prefix", re.I)
_ASKED = re.compile(r"\b(?:write|provide|propose)\b.*\b(?:instructions?|prompt)\b", re.I | re.S)
_SILLY = 0.015


def is_meta(request: Request) -> bool:
    """Tell whether a request is about prompts and not about an item.

    Args:
        request: What was asked.
    """
    if request.frame.layout == "plain":
        return "```" in request.text and bool(_ASKED.search(request.text))
    names = [field.name for field in request.frame.outputs]
    if "reflection" in names and "current_prompt" in request.inputs:
        return True
    return any(_WRITES.search(name) or _DESCRIBES.search(name) for name in names)


def rewrite(request: Request, draw: int, skill: float) -> dict[str, Any]:
    """Fill every output field of a request about prompts.

    Args:
        request: What was asked.
        draw: Which of several replies to the same request.
        skill: 1 for the rewriter; less makes more wild guesses.
    """
    dice = Dice("rewriter", request.key, draw)
    if request.frame.layout == "plain":
        text = compose(understand(request), dice, skill)
        return {"text": f"```\n{text}\n```"}
    return {field.name: _value(field, request, dice, skill) for field in request.frame.outputs}


def _value(field: Field, request: Request, dice: Dice, skill: float) -> Any:
    if field.kind.startswith(("dict", "Dict")):
        return {name: compose(_news(request, name), dice, skill) for name in _modules(request)}
    if field.name == "summary" and "current_prompt" in request.inputs:
        return summarize(understand(request))
    if field.name == "reflection":
        return reflect(understand(request), dice, skill)
    if "prefix" in field.name:
        return "Answer:"
    if _WRITES.search(field.name):
        return _silly(compose(understand(request), dice, skill), dice)
    return typed(field, _description(understand(request)))


def _news(request: Request, module: str) -> Brief:
    """Advice is appended to what a module is told already: start from nothing."""
    brief = understand(request, module)
    return Brief("", (), brief.cases, 30, False, brief.text, brief.writer)


def _modules(request: Request) -> list[str]:
    try:
        names = json.loads(request.inputs.get("module_names", "[]"))
    except ValueError:
        names = []
    return [str(name) for name in names]


def _silly(text: str, dice: Dice) -> str:
    if not dice.chance(_SILLY):
        return text
    return dice.choice(["", f'"{text}"', f"Here is the improved prompt: {text}"])


def _description(brief: Brief) -> str:
    about = {
        "brackets": "sequences of brackets that have to be closed",
        "walk": "walks with turns and steps",
        "dates": "dates and distances in days",
        "truth": "boolean expressions",
        "sums": "arithmetic expressions",
        "story": "little stories with quantities",
        "amounts": "lists of things with quantities",
        "words": "lists of words to sort",
    }.get(material(brief.text), "short questions")
    return f"The inputs are {about}; the outputs are short and have a fixed form."
