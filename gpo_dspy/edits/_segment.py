"""Where one word ends and the next begins, in any script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import budoux
import regex

# Scripts without spaces between words, which UAX #29 leaves to a dictionary.
_SCRIPTS = regex.compile(
    r"(?P<thai>\p{Thai}+)|(?P<syllabic>[\p{Lao}\p{Khmer}\p{Myanmar}]+)"
    r"|(?P<other>[^\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+)"
)
_BOUNDARY = regex.compile(r"\b", regex.VERSION1 | regex.WORD)  # WORD: the boundaries of UAX #29
# A Lao vowel before its consonant, or Khmer and Burmese stacked consonants, make one syllable.
_SYLLABLE = regex.compile(r"[\u0EC0-\u0EC4]?(?:\X(?<=[\u17D2\u1039]))*\X[\u0EB0\u0EB2\u0EB3\p{M}]*")
_WORD = regex.compile(r"[\p{L}\p{N}\p{Emoji_Presentation}\p{RI}]|\p{Emoji}\uFE0F")


@dataclass(frozen=True, slots=True)
class Segments:
    """A text as words and what stands between them.

    The text is ``gaps[0] + words[0] + gaps[1] + ... + words[n - 1] + gaps[n]``.

    Attributes:
        words: The words [n].
        gaps: Punctuation and whitespace before, between and after the words [n + 1].
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    def text(self, start: int, stop: int) -> str:
        """Return words ``start`` to ``stop`` (excluded) with the gaps between them."""
        pairs = zip(self.gaps[start + 1 : stop], self.words[start + 1 : stop], strict=True)
        return "".join(
            (*self.words[start : min(start + 1, stop)], *(p for ps in pairs for p in ps))
        )


@lru_cache(maxsize=64)  # a step compares many rewrites with the same few prompts
def segment(text: str) -> Segments:
    """Return the words of ``text`` and the gaps between them."""
    found: list[str] = []
    gaps: list[str] = []
    gap: list[str] = []
    for token in _tokens(text):
        if token.isalnum() or _WORD.search(token):  # the first test is only for speed
            gaps.append("".join(gap))
            found.append(token)
            gap = []
        else:
            gap.append(token)
    return Segments(words=tuple(found), gaps=(*gaps, "".join(gap)))


def words(text: str) -> list[str]:
    """Return the words of ``text`` in order, without punctuation and whitespace.

    The rules are the word boundaries of Unicode (UAX #29): ``don't``, ``3.14`` and ``snake_case``
    are one word each, ``well-known`` is two, a Han character is one, and so is an emoji with its
    modifiers. Thai is cut by the model of BudouX. Lao, Khmer and Burmese, for which there is no
    small model, count about one word per syllable: more than there are, never fewer.

    Args:
        text: Any text.
    """
    return list(segment(text).words)


def _tokens(text: str) -> Iterator[str]:
    for run in _SCRIPTS.finditer(text):
        if run.lastgroup == "thai":
            yield from _thai().parse(run.group())
        elif run.lastgroup == "syllabic":
            yield from _SYLLABLE.findall(run.group())
        else:
            yield from filter(None, _BOUNDARY.split(run.group()))


@lru_cache(maxsize=1)
def _thai() -> budoux.Parser:
    return budoux.load_default_thai_parser()
