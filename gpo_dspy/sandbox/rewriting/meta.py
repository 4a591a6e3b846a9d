"""A request for a better prompt -> what it contains, whoever wrote it.

Sections are recognised by words of their names and by the notation of their contents, so that
different optimizers' meta-prompts are read by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gpo_dspy.sandbox.reading import Request

from .cases import find_cases, from_records, from_trajectories
from .symptoms import Case

_FENCE = re.compile(r"([^\n`]*)\n*```\w*\n(.*?)\n```", re.S)
_TAGGED = re.compile(r"score\W+(\d+(?:\.\d+)?)[^\n<]*\n+<prompt>\s*(.*?)\s*</prompt>", re.S | re.I)
_NUMBERED = re.compile(
    r"Instruction #?\d+: (.*?)[»\n]+.*?Score #?\d+: (\d+(?:\.\d+)?)", re.S | re.I
)
_PIPED = re.compile(r"^(.+?) \| Score: (\d+(?:\.\d+)?)", re.M)
_BUDGET = re.compile(r"(?:at most|no more than|up to|under|fewer than) (\d+) words", re.I)
_SCORE = re.compile(r"(\d+(?:\.\d+)?) of 100")
_CURRENT = re.compile(r"current|basic|provided an assistant with the following|existing", re.I)
_PROMPT = re.compile(r"prompt|instruction", re.I)


@dataclass(frozen=True, slots=True)
class Brief:
    """What a request for a better prompt says.

    Attributes:
        current: The prompt to improve; may be empty.
        scored: Prompts with their scores, in percent.
        cases: Attempts with that prompt.
        budget: Number of words that may change; None if not limited.
        too_long: Whether it complains about an earlier, longer rewrite.
        text: Everything, for the cues in it.
        writer: Whether the output concerned is a plan.
        summary: Someone's summary of prompts with scores that are not shown; may be empty.
        reflection: Someone's judgement of the current prompt; may be empty.
    """

    current: str
    scored: tuple[tuple[str, float], ...]
    cases: tuple[Case, ...]
    budget: int | None
    too_long: bool
    text: str
    writer: bool = False
    summary: str = ""
    reflection: str = ""


def understand(request: Request, module: str = "") -> Brief:
    """Read a request for a better prompt.

    Args:
        request: The request.
        module: For which module of the program, if there are several to write for.
    """
    sections = _sections(request)
    text = "\n\n".join(sections.values())
    current = _current(sections, module)
    scored = _scored(text)
    rated = next((_SCORE.search(v) for n, v in sections.items() if "current_score" in n), None)
    if rated and current:
        scored.append((current, float(rated[1])))
    if not current and scored:
        current = max(scored, key=lambda pair: pair[1])[0]
    budgets = [int(number) for number in _BUDGET.findall(text)]
    cases = [case for value in sections.values() for case in find_cases(value)]
    cases += [case for value in sections.values() for case in from_records(value)]
    cases += from_trajectories(sections, module)
    return Brief(
        current=current,
        scored=tuple(dict.fromkeys(scored)),
        cases=tuple(cases),
        budget=min(budgets) if budgets else None,
        too_long=bool(sections.get("too_long")),
        text=text,
        writer=_about_plans(cases),
        summary=sections.get("trajectory_summary") or sections.get("former_summary", ""),
        reflection=sections.get("reflection", ""),
    )


def _sections(request: Request) -> Mapping[str, str]:
    if request.frame.layout != "plain":
        return request.inputs
    text = request.text
    found = {f"{i} {lead.strip()}": body for i, (lead, body) in enumerate(_FENCE.findall(text))}
    return {**found, "rest": _FENCE.sub("", text)}


def _current(sections: Mapping[str, str], module: str) -> str:
    for name, value in sections.items():
        if "modules_defn" in name:
            return _of_module(value, module)
        if _CURRENT.search(name) and _PROMPT.search(name) and "score" not in name:
            return value.strip()
    return ""


def _of_module(text: str, module: str) -> str:
    part = re.search(rf"Module {re.escape(module)}\n(.*?)(?:\n-{{20,}}|\Z)", text, re.S)
    told = re.search(r"Original Instructions:(.*)", part[1], re.S) if part else None
    return " ".join(told[1].split()) if told else ""


def _scored(text: str) -> list[tuple[str, float]]:
    found = [(prompt, float(score)) for score, prompt in _TAGGED.findall(text)]
    for pattern in (_NUMBERED, _PIPED):
        found += [(prompt.strip(), float(score)) for prompt, score in pattern.findall(text)]
    return found


def _about_plans(cases: list[Case]) -> bool:
    outputs = [case.output for case in cases if case.failed]
    return bool(outputs) and all(len(output.splitlines()) > 1 for output in outputs)
