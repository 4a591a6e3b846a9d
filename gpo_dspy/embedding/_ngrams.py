"""Vectors without a model: which sequences of characters a text is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the multiplier of Fibonacci hashing


@dataclass(frozen=True)
class HashedNgrams:
    """Counts of hashed character n-grams: sees spelling in common, not meaning.

    The same in every process and on every machine. Upper and lower case are one.

    Attributes:
        dimension: Length of the vectors, d.
        shortest: Characters in the shortest n-grams.
        longest: Characters in the longest ones.
    """

    dimension: int = 1024
    shortest: int = 3
    longest: int = 5

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"dimension must be at least 1, found {self.dimension!r}.")
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(
                "shortest and longest must satisfy 1 <= shortest <= longest, "
                f"found {self.shortest!r} and {self.longest!r}."
            )

    @property
    def name(self) -> str:
        """The name, with everything the vectors depend on."""
        return f"hashed-ngrams-{self.shortest}-{self.longest}-{self.dimension}"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row of signed counts per text [n, d]; zeros for an empty text."""
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row += self._counts(text)
        return rows

    def _counts(self, text: str) -> NDArray[np.float64]:
        text = " ".join(text.casefold().split())
        if not text:
            return np.zeros(self.dimension)
        padded = f" {text} ".encode("utf-32-le", errors="surrogatepass")
        characters = np.frombuffer(padded, dtype="<u4").astype(np.uint64)
        hashed: NDArray[np.uint64] = np.zeros(len(characters), np.uint64)
        grams = []
        for n in range(1, self.longest + 1):  # hashed[i]: the n characters from i on
            hashed = hashed[: len(characters) - n + 1] * _ODD + characters[n - 1 :]
            if n >= self.shortest:
                grams.append(hashed + np.uint64(n))
            if n == len(characters):
                break
        mixed = _mixed(np.concatenate(grams or [hashed]))
        places = (mixed >> np.uint64(1)) % np.uint64(self.dimension)
        signs = 1.0 - 2.0 * (mixed & np.uint64(1))  # collisions cancel on average
        counts = np.bincount(places.astype(np.int64), weights=signs, minlength=self.dimension)
        return counts.astype(np.float64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values with every bit depending on every bit (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
