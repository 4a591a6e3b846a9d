"""The update: the prompt model writes, what it wrote is measured and held to the word budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    Rewrites over the word budget are sent back once with their counts. Still over, they are clipped
    hunk by hunk (the counterpart of gradient clipping), dropped, or accepted as they are.

    Attributes:
        prompt_model: Writes them.
        style: "generate" writes the prompt anew, "edit" revises the current one.
        on_excess: What becomes of a rewrite that is still over budget: "clip", "drop" or "accept".
            With "accept" it is not sent back either: the budget is a request, as in the paper.
    """

    prompt_model: PromptModel
    style: Style = "generate"
    on_excess: OnExcess = "clip"

    def during(self, step: int) -> Rewriter:
        """Return the rewriter of a step."""
        return replace(self, prompt_model=replace(self.prompt_model, step=step))

    def write(self, requests: Sequence[tuple[MetaPrompt, Guard]]) -> list[list[Rewrite]]:
        """Answer each request with as many rewrites as it asks for, in order.

        What a reply to a request for several lacks, because it cannot be parsed or a text is
        missing, cut off, empty, or there twice, is asked for once more, each by itself. So is what
        was refused, with only those failures that the rewrite will be tried on.

        Args:
            requests: What to show the prompt model, and what its rewrites must pass.

        Raises:
            BackendUnavailable: The prompt model's backend refused, or stayed away.
        """
        threads = self.prompt_model.num_threads
        each = max(threads // max(len(requests), 1), 1)
        return ordered_map(
            lambda request: self._write(*request, num_threads=each), requests, num_threads=threads
        )

    def _write(self, request: MetaPrompt, guard: Guard, *, num_threads: int) -> list[Rewrite]:
        rewrites = [self._measured(request, text, guard) for text in self._ask(request)]
        refused = rewrites[0].fate is Fate.UNANSWERED
        if refused:  # perhaps for one of the failures, or for its length
            places = list(range(len(rewrites))) if request.can_be_smaller else []
        else:
            places = _lacking(rewrites) if request.rewrites > 1 else []
        alone = {place: request.alone(place, fewer_failures=refused) for place in places}
        answers = ordered_map(self._ask, list(alone.values()), num_threads=num_threads)
        for place, (text,) in zip(alone, answers, strict=True):
            rewrite = self._measured(request, text, guard)
            rewrites[place] = replace(rewrite, asked_alone=not refused)
        over = [i for i, rewrite in enumerate(rewrites) if rewrite.fate is Fate.DROPPED]
        if together := [i for i in over if i not in alone]:
            self._send_back(request, rewrites, together, guard)
        for i in over:
            if i in alone:
                self._send_back(alone[i], rewrites, [i], guard)
        return rewrites

    def _send_back(
        self, request: MetaPrompt, rewrites: list[Rewrite], places: Sequence[int], guard: Guard
    ) -> None:
        """Ask once more, with the counts, for rewrites that are over the budget."""
        over = [(rewrites[i].text, rewrites[i].words_changed) for i in places]
        for i, text in zip(places, self._ask(request.sent_back(over)), strict=True):
            taken = any(text == other.text for other in rewrites)
            rewrites[i] = self._second_try(request, rewrites[i], "" if taken else text, guard)

    def _ask(self, request: MetaPrompt) -> Sequence[str | Fate]:
        """Return as many answers as are asked for, or as often why there is none."""
        signature = request.instructing(STYLES[self.style])
        question = Question(self.style, signature, request.fields())
        answers = self.prompt_model.ask_for_several(question)
        return [answers] * request.rewrites if isinstance(answers, Fate) else answers

    def _second_try(
        self, request: MetaPrompt, first: Rewrite, text: str | Fate, guard: Guard
    ) -> Rewrite:
        second = self._measured(request, text, guard)
        if second.fate is Fate.KEPT:
            changed = second.words_changed
            return replace(first, text=second.text, fate=Fate.SHORTENED, words_changed=changed)
        return self._clipped(request, first, guard) if self.on_excess == "clip" else first

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
        return replace(rewrite, text=text, fate=fate, words_changed=clipped.words_changed)


def _lacking(rewrites: Sequence[Rewrite]) -> list[int]:
    """Return the places of what a joint reply lacks: missing, cut off, empty, or there before."""
    missing = (Fate.EMPTY, Fate.UNPARSABLE, Fate.CUT_OFF)
    of_use = (Fate.KEPT, Fate.OVER_BUDGET, Fate.DROPPED)
    texts = [rewrite.text for rewrite in rewrites]
    return [
        i
        for i, rewrite in enumerate(rewrites)
        if rewrite.fate in missing or (rewrite.fate in of_use and rewrite.text in texts[:i])
    ]
