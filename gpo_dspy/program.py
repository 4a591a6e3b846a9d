"""DSPy programs as points in prompt space: read the instructions out, write them back in."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dspy
from dspy.adapters.utils import get_annotation_name

from gpo_dspy.errors import ProgramError

NOT_COPIED = ("history", "callbacks")
"""What DSPy leaves out when a module is copied."""

Instructions = tuple[tuple[str, str], ...]
"""The state of a program: (predictor name, instruction) pairs in the program's own order."""


def optimizable_predictors(program: dspy.Module) -> dict[str, dspy.Predict]:
    """Find the predictors of a program by name; frozen (``_compiled``) submodules are left out.

    Args:
        program: Any DSPy module; a bare ``dspy.Predict`` has one predictor, named ``self``.

    Returns:
        Predictors by name, in the order DSPy lists them.

    Raises:
        ProgramError: There is none to optimise.
    """
    predictors = dict(program.named_predictors())
    if predictors:
        return predictors
    frozen = [
        name
        for name, module in program.named_sub_modules()
        if module is not program and getattr(module, "_compiled", False)
    ]
    if frozen:
        raise ProgramError(
            f"student: {type(program).__name__} has no predictor to optimise: all are inside "
            f"frozen submodules ({', '.join(frozen)}). Set module._compiled = False on "
            "those to optimise."
        )
    raise ProgramError(
        f"student: {type(program).__name__} has no predictor to optimise; a program needs at least "
        "one dspy.Predict (or ChainOfThought, ReAct, ...) among its attributes."
    )


def instructions_of(program: dspy.Module) -> Instructions:
    """Read the present instruction of every optimizable predictor."""
    return tuple(
        (name, str(predictor.signature.instructions))
        for name, predictor in optimizable_predictors(program).items()
    )


def instructions_text(instructions: Instructions) -> str:
    """Write the state of a program as JSON text, the same for the same state."""
    return json.dumps(instructions, ensure_ascii=False)


def predictor_kind(program: dspy.Module, name: str) -> str:
    """Return what a predictor is part of: "Predict", "ChainOfThought", "ReAct", ..."""
    predictor = optimizable_predictors(program)[name]
    owners = [
        module
        for _, module in program.named_sub_modules()
        if type(module).__module__.partition(".")[0] == "dspy"
        and any(own is predictor for _, own in module.named_predictors())
    ]
    smallest = min(owners, key=lambda m: (len(m.named_predictors()), isinstance(m, dspy.Predict)))
    return type(smallest).__name__


def with_instructions(program: dspy.Module, instructions: Instructions) -> dspy.Module:
    """Copy a program and give the copy's predictors new instructions.

    The LMs are shared with the original, not copied: a copy must be counted, cached and
    configured as the original is.

    Args:
        program: The program; it is not modified.
        instructions: (predictor name, instruction) pairs; predictors not named keep theirs.
    """
    program = _copy(program)
    copies = dict(program.named_predictors())
    for name, text in instructions:
        if copies[name].signature.instructions != text:
            copies[name].signature = copies[name].signature.with_instructions(text)
    return program


def _copy(program: dspy.Module) -> dspy.Module:
    """Copy the modules of a program; share its LMs and whatever refuses to be copied.

    ``Module.deepcopy`` falls back to a shallow copy of a whole list where one item refuses, and
    then both programs have the same predictors; it also tears apart a predictor with two names.
    """
    memo: dict[int, Any] = {}
    for _, module in program.named_sub_modules():
        for part in _parts(v for k, v in vars(module).items() if k not in NOT_COPIED):
            if isinstance(part, dspy.BaseLM) or not _is_copyable(part, memo):
                memo[id(part)] = part  # deepcopy takes what it finds here for the copy
    return copy.deepcopy(program, memo)


def _parts(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the values that are no modules, those in lists, tuples and dicts one by one."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _parts(value)
        elif isinstance(value, dict):
            yield from _parts(value.values())
        elif not isinstance(value, dspy.Module):
            yield value


def _is_copyable(value: Any, memo: Mapping[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:  # noqa: BLE001 - whatever a client, a lock or a handle raises
        return False
    return True


def replace_instruction(instructions: Instructions, changes: Mapping[str, str]) -> Instructions:
    """Return the state in which the named predictors have the given instructions."""
    return tuple((name, changes.get(name, text)) for name, text in instructions)


def tool_names(program: dspy.Module, predictor: str) -> frozenset[str]:
    """Return the tools that a predictor's instruction tells of, as ``dspy.ReAct``'s does.

    It tells of all of them; one that has a tool's name in it by chance is not bound to keep it.
    """
    target = optimizable_predictors(program)[predictor]
    instruction = str(target.signature.instructions)
    modules = [module for _, module in program.named_sub_modules()]
    return frozenset(
        str(name)
        for module in modules
        if isinstance(getattr(module, "tools", None), Mapping)
        and any(own is target for _, own in module.named_predictors())
        and all(str(name) in instruction for name in module.tools)
        for name in module.tools
    )


def describe_predictor(program: dspy.Module, name: str) -> str:
    """Say in words what a predictor gets and gives, and which part of the program it is."""
    predictors = optimizable_predictors(program)
    signature = predictors[name].signature
    lines = []
    if len(predictors) > 1:
        others = ", ".join(other for other in predictors if other != name)
        lines.append(
            f"The prompt instructs the module `{name}` of the program "
            f"{type(program).__name__}; its other modules are: {others}."
        )
    lines.append("Input fields: " + _describe_fields(signature.input_fields))
    lines.append("Output fields: " + _describe_fields(signature.output_fields))
    return "\n".join(lines)


def _describe_fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(_describe_field(name, field) for name, field in fields.items())


def _describe_field(name: str, field: Any) -> str:
    described = f"`{name}` ({get_annotation_name(field.annotation)})"
    description = (field.json_schema_extra or {}).get("desc", "")
    if description and description != f"${{{name}}}":
        described += f" – {description}"
    return described
