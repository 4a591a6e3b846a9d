"""What a user may write for an embedder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from gpo_dspy.embedding._cached import CachedEmbedder, Embedder
from gpo_dspy.embedding._models import AutoEmbedder, SentenceTransformerEmbedder
from gpo_dspy.embedding._ngrams import HashedNgrams

EmbedderSpec: TypeAlias = "str | Embedder | Callable[[list[str]], ArrayLike]"

_HUB = "sentence-transformers:"
_LITELLM = "litellm:"


@dataclass(frozen=True)
class _Function:
    """A function with a name: of a user, or of DSPy."""

    name: str
    function: Callable[..., Any]

    def __call__(self, texts: Sequence[str]) -> Any:
        return self.function(list(texts))


def resolve_embedder(spec: EmbedderSpec = "auto", hub_timeout: float = 5.0) -> CachedEmbedder:
    """Return the embedder that ``spec`` stands for, with a cache around it.

    A string is read in this order:

    1. ``"auto"``: all-MiniLM-L6-v2 from the local cache of the hub, the bundled package or the
       hub; if there is none, hashed n-grams and one warning. ``"hashed-ngrams"`` asks for them.
    2. ``"litellm:..."`` and ``"sentence-transformers:..."`` say which library is meant.
    3. ``"provider/model"`` with a provider that LiteLLM knows, custom ones included, and a bare
       name in LiteLLM's list of embedding models (``"text-embedding-3-small"``), are LiteLLM's.
    4. Everything else is a folder or a model for Sentence-Transformers; a bare name is looked for
       under ``sentence-transformers/``.

    Args:
        spec: A string as above, a ``dspy.Embedder``, an :class:`Embedder`, or any function from a
            list of texts to rows [n, d]. A function without a ``name`` is called
            ``"function:module.qualname"``, which says nothing about what it will do tomorrow.
        hub_timeout: Seconds the Hugging Face hub has to answer.

    Raises:
        TypeError: If ``spec`` is none of these.
        ValueError: If ``spec`` is an empty string.
    """
    if isinstance(spec, CachedEmbedder):
        return spec
    if isinstance(spec, str):
        return CachedEmbedder(_named(spec.strip(), hub_timeout))
    if isinstance(spec, type) or not callable(spec):
        raise TypeError(
            'embedder must be "auto", the name of a model, a dspy.Embedder, or a function from a '
            f"list of texts to rows [n, d]; found {spec!r}."
        )
    import dspy

    if isinstance(spec, dspy.Embedder):
        return CachedEmbedder(_of_dspy(spec))
    if isinstance(getattr(spec, "name", None), str):
        return CachedEmbedder(spec)  # type: ignore[arg-type]
    qualname = getattr(spec, "__qualname__", type(spec).__qualname__)
    module = getattr(spec, "__module__", type(spec).__module__)
    return CachedEmbedder(_Function(f"function:{module}.{qualname}", spec))


def _named(name: str, hub_timeout: float) -> Embedder:
    if not name.removeprefix(_HUB).removeprefix(_LITELLM):
        raise ValueError(f'embedder must be "auto" or the name of a model, found {name!r}.')
    if name == "auto":
        return AutoEmbedder(hub_timeout)
    if name == "hashed-ngrams":
        return HashedNgrams()
    if name.startswith(_HUB):
        return SentenceTransformerEmbedder(name.removeprefix(_HUB), hub_timeout)
    if name.startswith(_LITELLM) or _is_litellm(name):
        return _litellm(name.removeprefix(_LITELLM))
    return SentenceTransformerEmbedder(name, hub_timeout)


def _is_litellm(name: str) -> bool:
    if name.startswith("sentence-transformers/"):
        return False
    import litellm

    provider, slash, _ = name.partition("/")
    if not slash:
        return bool(litellm.model_cost.get(name, {}).get("mode") == "embedding")
    custom = [entry["provider"] for entry in litellm.custom_provider_map]
    return provider in [*litellm.provider_list, *custom]


def _litellm(model: str) -> Embedder:
    import dspy

    return _of_dspy(dspy.Embedder(model, caching=False))


def _of_dspy(embedder: Any) -> Embedder:
    if isinstance(embedder.model, str):
        return _Function(f"litellm:{embedder.model}", embedder)
    qualname = getattr(embedder.model, "__qualname__", type(embedder.model).__qualname__)

    def embed(texts: list[str]) -> Any:
        # DSPy's cache knows a function by its source, so two closures would share vectors.
        return embedder(texts, caching=False)

    return _Function(f"function:{qualname}", embed)
