"""Scripted LMs and a toy task for tests of the optimizer itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

import dspy
from dspy.lm15 import Message, Request, Response, Usage

_names = count()


@dataclass
class Prompted:
    """What an LM was asked: the system text, the last user text and the fields in it."""

    system: str
    user: str

    @property
    def fields(self) -> dict[str, str]:
        found = re.findall(r"\[\[ ## (\w+) ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with|\Z)", self.user, re.S)
        return {name: text.strip() for name, text in found}


@dataclass
class ScriptedEngine:
    """Answers each request by a function; counts the requests."""

    reply: Callable[[Prompted], str | Mapping[str, str]]
    prompts: list[Prompted] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, request: Request) -> Response:
        system = request.system if isinstance(request.system, str) else _text(request.system or ())
        prompted = Prompted(system, _text(request.messages[-1].parts))
        with self.lock:
            self.prompts.append(prompted)
        answer = self.reply(prompted)
        if isinstance(answer, Mapping):
            answer = "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in answer.items())
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(answer),
            finish_reason="stop",
            usage=Usage(input_tokens=100, output_tokens=10, total_tokens=110),
        )

    def __deepcopy__(self, memo: object) -> ScriptedEngine:
        raise TypeError("an engine with a lock cannot be copied, like a real client")


def _text(parts: object) -> str:
    return "".join(getattr(part, "text", "") for part in parts)


def scripted_lm(reply: Callable[[Prompted], str | Mapping[str, str]]) -> dspy.LM:
    """Return an uncached LM that answers by a function; its engine counts the requests."""
    return dspy.LM(f"scripted/{next(_names)}", engine=ScriptedEngine(reply), cache=False, num_retries=0)


# --- a toy task: each example needs one word in the instruction --------------------------------

NEEDS = ("alpha", "beta", "gamma", "delta")


def toy_examples(n: int) -> list[dspy.Example]:
    return [
        dspy.Example(question=f"item {i} {NEEDS[i % len(NEEDS)]}", answer=f"right {i}").with_inputs("question")
        for i in range(n)
    ]


def toy_solver(prompted: Prompted) -> dict[str, str]:
    _, number, need = prompted.fields["question"].split()
    right = re.search(rf"\b{need}\b", prompted.system.rsplit("objective is", 1)[-1])
    return {"answer": f"right {number}" if right else "wrong"}


def toy_rewriter(prompted: Prompted) -> dict[str, str]:
    """Add the word that the first failure shown lacks."""
    fields = prompted.fields
    missing = re.findall(r"Input question: item \d+ (\w+)", fields.get("failures", ""))
    current = fields["current_prompt"]
    words = [word for word in dict.fromkeys(missing) if word not in current.split()]
    return {"improved_prompt": f"{current} {words[0]}" if words else f"{current} again"}


def toy_metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
    return bool(example.answer == prediction.answer)
