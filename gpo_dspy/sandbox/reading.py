"""Chat messages -> what was asked.

A simulated model sees nothing but the messages. This module finds in them the instruction,
the worked examples, the inputs and the wanted outputs, in the layouts of DSPy's Chat, JSON and
XML adapters and in plain text.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

Layout = Literal["chat", "json", "xml", "plain"]

_FIELD_LINE = re.compile(r"^\d+\. `(\w+)` \((.*?)\):[ ]?(.*)$")
_MARKER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*$", re.MULTILINE)
_ELEMENT = re.compile(r"<(\w+)>\n?(.*?)\n?</\1>", re.DOTALL)
_OBJECTIVE = "your objective is:"
_TRAILER = re.compile(
    r"\n*Respond with (?:the corresponding output fields|a JSON object).*\Z", re.DOTALL
)
_NOT_SUPPLIED = "Not supplied for this particular example."


@dataclass(frozen=True, slots=True)
class Field:
    """An input or output field as the system message declares it.

    Attributes:
        name: Its name.
        kind: Its type as written, e.g. ``Literal['a', 'b']``.
        description: What the signature says about it; may be empty.
    """

    name: str
    kind: str = "str"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the system message says, the same for every item of one predictor.

    Attributes:
        layout: In which form the answer is wanted.
        instruction: The task description with the fields' descriptions.
        inputs: The declared input fields.
        outputs: The declared output fields; empty in plain text.
    """

    layout: Layout
    instruction: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read.

    Attributes:
        frame: The system message's part.
        demos: Earlier (user, assistant) turns as field values, complete ones only.
        inputs: Field values of the last user turn; in plain text one field, ``text``.
        key: All messages as one text, the seed of every draw.
    """

    frame: Frame
    demos: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...]
    inputs: Mapping[str, str]
    key: str

    @property
    def text(self) -> str:
        """All input values, one after the other."""
        return "\n".join(self.inputs.values())


def read(messages: Sequence[Mapping[str, Any]]) -> Request:
    """Read the messages of one request.

    Args:
        messages: OpenAI-style messages, content as text or as a list of parts.
    """
    turns = [(str(m.get("role", "user")), _content(m)) for m in messages]
    system = "\n\n".join(text for role, text in turns if role in ("system", "developer"))
    talk = [(role, text) for role, text in turns if role in ("user", "assistant")]
    frame = _frame(system)
    last = max((i for i, (role, _) in enumerate(talk) if role == "user"), default=-1)
    asked = talk[last][1] if last >= 0 else ""
    demos = []
    for (role, given), (next_role, said) in pairwise(talk[: max(last, 0)]):
        if (role, next_role) == ("user", "assistant") and _NOT_SUPPLIED not in said:
            demos.append((_values(given, frame, frame.inputs), _values(said, frame, frame.outputs)))
    key = "\x1e".join(f"{role}:{text}" for role, text in turns)
    return Request(frame, tuple(demos), _values(asked, frame, frame.inputs), key)


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


@lru_cache(maxsize=256)
def _frame(system: str) -> Frame:
    head, found, objective = system.partition(_OBJECTIVE)
    if not found or "Your output fields are:" not in head:
        return Frame("plain", system, (), ())
    before, _, after = head.partition("Your output fields are:")
    inputs, outputs = _declared(before), _declared(after.split("All interactions will be")[0])
    if "Outputs will be a JSON object" in head:
        layout: Layout = "json"
    elif "[[ ## completed ## ]]" in head:
        layout = "chat"
    else:
        layout = "xml"
    told = textwrap.dedent(objective.strip("\n"))
    hints = [f.description for f in inputs + outputs if f.description and "${" not in f.description]
    return Frame(layout, "\n".join([told.strip(), *hints]), inputs, outputs)


def _declared(text: str) -> tuple[Field, ...]:
    found = (_FIELD_LINE.match(line) for line in text.splitlines())
    return tuple(Field(m[1], m[2], m[3].strip()) for m in found if m)


def _values(text: str, frame: Frame, fields: tuple[Field, ...]) -> dict[str, str]:
    if frame.layout == "plain":
        return {"text": text}
    parts = _MARKER.split(_TRAILER.sub("", text))
    if len(parts) > 1:
        pairs = zip(parts[1::2], parts[2::2], strict=True)
        return {name: value.strip() for name, value in pairs if name != "completed"}
    if frame.layout == "xml":
        names = {field.name for field in fields}
        return {n: v.strip() for n, v in _ELEMENT.findall(text) if n in names}
    return _json_values(text)


def _json_values(text: str) -> dict[str, str]:
    try:
        loaded = json.loads(text)
    except ValueError:
        return {"text": text}
    if not isinstance(loaded, dict):
        return {"text": text}
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in loaded.items()}
