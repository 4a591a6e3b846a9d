"""The interface of an embedder, and the cache around it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from threading import Lock
from typing import Protocol

import numpy as np
import tenacity
from numpy.typing import ArrayLike, NDArray

from gpo_dspy.user_functions import blamed_on

logger = logging.getLogger(__name__)

_AWAY = re.compile("Connect|Timeout|TransportError")

ATTEMPTS = 5
"""Tries of one request to an embedder in all."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """What made the vectors: those of two names are never compared."""
        ...

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text [n, d]."""
        ...


class CachedEmbedder:
    """Embeds each text once, and gives every row length 1 (rows of zeros stay as they are).

    May be called from several threads at once.

    Args:
        inner: The embedder to ask for texts that are new.
        first_wait: Seconds before it is asked again, if it is only away; further waits are longer.
    """

    def __init__(self, inner: Embedder, first_wait: float = 1.0) -> None:
        self._inner = inner
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_waiting_helps),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(first_wait),
            before_sleep=_log_wait,
            reraise=True,
        )
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._dimension: int | None = None
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The name of the embedder inside; asking for it may look for the model."""
        return self._inner.name

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row of length 1 or 0 per text [n, d], embedding the new ones in one batch.

        Raises:
            TypeError: If ``texts`` is a single string.
            ArgumentFailed: If the embedder inside raises, or returns anything but finite rows
                [n, d].
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of strings, found the string {texts[:40]!r}.")
        with self._lock:  # also while embedding: two threads must not pay for the same text
            new = [text for text in dict.fromkeys(texts) if text not in self._rows]
            if new:
                with blamed_on(f"embedder {self.name!r}"):
                    self._store(new, self._retrying(self._inner, new))
            if not texts:
                return np.empty((0, self._dimension or 0), np.float32)
            return np.stack([self._rows[text] for text in texts])

    def remember(self, texts: Sequence[str], vectors: ArrayLike) -> None:
        """Fills the cache with rows [n, d] that this embedder made earlier.

        Raises:
            ValueError: If the rows do not fit the texts, or those already there.
        """
        with self._lock:
            self._store(texts, vectors)

    def _store(self, texts: Sequence[str], vectors: ArrayLike) -> None:
        rows = self._checked(np.asarray(vectors), len(texts)).astype(np.float64)
        scale = np.abs(rows).max(axis=1, keepdims=True)
        rows /= np.where(scale > 0, scale, 1.0)  # first, lest a square over- or underflows
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(lengths > 0, lengths, 1.0)
        self._dimension = rows.shape[1]
        self._rows.update(zip(texts, rows.astype(np.float32), strict=True))

    def _checked(self, rows: NDArray[np.generic], count: int) -> NDArray[np.generic]:
        source = f"embedder {self.name!r}"
        wanted = f"[{count}, {'d' if self._dimension is None else self._dimension}]"
        fits = rows.ndim == 2 and len(rows) == count and rows.shape[1] > 0
        if not fits or rows.shape[1] != (self._dimension or rows.shape[1]):
            raise ValueError(
                f"{source} must return rows of the shape {wanted}, one per text; "
                f"found the shape {list(rows.shape)}."
            )
        if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
            raise ValueError(f"{source} must return real numbers, found {rows.dtype}.")
        if not np.isfinite(rows).all():
            row = int(np.argwhere(~np.isfinite(rows))[0][0])
            raise ValueError(
                f"{source} must return finite numbers, found NaN or infinity in row {row}."
            )
        return rows


def _waiting_helps(error: BaseException) -> bool:
    """Tell an embedder that is away by what LiteLLM and the usual clients for HTTP raise."""
    response = getattr(error, "response", None)
    statuses = (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),  # urllib
    )
    for status in statuses:
        if isinstance(status, int):
            return status in (408, 429) or status >= 500
    return any(_AWAY.search(kind.__name__) for kind in type(error).__mro__)


def _log_wait(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning(
        "The embedder is away (%s); try %d follows in %.1f s.",
        type(error).__name__,
        state.attempt_number + 1,
        state.upcoming_sleep,
    )
