"""Everything tried so far for one predictor, to be searched by meaning, age or score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nlargest

from gpo_dspy.embedding import CachedEmbedder, Embedder
from gpo_dspy.state import ScoredPrompt
from gpo_dspy.vector_index import VectorIndex


class Trajectory:
    """Append-only scored prompts of one predictor, oldest first.

    A text is there once: appending it again updates what is known of it and leaves its age. Only
    new texts are embedded.

    Args:
        embedder: Turns texts into vectors.
        prompts: Prompts to start with, oldest first.
        exact_below: Number of prompts from which on :meth:`nearest` is approximate.
    """

    def __init__(
        self,
        embedder: Embedder,
        prompts: Iterable[ScoredPrompt] = (),
        exact_below: int = 100_000,
    ) -> None:
        self._embedder = (
            embedder if isinstance(embedder, CachedEmbedder) else CachedEmbedder(embedder)
        )
        self._index = VectorIndex(exact_below=exact_below)
        self._prompts: list[ScoredPrompt] = []
        self._ages: dict[str, int] = {}
        self.extend(prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[ScoredPrompt]:
        return iter(self._prompts)

    def __contains__(self, text: object) -> bool:
        return text in self._ages

    def append(self, prompt: ScoredPrompt) -> None:
        """Add a prompt, or updates the one with the same text."""
        self.extend((prompt,))

    def extend(self, prompts: Iterable[ScoredPrompt]) -> None:
        """Add prompts in order, embedding the new ones together."""
        latest = {prompt.text: prompt for prompt in prompts}
        new = [text for text in latest if text not in self._ages]
        if new:
            self._index.add(self._embedder(new))  # first: if embedding fails, nothing is added
        for text, prompt in latest.items():
            if text in self._ages:
                self._prompts[self._ages[text]] = prompt
            else:
                self._ages[text] = len(self._prompts)
                self._prompts.append(prompt)

    def get(self, text: str) -> ScoredPrompt | None:
        """Return the prompt with this text, or None."""
        age = self._ages.get(text)
        return None if age is None else self._prompts[age]

    def age(self, text: str) -> int:
        """Return the position of a prompt, 0 for the oldest.

        Raises:
            KeyError: If there is no prompt with this text.
        """
        return self._ages[text]

    def nearest(self, text: str, k: int) -> list[tuple[ScoredPrompt, float]]:
        """Return the prompts most similar to ``text``, which need not be one of them.

        Args:
            text: What to compare with; a prompt of the trajectory finds itself first.
            k: How many to return, at least 1; all of them if there are fewer.

        Returns:
            Prompts with their cosine similarity in [-1, 1], the most similar first, the older
            first where they are equally similar.
        """
        ids, similarities = self._index.search(self._embedder([text])[0], k)
        return [
            (self._prompts[age], similarity)
            for age, similarity in zip(ids.tolist(), similarities.tolist(), strict=True)
        ]

    def latest(self, k: int) -> list[ScoredPrompt]:
        """Return the ``k`` newest prompts, the newest first."""
        return self._prompts[: -_at_least_one(k) - 1 : -1]

    def best(self, k: int) -> list[ScoredPrompt]:
        """Return the ``k`` prompts with the highest scores, the older first on ties."""
        # nlargest keeps the order of equal ones, as sorted(reverse=True) does
        return nlargest(_at_least_one(k), self._prompts, key=lambda prompt: prompt.score)


def _at_least_one(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k!r}.")
    return k
