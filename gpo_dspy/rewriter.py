"""The update: the prompt model writes, what it wrote is measured and held to the word budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpo_dspy.edits import clip, words_changed
from gpo_dspy.execution.parallel import ordered_map
from gpo_dspy.guards import Guard
from gpo_dspy.meta_prompt import EditPrompt, GeneratePrompt, MetaPrompt
from gpo_dspy.prompt_model import PromptModel, Question
from gpo_dspy.state import Fate, Rewrite

Style = Literal["generate", "edit"]
OnExcess = Literal["clip", "drop", "accept"]

STYLES = {"generate": GeneratePrompt, "edit": EditPrompt}


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Asks the prompt model for rewrites.

    A rewrite over the word budget is sent back once with its count. Still over, it is clipped
    hunk by hunk (the counterpart of gradient clipping), dropped, or accepted as it is.

    Attributes:
        prompt_model: Writes them.
        style: "generate" writes the prompt anew, "edit" revises the current one.
        on_excess: What becomes of a rewrite that is still over budget: "clip", "drop" or "accept".
            With "accept" it is not sent back either: the budget is a request, as in the paper.
    """

    prompt_model: PromptModel
    style: Style = "generate"
    on_excess: OnExcess = "clip"

    def write(self, requests: Sequence[tuple[MetaPrompt, Guard]]) -> list[Rewrite]:
        """Answer each request with one rewrite, in order.

        Args:
            requests: What to show the prompt model, once per rewrite, and what that must pass.

        Raises:
            BackendUnavailable: The prompt model's backend refused, or stayed away.
        """
        threads = self.prompt_model.num_threads
        return ordered_map(lambda request: self._write(*request), requests, num_threads=threads)

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
        signature = request.instructing(STYLES[self.style])
        return self.prompt_model.ask(Question(self.style, signature, request.fields()))

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
