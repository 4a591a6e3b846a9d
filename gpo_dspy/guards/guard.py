"""What an instruction may not be, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import dspy

from gpo_dspy.guards.languages import as_code, as_whole_word, in_another_language, language_of
from gpo_dspy.program import optimizable_predictors, tool_names
from gpo_dspy.program_state import Instructions
from gpo_dspy.state import Fate

if TYPE_CHECKING:
    from gpo_dspy.guards.copying import Copies

# What DSPy's chat format puts between fields; inside an instruction it breaks the parsing.
FIELD_MARKER = re.compile(r"\[\[\s*##.*?##\s*\]\]", re.DOTALL)
PLACEHOLDER = re.compile(r"\{[^\W\d]\w*\}")
WORD = re.compile(r"\w")

# What DSPy writes where the user wrote nothing; it names every field, and binds nobody to.
DSPY_DEFAULT = re.compile(r"Given the fields `[\w`, ]*`, produce the fields `[\w`, ]*`\.")

# Marks that an answer is to be given in: tags and heads named in the running text, \boxed{}, ####.
FORMAT_MARK = re.compile(
    r"</?[A-Za-z][\w-]*>|\\boxed\b|(?<=[`\"'“])#{2,}|#{4,}(?= *[<{\[\d])|\[\[\w+\]\]"
    r"|(?<=[`\"“])[A-Z][\w ]{0,30}:(?=(?: *\S+){0,3}?[`\"”])"
)
# A tag that opens or closes a part of the instruction itself, on a line of its own or around it.
SECTION_TAG = re.compile(r"^[ \t]*<([A-Za-z][\w-]*)>(.*?)</\1>[ \t]*$", re.DOTALL | re.MULTILINE)

SHORTEST_LIMIT = 8_000
"""Characters that an instruction may always have; about 2,000 tokens."""

SHORTEST_TOKEN_LIMIT = 2_000
"""Tokens that an instruction may always have."""

GROWTH = 4
"""An instruction may be so many times as long as the student's own."""

OFFLINE_TOKENIZERS = ("openai/", "azure/", "anthropic/", "gpt-", "claude-", "o1", "o3", "o4")
"""Models whose tokens LiteLLM counts without a download; for others it counts as for GPT-4."""


@dataclass(frozen=True)
class Guard:
    """What every rewrite of one predictor's instruction must pass.

    Attributes:
        start: The student's own instruction; its placeholders such as ``{name}`` must stay, and
            the marks of the output format that it asks for.
        names: Words that must stay, such as the names of an agent's tools.
        language: ISO 639-1 code of the language to write in; None is that of ``start``, as far as
            it can be told.
        copies: Finds what is copied from examples; None allows all of it.
        model: Counts the tokens; None bounds the characters instead.
    """

    start: str
    names: frozenset[str] = frozenset()
    language: str | None = None
    copies: Copies | None = None
    model: str | None = None

    @property
    def length_limit(self) -> int:
        """The most characters an instruction may have: four times the student's own, or more."""
        return max(SHORTEST_LIMIT, GROWTH * len(self.start))

    def refuse(self, text: str, written_from: str = "") -> Fate | None:
        """Return why a text cannot be the instruction, or None if it can.

        Args:
            text: The text.
            written_from: The prompt it was written from, which it may quote.
        """
        if not WORD.search(text):
            return Fate.EMPTY
        if text == self.start:
            return None
        if self._too_long(text):
            return Fate.TOO_LONG
        if FIELD_MARKER.search(text):
            return Fate.MARKER
        placeholders = set(PLACEHOLDER.findall(self.start)) <= set(PLACEHOLDER.findall(text))
        if not placeholders or not all(stands_in(name, text) for name in self.names):
            return Fate.NAME_LOST
        if not all(mark in text for mark in self._format_marks):
            return Fate.FORMAT_LOST
        if self.copies is not None:
            known = (self.start, written_from)
            if self.copies.answer(text, known):
                return Fate.ANSWER_GIVEN
            if self.copies.passage(text, known):
                return Fate.EXAMPLE_COPIED
        language = self.language or self._language_of_start
        if language is not None and in_another_language(text, language):
            return Fate.OTHER_LANGUAGE
        return None

    def _too_long(self, text: str) -> bool:
        if self.model is None or len(text) > GROWTH * self.length_limit:  # not worth counting
            return len(text) > self.length_limit
        if len(text.encode(errors="replace")) <= SHORTEST_TOKEN_LIMIT:  # no token is below a byte
            return False
        tokens, own = count_tokens(self.model, text), count_tokens(self.model, self.start)
        if tokens is None or own is None:
            return len(text) > self.length_limit
        return tokens > max(SHORTEST_TOKEN_LIMIT, GROWTH * own)

    @cached_property
    def _language_of_start(self) -> str | None:
        return language_of(self.start)

    @cached_property
    def _format_marks(self) -> frozenset[str]:
        return format_marks(self.start)


def make_guards(
    student: dspy.Module,
    instructions: Instructions,
    examples: Iterable[dspy.Example],
    *,
    language: str | None = None,
    allow_examples: bool = False,
) -> dict[str, Guard]:
    """Return the guard of each predictor.

    Args:
        student: The program.
        instructions: Its own instructions.
        examples: Examples that no rewrite may copy from.
        language: The language to write in, by English name or ISO 639-1 code; None is that of each
            predictor's own instruction.
        allow_examples: Whether rewrites may copy from examples after all.
    """
    from gpo_dspy.guards.copying import Copies  # NumPy: not before it is needed

    copies = None if allow_examples else Copies(examples)
    code = None if language is None else as_code(language)
    predictors = optimizable_predictors(student)
    return {
        name: Guard(
            text,
            frozenset(n for n in tool_names(student, name) if stands_in(n, text))
            | fields_named(predictors[name].signature, text),
            code,
            copies,
            _model_of(predictors[name]),
        )
        for name, text in instructions
    }


def fields_named(signature: type[dspy.Signature], instruction: str) -> frozenset[str]:
    """Return the fields that an instruction names as such.

    A field called ``answer`` is named by "`answer`", not by every "answer" in the text; one
    called ``final_answer`` by the word itself. What DSPy writes by default names no field.
    """
    if DSPY_DEFAULT.fullmatch(instruction.strip()):
        return frozenset()
    return frozenset(name for name in _fields(signature) if _named_as_field(name, instruction))


def format_marks(instruction: str) -> frozenset[str]:
    """Return the marks of the output format that an instruction names, such as ``<answer>``."""
    running = SECTION_TAG.sub(r"\2", instruction)
    return frozenset(FORMAT_MARK.findall(running))


def stands_in(name: str, text: str) -> bool:
    """Tell whether a text has a name as a whole word."""
    return re.search(as_whole_word(re.escape(name)), text) is not None


@lru_cache(maxsize=256)
def count_tokens(model: str, text: str) -> int | None:
    """Return how many tokens a text has, about; None if they cannot be counted.

    Nothing is downloaded for it: for models whose tokenizer is not at hand, GPT-4's is taken.
    """
    import litellm  # takes seconds: only for texts of some length

    known = model if model.startswith(OFFLINE_TOKENIZERS) else "gpt-4"
    try:
        return int(litellm.token_counter(model=known, text=text))
    except Exception:  # noqa: BLE001 - a bound on characters does as well
        return None


def _fields(signature: type[dspy.Signature]) -> Mapping[str, object]:
    fields: Mapping[str, object] = signature.fields
    return fields


def _named_as_field(name: str, text: str) -> bool:
    if re.search(r"[_\d]|[a-z][A-Z]", name):  # no word of any language
        return stands_in(name, text)
    quoted = re.escape(name)
    return (
        re.search(rf"`{quoted}`|\"{quoted}\"|'{quoted}'|“{quoted}”|\*\*{quoted}\*\*", text)
        is not None
    )


def _model_of(predictor: dspy.Predict) -> str | None:
    lm = predictor.lm or dspy.settings.lm
    return getattr(lm, "model", None)
