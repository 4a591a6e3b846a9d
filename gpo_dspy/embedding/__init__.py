"""Texts to vectors, so that prompts can be compared by meaning.

An :class:`Embedder` is anything with a ``name`` that turns texts into rows. What a user may write
for one is turned into a :class:`CachedEmbedder` by :func:`resolve_embedder`: ``"auto"``, the name
of a Sentence-Transformers or LiteLLM model, a ``dspy.Embedder``, or a function::

    >>> embed = resolve_embedder("hashed-ngrams")
    >>> embed(["sort the words", "sort the words!", "count"]).shape
    (3, 1024)

Models are looked for and loaded at the first call, not before.
"""

from gpo_dspy.embedding._cached import CachedEmbedder, Embedder
from gpo_dspy.embedding._locate import ModelUnavailable
from gpo_dspy.embedding._models import AutoEmbedder, SentenceTransformerEmbedder
from gpo_dspy.embedding._ngrams import HashedNgrams
from gpo_dspy.embedding._resolve import EmbedderSpec, resolve_embedder

__all__ = [
    "AutoEmbedder",
    "CachedEmbedder",
    "Embedder",
    "EmbedderSpec",
    "HashedNgrams",
    "ModelUnavailable",
    "SentenceTransformerEmbedder",
    "resolve_embedder",
]
