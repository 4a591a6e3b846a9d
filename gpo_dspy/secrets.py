"""Keys and passwords: collected where they are known, and hidden in whatever is kept or shown."""

from __future__ import annotations

import functools
import json
import os
import re
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "[secret]"

SHORTEST = 8
"""Characters of the shortest secret; shorter ones would be found in ordinary text."""

MOST_OBJECTS = 20_000
"""Objects that are looked at in search of LMs; a metric may hold a whole data set."""

SECRET_SETTING = re.compile(
    r"(?:key|token|secret|passw(?:or)?d|passphrase|authorization|credentials?|cookie)$", re.I
)
SECRET_IN_CODE = re.compile(
    r"(?:api|access|secret|private|auth)_?(?:key|token)|secret|passw(?:or)?d|credential", re.I
)
SECRET_IN_ENVIRONMENT = re.compile(r"API_?KEY|_KEY$|TOKEN(?!S|IZ)|SECRET|PASSW(?:OR)?D", re.I)
NOT_THE_SECRET = re.compile(r"_(?:PATH|FILE|DIR|NAME|TYPE|URL|ENDPOINT|LIMIT)$", re.I)

OPTION = re.compile(r"(?:^|&)\w*password=([^&]+)", re.I)

# "not-needed", "password", "/run/token" and numbers say nothing, and may stand in any text.
ORDINARY = re.compile(
    r"(?:[A-Z]?[a-z]{0,11}|[A-Z]{1,11})(?:[-_. /](?:[A-Z]?[a-z]{0,11}|[A-Z]{1,11}))*|[\d.,:-]+"
)

SHAPES = {
    "sk-": r"(?=[\w-]*\d)[\w-]{20,}",  # OpenAI, Anthropic, OpenRouter, ...
    "AIza": r"[\w-]{30,}",  # Google
    "ghp_": r"[A-Za-z0-9]{30,}",  # GitHub
    "gho_": r"[A-Za-z0-9]{30,}",
    "ghs_": r"[A-Za-z0-9]{30,}",
    "github_pat_": r"\w{30,}",
    "hf_": r"[A-Za-z0-9]{30,}",  # Hugging Face
    "gsk_": r"[A-Za-z0-9]{30,}",  # Groq
    "xai-": r"[A-Za-z0-9]{30,}",
    "Bearer ": r"(?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*",
    "bearer ": r"(?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*",
}
"""Keys that are known by how they look, wherever they come from: beginning and rest."""


def is_secret_setting(name: str) -> bool:
    """Say whether a setting of a client, by its name, is a key or password."""
    return SECRET_SETTING.search(name) is not None


def is_secret_variable(name: str) -> bool:
    """Say whether a variable is a key or password; ``answer_key`` and ``end_token`` are not."""
    return SECRET_IN_CODE.search(name) is not None


class Secrets:
    """Values that must never be stored, logged or shown.

    Values of less than 8 characters, plain words and numbers are no secrets: hiding them would
    damage ordinary text.

    Args:
        values: The secrets; more are known by their shape, such as ``sk-...``.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        kept = {form for value in values if _is_secret(value) for form in _forms(value)}
        longest_first = sorted(kept, key=lambda value: (-len(value), value))
        shapes = [_shape(beginning, rest) for beginning, rest in SHAPES.items()]
        # Each alternative begins with a letter of its own, which makes the search fast.
        self._pattern = re.compile("|".join([*map(re.escape, longest_first), *shapes]))

    @classmethod
    def of(
        cls, *lms: Any, urls: Iterable[str] = (), environment: Mapping[str, str] | None = None
    ) -> Secrets:
        """Collect the secrets of a process.

        Args:
            *lms: Their keys and headers are secrets.
            urls: Their passwords are secrets.
            environment: Variables such as ``OPENAI_API_KEY`` are secrets, and passwords in URLs;
                default: those of this process.
        """
        environment = os.environ if environment is None else environment
        return cls(
            [
                *(value for lm in lms for value in _of_lm(lm)),
                *(password for url in urls for password in _passwords(url)),
                *_of_environment(environment),
            ]
        )

    def hide(self, text: str) -> str:
        """Return a text, which may be JSON, with ``[secret]`` in the place of each secret."""
        return self._pattern.sub(HIDDEN, text)


def lms_within(*values: Any) -> list[Any]:
    """Return the LMs and embedders that programs and functions hold, however deep.

    Followed are attributes, containers, closures, defaults, and the globals that a function names.
    """
    import dspy

    found, waiting, seen = [], deque(values), set[int]()
    while waiting and len(seen) < MOST_OBJECTS:
        value = waiting.popleft()
        if id(value) in seen or isinstance(value, (str, bytes, int, float, type(None))):
            continue
        seen.add(id(value))
        if isinstance(value, (dspy.BaseLM, dspy.Embedder)):
            found.append(value)
        else:
            waiting.extend(_held(value))
    return found


def _held(value: Any) -> Iterator[Any]:
    """Yield what a value holds; modules, classes and arrays hold nothing of interest."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, (types.ModuleType, type)):
        return
    elif isinstance(value, types.FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        names = value.__code__.co_names
        yield from (value.__globals__[name] for name in names if name in value.__globals__)
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    else:
        yield from vars(value).values() if hasattr(value, "__dict__") else ()
        yield type(value).__dict__.get("__call__")


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def without_password(url: str | None) -> str | None:
    """Return a URL with ``***`` in the place of its passwords."""
    for password in _passwords(url or ""):
        for mark in (":", "="):  # before the host, or among the options
            url = (url or "").replace(f"{mark}{password}", f"{mark}***")
    return url


def _shape(beginning: str, rest: str) -> str:
    """Return the pattern of a key at the begin of a word, or after an escape in JSON text."""
    at_begin = rf"(?<!\w{beginning})"
    after_escape = rf"(?<=\\[bfnrt]{beginning})|(?<=\\u[0-9a-fA-F]{{4}}{beginning})"
    return rf"{beginning}(?:{at_begin}|{after_escape}){rest}"


def _of_lm(lm: Any) -> Iterator[str]:
    yield from _of_settings(getattr(lm, "kwargs", None))
    engine = getattr(lm, "engine", None)  # a custom one has the connection
    yield from _of_settings(getattr(engine, "__dict__", None))


def _of_settings(settings: Any) -> Iterator[str]:
    """Yield the secrets in settings, by their names, those in dicts and lists too."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if isinstance(value, str):
                yield from _passwords(value)
                if is_secret_setting(str(name)):
                    yield from (value, value.split(" ")[-1])  # of "Bearer x", x alone too
            else:
                yield from _of_settings(value)
    elif isinstance(settings, (list, tuple)):
        for item in settings:
            yield from _of_settings(item)


def _of_environment(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        yield from _passwords(value)
        if SECRET_IN_ENVIRONMENT.search(name) and not NOT_THE_SECRET.search(name):
            yield value


def _passwords(url: str) -> Iterator[str]:
    """Yield the passwords of a URL, as they are written and as they are meant."""
    if "://" not in url:
        return
    try:
        parts = urlsplit(url)
        written = [parts.password or "", *OPTION.findall(parts.query)]
    except ValueError:  # no URL after all
        return
    for password in filter(None, written):
        yield from (password, unquote(password))


def _is_secret(value: str) -> bool:
    return len(value) >= SHORTEST and ORDINARY.fullmatch(value) is None


def _forms(value: str) -> set[str]:
    """Return a secret as it stands in plain text, in JSON and in a URL."""
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value, safe="", errors="replace"),
    }
