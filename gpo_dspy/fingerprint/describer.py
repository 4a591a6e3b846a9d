"""Anything as nested lists that are equal where it is: by what it holds and what it does.

Each list begins with the kind of what it describes, so that no two kinds look alike. No
description has an address in it, an order of hashing, or what differs between Python versions.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import pathlib
import re
import sys
import sysconfig
import types
import typing
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from gpo_dspy.fingerprint.digests import digest, to_text
from gpo_dspy.fingerprint.source import mutated_attributes
from gpo_dspy.secrets import is_secret_variable

PLAIN = (type(None), bool, int, float, str)
LARGEST_INT = 2**53  # longer ones have no decimal text past 4,300 digits
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")

LIBRARIES = frozenset({"dspy", "gpo_dspy", "litellm"})
"""Packages that are libraries wherever they are installed."""

STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
"""Folders of the standard library."""


def is_library(module: str | None) -> bool:
    """Say whether a module belongs to a library, so that its code is named and not described."""
    if module is None or module == "__main__":
        return False
    if module.partition(".")[0] in LIBRARIES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    if module.partition(".")[0] in sys.stdlib_module_names:  # a user's own may have such a name
        return not file or file.startswith(STANDARD)
    return not {"site-packages", "dist-packages"}.isdisjoint(pathlib.PurePath(file).parts)


class Describer:
    """Describes values, functions, classes and objects.

    Args:
        content: Whether an object of an unknown class is described by all it holds (what an
            example holds is what it is), or by its class alone (a client or a model that a
            metric uses changes while it works).
        home: A module whose code is described although it is installed as a library.
    """

    def __init__(self, *, content: bool = False, home: str | None = None) -> None:
        self.content = content
        top = (home or "").partition(".")[0]
        standard = top in sys.stdlib_module_names and is_library(home)
        named_only = home is None or top in LIBRARIES or standard
        self._home = None if named_only else home
        self._path: list[int] = []
        self._digests: dict[int, tuple[object, str]] = {}

    def __call__(self, value: Any) -> Any:
        """Return the description of anything."""
        kind = type(value)
        if kind is int:
            return value if abs(value) < LARGEST_INT else ["int", hex(value)]
        if kind is str:
            return value if _is_unicode(value) else ["points", *map(ord, value)]
        if kind in PLAIN:
            return value
        if id(value) in self._path:
            return ["again", len(self._path) - self._path.index(id(value))]
        self._path.append(id(value))
        try:
            if issubclass(kind, enum.Enum):  # before int and str, which it may be as well
                return ["enum", kind.__qualname__, value.name, self(value.value)]
            # Not by value.__class__, which a proxy answers for what it stands for, or raises.
            return describe.dispatch(kind)(value, self)
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - whatever an object raises when it is looked at
            return ["a", name_of(kind)]
        finally:
            self._path.pop()

    def follows(self, module: str | None) -> bool:
        """Say whether the code of a module is described, and not only named."""
        return not is_library(module) or module == self._home

    def once(self, value: object, description: Callable[[], Any]) -> Any:
        """Describe what many things may refer to by its digest, so that the whole stays small."""
        known = self._digests.get(id(value))
        if known is None:  # the value is kept, so that its id is not given to another one
            known = self._digests[id(value)] = (value, digest(to_text(description())))
        return ["digest", known[1]]

    def mapping(self, items: Iterable[tuple[Any, Any]]) -> list[Any]:
        """Describe (key, value) pairs, whose order does not count."""
        return sorted(([self(key), self(value)] for key, value in items), key=to_text)


@functools.singledispatch
def describe(value: Any, to: Describer) -> Any:
    """Describe a value; other modules register how its type is described.

    Args:
        value: Of a type that nothing is registered for, if it comes here.
        to: Describes the parts.
    """
    if getattr(value, "__module__", None) == "typing" or typing.get_origin(value) is not None:
        return describe_annotation(value, to)
    wrapped = inspect.getattr_static(value, "__wrapped__", None)
    if callable(wrapped):  # by a cache
        return to(wrapped)
    if to.content:
        return _content(value, to)
    if dataclasses.is_dataclass(value) or to.follows(type(value).__module__):
        return to.once(value, lambda: ["object", to(type(value)), to.mapping(settings_of(value))])
    return ["a", name_of(type(value))]


def describe_annotation(value: Any, to: Describer) -> Any:
    """Describe ``list[int]``, ``str | None`` and the like."""
    origin = typing.get_origin(value)
    if origin is None:  # typing.Any is a class in some Python versions
        return ["typing", repr(value).removeprefix("<class '").removesuffix("'>")]
    if origin is types.UnionType:  # Optional[str] is str | None
        origin = typing.Union
    return ["generic", to(origin), *map(to, typing.get_args(value))]


def _content(value: Any, to: Describer) -> Any:
    """Describe an object by what pickle would store of it, or else by its repr."""
    name = name_of(type(value))
    if dataclasses.is_dataclass(value):
        return ["object", name, to.mapping(attributes_of(value))]
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - whatever a lock, a client or a handle raises
        return ["repr", name, ADDRESS.sub("", repr(value))]
    if isinstance(reduced, str):
        return ["global", name, reduced]
    make, arguments, *rest = reduced
    parts = (list(part) if isinstance(part, Iterator) else part for part in rest)
    return ["reduced", name_of(make), *map(to, arguments), *map(to, parts)]


def _is_unicode(text: str) -> bool:
    """Say whether a text has no half of a surrogate pair: in JSON, two of them become one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def settings_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object, without the values that its own methods change."""
    changing = mutated_attributes(user_classes(type(value)))
    for name, attribute in attributes_of(value):
        yield name, setting(name, attribute, changing)


def user_classes(cls: type) -> list[type]:
    """Return a class and its bases, without those of libraries."""
    return [base for base in cls.__mro__ if not is_library(base.__module__)]


def setting(name: str, value: Any, changing: Container[str]) -> Any:
    """Return a value that code uses; its type alone if it is a password, or data that changes."""
    is_code = isinstance(value, (type, types.ModuleType)) or inspect.isroutine(value)
    if name in changing and not is_code:
        return type(value)
    return str if isinstance(value, str) and is_secret_variable(name) else value


def attributes_of(value: Any) -> list[tuple[str, Any]]:
    """Return the attributes of an object, in slots or not."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return list(found.items())


def name_of(thing: Any) -> str:
    """Return the qualified name of a class or function, with its module if a library's."""
    module = getattr(thing, "__module__", None)
    name = str(getattr(thing, "__qualname__", type(thing).__qualname__))
    if module is None or not is_library(module):
        return name
    package = module.partition(".")[0]  # of Python's own: Path is in pathlib._local since 3.13
    return f"{package if package in sys.stdlib_module_names else module}.{name}"
