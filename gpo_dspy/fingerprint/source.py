"""Code as values that are the same in every process and in Python 3.10 to 3.13."""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, TypeAlias

from gpo_dspy.fingerprint.digests import digest, to_text

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

LAYOUT = frozenset({"ctx", "kind", "type_comment"})
"""Fields of the syntax tree that say nothing about what the code does."""

MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"}
    | {"remove", "reverse", "setdefault", "sort", "subtract", "update"}
)
"""Methods that change the built-in containers."""


ENTRIES = frozenset({"__call__", "forward", "aforward"})
CONSTRUCTORS = frozenset({"__init__", "__new__", "__post_init__", "__setstate__"})


def describe_code(code: CodeType) -> list[Any]:
    """Describe a function's code: by its syntax tree, or by its bytecode where no source is left.

    The syntax tree leaves out comments, white space and the docstring. Bytecode is stable across
    processes of one Python version only.
    """
    described = tree_digest(function_tree(code))
    return ["bytecode", *_bytecode(code)] if described is None else ["source", described]


def tree_digest(tree: ast.AST | None) -> str | None:
    """Return the hash of a syntax tree; None if there is none, or it is too deep to walk."""
    if tree is None:
        return None
    try:
        return digest(to_text(describe_tree(tree)))
    except RecursionError:
        return None


def describe_tree(node: Any) -> Any:
    """Describe a syntax tree as nested lists, without what differs between Python versions."""
    if isinstance(node, ast.Constant):
        return ["Constant", _constant(node.value)]
    if isinstance(node, ast.JoinedStr):  # Python 3.12 cuts the plain parts in other places
        return ["JoinedStr", describe_tree(_merged(node.values))]
    if isinstance(node, ast.AST):
        fields = [
            [name, describe_tree(_code_only(node, name, value))]
            for name, value in ast.iter_fields(node)
            if name not in LAYOUT and value is not None and value != []
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return ["list", *map(describe_tree, node)]
    return node


def function_tree(code: CodeType) -> Function | None:
    """Return the syntax tree of a function or lambda, or None if it cannot be found for sure."""
    text = _source_of(code)
    if text is None:
        return None
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found = [
        node
        for node in _functions(text)[code.co_firstlineno, code.co_name]
        if _argument_names(node.args) == arguments
    ]
    return found[0] if len(found) == 1 else None  # two lambdas on a line may look alike


def class_tree(cls: type) -> ast.ClassDef | None:
    """Return the syntax tree of a class, or None if it cannot be found for sure.

    It is looked for around its methods too: in a notebook, the module of a class has no file.
    """
    codes = [member.__code__ for member in vars(cls).values() if inspect.isfunction(member)]
    for code in codes:
        inside = [n for n in _classes(_source_of(code) or "", cls.__qualname__) if _holds(n, code)]
        if inside:
            return inside[-1]
    try:
        file = inspect.getsourcefile(cls) or ""
        lines = linecache.getlines(file, vars(sys.modules[cls.__module__]))
    except (TypeError, KeyError):
        return None
    found = _classes("".join(lines), cls.__qualname__)
    return found[-1] if found else None  # the last is what the name stands for


def _holds(node: ast.ClassDef, code: CodeType) -> bool:
    return node.lineno <= code.co_firstlineno <= (node.end_lineno or node.lineno)


def loaded_globals(code: CodeType) -> set[tuple[str, ...]]:
    """Return what code reads of its globals, as dotted names: ``("math", "sqrt")``."""
    return _loaded(code, "LOAD_GLOBAL", "LOAD_NAME")


def mutated_names(code: CodeType) -> set[str]:
    """Return the variables and attributes that a function changes, as a counter or a cache.

    Their values are what the function has done so far, and no part of what it does.
    """
    tree = function_tree(code)
    if tree is None:
        stores = ("STORE_GLOBAL", "STORE_DEREF")
        stored = {str(i.argval) for i in dis.get_instructions(code) if i.opname in stores}
        loaded = _loaded(code, "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
        return stored | {chain[0] for chain in loaded if chain[-1] in MUTATORS}
    changed: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            changed.update(node.names)
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            changed.update(() if isinstance(node.ctx, ast.Load) else _names(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed.update(_names(node.func.value) if node.func.attr in MUTATORS else ())
    return changed


def mutated_attributes(classes: Iterable[type]) -> set[str]:
    """Return the attributes that an object changes while it is used.

    Args:
        classes: The classes whose methods the object has. If it can be called, only methods
            that the call leads to count: another may be there to change a setting.
    """
    methods: dict[str, list[CodeType]] = {}  # overridden ones too: super() may call them
    for cls in classes:
        for name, member in vars(cls).items():
            if (function := function_in(member)) is not None:
                methods.setdefault(name, []).append(function.__code__)
    used = {name for name in methods if name not in CONSTRUCTORS}
    if not used.isdisjoint(ENTRIES):
        reached: set[str] = set()
        frontier = used & ENTRIES
        while frontier:
            reached |= frontier
            called = {n for name in frontier for code in methods[name] for n in _names_read(code)}
            frontier = called & used - reached
        used = reached
    return {name for method in used for code in methods[method] for name in mutated_names(code)}


def function_in(member: Any) -> FunctionType | None:
    """Return the function in a member of a class: a method, a property or the like."""
    for wrapped in ("__func__", "fget", "func"):
        member = getattr(member, wrapped, member)
    return member if isinstance(member, FunctionType) else None


def _loaded(code: CodeType, *opcodes: str) -> set[tuple[str, ...]]:
    """Return the dotted names that code, and the functions in it, load by some opcodes."""
    chains: set[tuple[str, ...]] = set()
    chain: list[str] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":
            continue
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
            chain.append(instruction.argval)
            continue
        if chain:
            chains.add(tuple(chain))
        chain = [instruction.argval] if instruction.opname in opcodes else []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            chains |= _loaded(constant, *opcodes)
    return chains


def _names_read(code: CodeType) -> Iterator[str]:
    """Yield the names that code reads; comprehensions have code of their own before 3.12."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_read(constant)


def _names(node: ast.AST) -> Iterator[str]:
    """Yield the names in ``a.b[c].d``: a, b and d."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _source_of(code: CodeType) -> str | None:
    try:
        return "".join(inspect.findsource(code)[0])
    except (OSError, TypeError, IndexError):  # typed in, compiled from a string, or gone
        return None


@lru_cache(maxsize=32)
def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):  # the file was changed, or is no Python
        return ast.Module([], [])


@lru_cache(maxsize=32)
def _functions(text: str) -> defaultdict[tuple[int, str], list[Function]]:
    """Return the functions of a file by the line that their code objects name."""
    found: defaultdict[tuple[int, str], list[Function]] = defaultdict(list)
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Lambda):
            found[node.lineno, "<lambda>"].append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min((d.lineno for d in node.decorator_list), default=node.lineno)
            found[first, node.name].append(node)
    return found


def _classes(text: str, qualname: str) -> list[ast.ClassDef]:
    """Return the classes of a qualified name, in the order of the file."""
    scopes: list[ast.AST] = [_parsed(text)]
    for name in qualname.split("."):
        if name != "<locals>":
            scopes = [n for s in scopes for n in ast.walk(s) if getattr(n, "name", None) == name]
    classes = {id(node): node for node in scopes if isinstance(node, ast.ClassDef)}
    return sorted(classes.values(), key=lambda node: node.lineno)


def _argument_names(arguments: ast.arguments) -> tuple[str, ...]:
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return tuple(argument.arg for argument in named)


def _code_only(node: ast.AST, name: str, value: Any) -> Any:
    """Return a field of a node; the body of a function without its docstring."""
    if name == "body" and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return value[1:] if ast.get_docstring(node, clean=False) is not None else value
    return value


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """Join neighbouring plain parts of an f-string."""
    merged: list[ast.expr] = []
    for value in values:
        last = merged[-1] if merged else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            merged[-1] = ast.Constant(f"{last.value!s}{value.value!s}")
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            merged.append(value)
    return merged


def _constant(value: Any) -> Any:
    if type(value) is int:
        return hex(value)  # a long one has no decimal text
    if isinstance(value, CodeType):
        return _bytecode(value)
    if isinstance(value, tuple):
        return ["tuple", *map(_constant, value)]
    if isinstance(value, frozenset):
        return ["frozenset", *sorted(map(str, map(_constant, value)))]
    return ascii(value)  # repr shows what this Python's Unicode calls printable


def _bytecode(code: CodeType) -> list[Any]:
    names = [*code.co_names, "|", *code.co_varnames, "|", *code.co_freevars]
    return [code.co_code.hex(), list(map(_constant, code.co_consts)), names]
