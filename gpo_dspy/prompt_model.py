"""The prompt model: the LM that is asked about prompts, with all that asking it takes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError

from gpo_dspy.backend_errors import Patience
from gpo_dspy.journal import Journal
from gpo_dspy.ledger import Ledger
from gpo_dspy.state import Fate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """One request to the prompt model.

    Attributes:
        kind: What is asked for, such as "generate"; part of what the journal knows it by.
        signature: How it is asked for. What its output fields hold is the answer.
        fields: The input fields; empty ones are not shown.
        words: Words that the answer was asked to keep to, if it was.
    """

    kind: str
    signature: type[dspy.Signature]
    fields: Mapping[str, str]
    words: int | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output fields."""
        return tuple(self.signature.output_fields)

    @property
    def shown_signature(self) -> type[dspy.Signature]:
        """The signature with only those input fields that have something to say."""
        empty = [name for name in self.signature.input_fields if not self.fields.get(name)]
        hashable: Any = self.signature  # as mypy does not know of classes
        shown: type[dspy.Signature] = _without(hashable, tuple(empty))
        return shown


@dataclass(frozen=True, slots=True)
class PromptModel:
    """Asks the LM that writes prompts; every answer is counted, kept, and paid for once.

    Attributes:
        lm: The LM.
        num_threads: Requests that run at the same time.
        patience: How long a request waits for the backend.
        ledger: Counts the LM calls.
        gate: Called before each request; stops it by raising.
        slots: Entered for each request: those of all steps together are no more than it lets in.
        journal: Keeps the answers, and knows those of an earlier session.
        hide: Takes keys out of what is shown to the LM, and of what it writes.
        step: Which step asks. Steps run side by side, and the journal must not take the answer to
            one of them for that to another which asked the same.
    """

    lm: dspy.LM
    num_threads: int = 8
    patience: Patience = Patience()
    ledger: Ledger = field(default_factory=Ledger)
    gate: Callable[[], None] = lambda: None
    slots: AbstractContextManager[Any] = nullcontext()  # noqa: RUF009 - without a state
    journal: Journal = field(default_factory=Journal)
    hide: Callable[[str], str] = str
    step: int = 0

    def ask(self, question: Question) -> str | Fate:
        """Return the answer, or why there is none; a known one is not paid again.

        Raises:
            BackendUnavailable: The backend refused, or stayed away.
        """
        answers = self.ask_for_several(question)
        return answers if isinstance(answers, Fate) else answers[0]

    def ask_for_several(self, question: Question) -> tuple[str | Fate, ...] | Fate:
        """Return what the output fields hold, empty where one is missing; or why there is none.

        Of a reply that was cut off, the last text that it holds is none.

        Raises:
            BackendUnavailable: The backend refused, or stayed away.
        """
        given = {name: text for name, text in question.fields.items() if text}
        fields = {name: _sendable(self.hide(text)) for name, text in given.items()}
        question = replace(question, fields=fields)
        known_by = json.dumps([self.step, self.lm.model, question.kind, fields, question.outputs])
        kept = self.journal.answer(known_by, lambda: self._answer(question), self.ledger)
        if isinstance(kept, Fate):
            return kept
        return tuple(Fate.CUT_OFF if text is None else text for text in json.loads(kept))

    def _answer(self, question: Question) -> str | Fate:
        """Return the texts as JSON, as the journal keeps them; null for one that was cut off."""
        predict = dspy.Predict(question.shown_signature)
        # The caller's program may be traced or streamed; the prompt model's work is not.
        alone = dspy.context(lm=self.lm, trace=[], send_stream=None)
        try:
            with self.slots, alone, Ledger().watch() as replies:
                self.gate()
                answer = self.patience.call(lambda: predict(**question.fields))
        except AdapterParseError:
            return Fate.CUT_OFF if replies.cut_off else Fate.UNPARSABLE
        except LMInvalidRequestError as error:
            said = self.patience.hide(str(error).splitlines()[0])
            logger.warning("No %s: %s", question.outputs[0].replace("_", " "), said)
            return Fate.UNANSWERED
        given = answer.toDict()  # nothing at all, where a gateway's reply had no choices
        texts: list[str | None] = [
            self.hide(_written(given.get(name))) for name in question.outputs
        ]
        if replies.cut_off:
            there = [place for place, text in enumerate(texts) if text]
            if not there:
                return Fate.CUT_OFF
            texts[there[-1]] = None
        return json.dumps(texts, ensure_ascii=False)


@lru_cache(maxsize=128)  # each field left out takes DSPy milliseconds
def _without(signature: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        signature = signature.delete(name)
    return signature


def max_tokens_of(lm: Any) -> int | None:
    """Return the limit on the tokens of a reply that an LM was given, if any."""
    given = getattr(lm, "kwargs", None) or {}
    limit = given.get("max_tokens") or given.get("max_completion_tokens")
    return None if limit is None else int(limit)


def _written(value: Any) -> str:
    """Return the text of an output field; what stands for nothing in JSON and Python is none."""
    text = unwrap(_sendable(str(value or "")))
    return "" if text in ("None", "null") else text


def _sendable(text: str) -> str:
    """Replace halves of surrogate pairs, which broken data may hold and nobody can receive."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unwrap(text: str) -> str:
    """Strip what models put around a text: white space, code fences, quotation marks, tags."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") : -3].strip()
    if text.startswith("<prompt>") and text.endswith("</prompt>"):
        text = text[len("<prompt>") : -len("</prompt>")].strip()
    for opening, closing in ('""', "“”", "''"):
        inner = text[1:-1]
        if text[:1] == opening and text[-1:] == closing and not {opening, closing} & set(inner):
            text = inner.strip()
    return text
