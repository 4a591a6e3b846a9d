"""Chance without a generator: every draw is a hash of what it is about.

The same words give the same number in any thread, process or machine, so a simulated
model is a pure function of its request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def share(*parts: object) -> float:
    """Return a number in [0, 1) that depends on nothing but ``parts``.

    Args:
        *parts: Values whose ``str`` identifies the draw.
    """
    text = "\x1f".join(map(str, parts))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


class Dice:
    """A sequence of draws that belongs to one seed text.

    Args:
        *parts: Values whose ``str`` identifies the sequence.
    """

    def __init__(self, *parts: object) -> None:
        joined = "\x1f".join(map(str, parts)).encode()
        self._seed = hashlib.blake2b(joined, digest_size=16).hexdigest()
        self._drawn = 0

    def random(self) -> float:
        """Return the next number in [0, 1)."""
        self._drawn += 1
        return share(self._seed, self._drawn)

    def chance(self, probability: float) -> bool:
        """Return True in ``probability`` of the draws."""
        return self.random() < probability

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return low + int(self.random() * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """Return one of ``options``."""
        return options[int(self.random() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different ones of ``options``, in random order."""
        return self.shuffled(options)[:count]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return ``options`` in random order."""
        keyed = sorted((self.random(), index) for index in range(len(options)))
        return [options[index] for _, index in keyed]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return a key of ``weights`` with a probability in proportion to its value."""
        mark = self.random() * sum(weights.values())
        for option, weight in weights.items():
            mark -= weight
            if mark < 0:
                return option
        return next(reversed(list(weights)))
