"""How code is described: by its source and by the values it uses."""

from __future__ import annotations

import ast
import contextlib
import enum
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

import dspy
import pydantic

from gpo_dspy.fingerprint.describer import (
    Describer,
    describe,
    describe_annotation,
    is_library,
    name_of,
    setting,
    user_classes,
)
from gpo_dspy.fingerprint.source import (
    class_tree,
    describe_code,
    function_in,
    function_tree,
    loaded_globals,
    mutated_attributes,
    mutated_names,
    tree_digest,
)

DATA = (type(None), bool, int, float, str, tuple, list, dict, set, frozenset)


@describe.register(types.FunctionType)
def _(value: types.FunctionType, to: Describer) -> Any:
    def description() -> Any:
        if not to.follows(value.__module__):
            return ["function", name_of(value), *_uses(value, to)]
        defaults = [to(value.__defaults__), to(value.__kwdefaults__)]
        return ["function", describe_code(value.__code__), *defaults, *_uses(value, to)]

    return to.once(value, description)


@describe.register(types.MethodType)
def _(value: types.MethodType, to: Describer) -> Any:
    return ["method", to(value.__func__), to(value.__self__)]


@describe.register(functools.partial)
def _(value: functools.partial[Any], to: Describer) -> Any:
    return ["partial", to(value.func), to(value.args), to(value.keywords)]


@describe.register(types.BuiltinFunctionType)
def _(value: types.BuiltinFunctionType, to: Describer) -> Any:
    owner = value.__self__
    bound = None if isinstance(owner, types.ModuleType) else to(owner)
    return ["builtin", value.__module__, value.__qualname__, bound]


@describe.register(types.ModuleType)
def _(value: types.ModuleType, to: Describer) -> Any:  # noqa: ARG001
    return ["module", value.__name__]


@describe.register(type)
def _(value: type, to: Describer) -> Any:
    if value.__module__ == "typing":
        return describe_annotation(value, to)
    if not to.follows(value.__module__):
        return ["class", name_of(value)]
    return to.once(value, lambda: _class(value, to))


def _class(cls: type, to: Describer) -> Any:
    """Describe a class by its source and what that uses, or by its members if there is none."""
    tree = class_tree(cls)
    members: dict[str, Any] = {}
    for name, member in vars(cls).items():
        function = function_in(member)
        if function is None:
            continue
        if tree is not None and _is_inside(function.__code__, tree):
            members[name] = _uses(function, to)
        elif tree is None or not _is_generated(name, function):
            members[name] = to(function)
    if issubclass(cls, enum.Enum):
        # Not by iteration: Python 3.10 goes through the compound members of a flag too.
        named = cls.__members__.items()
        members["members of the enum"] = [[name, to(member.value)] for name, member in named]
    else:
        members |= _class_attributes(cls, to)
    if issubclass(cls, pydantic.BaseModel):
        fields = cls.model_fields.items()
        members["fields of the model"] = [[name, to(field.annotation)] for name, field in fields]
    return [
        "class",
        cls.__qualname__,
        tree_digest(tree),
        list(map(to, cls.__bases__)),
        sorted(members.items()),
    ]


def _class_attributes(cls: type, to: Describer) -> dict[str, Any]:
    changing = mutated_attributes(user_classes(cls))
    return {
        name: to(setting(name, member, changing))
        for name, member in vars(cls).items()
        if isinstance(member, DATA) and not name.startswith("_")
    }


def _uses(function: types.FunctionType, to: Describer) -> list[Any]:
    """Describe the closure of a function, and the globals it reads."""
    followed = to.follows(function.__module__)
    changing = mutated_names(function.__code__) if followed else frozenset()
    held = {
        name: to(setting(name, value, changing))
        for name, value in _closure(function)
        if followed or (callable(value) and to.follows(getattr(value, "__module__", None)))
    }
    read = {}
    for chain in sorted(_globals(function)) if followed else ():
        name, value = _resolve(chain, function.__globals__, to)
        if not _makes_predictors(function, value):
            read[name] = to(setting(name, value, changing))
    return [sorted(held.items()), sorted(read.items())]


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    for name, cell in zip(names, cells, strict=True):
        with contextlib.suppress(ValueError):  # nothing is assigned to it yet
            yield name, cell.cell_contents


def _globals(function: types.FunctionType) -> set[tuple[str, ...]]:
    """Return the globals that are no builtins, and do not tell where a module comes from."""
    namespace, chains = function.__globals__, loaded_globals(function.__code__)
    return {chain for chain in chains if chain[0] in namespace and chain[0][:2] != "__"}


def _resolve(
    chain: tuple[str, ...], namespace: Mapping[str, Any], to: Describer
) -> tuple[str, Any]:
    """Find what a dotted name stands for, as far as the user's own modules lead to it."""
    name, value = chain[0], namespace[chain[0]]
    for attribute in chain[1:]:
        is_module = isinstance(value, types.ModuleType) and to.follows(value.__name__)
        if not is_module or not hasattr(value, attribute):
            break
        name, value = f"{name}.{attribute}", getattr(value, attribute)
    return name, value


def _makes_predictors(function: types.FunctionType, value: Any) -> bool:
    """Say whether this is a signature in a constructor: the predictor made of it tells of it."""
    return function.__name__ == "__init__" and isinstance(value, type(dspy.Signature))


def _is_generated(name: str, function: types.FunctionType) -> bool:
    """Say whether a method was made by ``@dataclass`` or the like, of what the source says."""
    written = inspect.unwrap(function)
    of_library = name.startswith("__") and is_library(written.__module__)
    return of_library or function_tree(written.__code__) is None


def _is_inside(code: types.CodeType, tree: ast.ClassDef) -> bool:
    """Say whether a method is written in its class, and not made elsewhere."""
    own = function_tree(code)
    return own is not None and any(
        isinstance(node, type(own))
        and node.lineno == own.lineno
        and ast.dump(node) == ast.dump(own)
        for node in ast.walk(tree)
    )
