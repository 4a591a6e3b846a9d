"""The update: the prompt model writes, what it wrote is measured and held to the word budget."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import dspy
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError

from gpo_dspy.backend_errors import Patience
from gpo_dspy.edits import clip, words_changed
from gpo_dspy.execution.parallel import ordered_map
from gpo_dspy.guards import Guard
from gpo_dspy.journal import Journal
from gpo_dspy.ledger import Ledger
from gpo_dspy.meta_prompt import EditPrompt, GeneratePrompt, MetaPrompt, signature
from gpo_dspy.state import Fate, Rewrite

logger = logging.getLogger(__name__)

Style = Literal["generate", "edit"]
OnExcess = Literal["clip", "drop", "accept"]

STYLES = {"generate": GeneratePrompt, "edit": EditPrompt}


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Asks the prompt model for rewrites.

    A rewrite over the word budget is sent back once with its count. Still over, it is clipped
    hunk by hunk (the counterpart of gradient clipping), dropped, or accepted as it is.

    Attributes:
        lm: The prompt model.
        style: "generate" writes the prompt anew, "edit" revises the current one.
        on_excess: What becomes of a rewrite that is still over budget: "clip", "drop" or "accept".
            With "accept" it is not sent back either: the budget is a request, as in the paper.
        num_threads: Requests that run at the same time.
        patience: How long a request waits for the backend.
        ledger: Counts the LM calls.
        gate: Called before each request; stops it by raising.
        journal: Keeps the answers, and knows those of an earlier session.
        hide: Takes keys out of what is shown to the prompt model.
    """

    lm: dspy.LM
    style: Style = "generate"
    on_excess: OnExcess = "clip"
    num_threads: int = 8
    patience: Patience = Patience()
    ledger: Ledger = field(default_factory=Ledger)
    gate: Callable[[], None] = lambda: None
    journal: Journal = field(default_factory=Journal)
    hide: Callable[[str], str] = str

    def write(self, requests: Sequence[tuple[MetaPrompt, Guard]]) -> list[Rewrite]:
        """Answer each request with one rewrite, in order.

        Args:
            requests: What to show the prompt model, once per rewrite, and what that must pass.

        Raises:
            BackendUnavailable: The prompt model's backend refused, or stayed away.
        """
        return ordered_map(
            lambda request: self._write(*request), requests, num_threads=self.num_threads
        )

    def _write(self, request: MetaPrompt, guard: Guard) -> Rewrite:
        first = self._ask(request)
        rewrite = self._measured(request, first, guard)
        if rewrite.fate is not Fate.DROPPED:
            return rewrite
        # Over budget: once more, with the count.
        second = self._ask(request.sent_back(rewrite.text, rewrite.words_proposed))
        again = self._measured(request, second, guard)
        if again.fate is Fate.KEPT:
            return Rewrite(
                again.text,
                Fate.SHORTENED,
                request.words,
                rewrite.words_proposed,
                again.words_changed,
            )
        return self._clipped(request, rewrite, guard) if self.on_excess == "clip" else rewrite

    def _ask(self, request: MetaPrompt) -> str | Fate:
        """Return the prompt model's answer, or why there is none; a known one is not paid again."""
        fields = {name: _sendable(self.hide(text)) for name, text in request.fields().items()}
        known_by = json.dumps([self.lm.model, self.style, fields])
        return self.journal.answer(known_by, lambda: self._answer(fields), self.ledger)

    def _answer(self, fields: Mapping[str, str]) -> str | Fate:
        self.gate()
        predict = dspy.Predict(signature(STYLES[self.style], fields))
        try:
            # The caller's program may be traced or streamed; the prompt model's work is not.
            with dspy.context(lm=self.lm, trace=[], send_stream=None):
                answer = self.patience.call(lambda: predict(**fields))
        except AdapterParseError:
            return Fate.UNPARSABLE
        except LMInvalidRequestError as error:
            logger.warning("No rewrite: %s", self.patience.hide(str(error).splitlines()[0]))
            return Fate.UNANSWERED
        return unwrap(str(answer.improved_prompt or ""))

    def _measured(self, request: MetaPrompt, text: str | Fate, guard: Guard) -> Rewrite:
        """Decide the fate of an answer; one over the budget is for now dropped."""
        if isinstance(text, Fate):
            return Rewrite("", text, request.words)
        refused = guard.refuse(text, request.current.text)
        if refused is Fate.TOO_LONG:  # not worth an alignment of tens of thousands of words
            return Rewrite(text[: guard.length_limit], refused, request.words)
        changed = words_changed(request.current.text, text)
        if text == request.current.text:
            refused = Fate.REPEATED
        elif refused is None:
            refused = self._budget_fate(changed, request.words)
        return Rewrite(text, refused, request.words, changed, changed)

    def _budget_fate(self, changed: int, words: int) -> Fate:
        if changed <= words:
            return Fate.KEPT
        return Fate.OVER_BUDGET if self.on_excess == "accept" else Fate.DROPPED

    def _clipped(self, request: MetaPrompt, rewrite: Rewrite, guard: Guard) -> Rewrite:
        text = clip(request.current.text, rewrite.text, request.words)
        if text == request.current.text:  # nothing of it fits
            return rewrite
        clipped = self._measured(request, text, guard)
        fate = Fate.CLIPPED if clipped.fate is Fate.KEPT else clipped.fate
        return Rewrite(text, fate, request.words, rewrite.words_proposed, clipped.words_changed)


def _sendable(text: str) -> str:
    """Replace halves of surrogate pairs, which broken data may hold and no provider can receive."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unwrap(text: str) -> str:
    """Strip what models put around a prompt: white space, code fences, quotation marks, tags."""
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
