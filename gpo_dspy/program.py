"""DSPy programs as points in prompt space: read the instructions out, write them back in."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dspy
from dspy.adapters.utils import get_annotation_name

from gpo_dspy.errors import ProgramError
from gpo_dspy.program_state import Demo, Instructions, ProgramState

NOT_COPIED = ("history", "callbacks")
"""What DSPy leaves out when a module is copied."""


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


def state_of(program: dspy.Module) -> ProgramState:
    """Read the state that a program is in, its demos being the student's own."""
    return ProgramState(instructions_of(program))


def with_state(program: dspy.Module, state: ProgramState) -> dspy.Module:
    """Copy a program and put the copy into a state.

    Args:
        program: The program; it is not modified.
        state: Instructions and demos; predictors that have none there keep their own.
    """
    copied = with_instructions(program, state.instructions)
    copies = dict(copied.named_predictors())
    for name, demos in state.demos:
        copies[name].demos = [_as_example(demo) for demo in demos]
    return copied


def _as_example(demo: Demo) -> dspy.Example:
    """Return a demo as DSPy's own bootstrapping makes it."""
    mark = {"augmented": True} if demo.bootstrapped else {}
    return dspy.Example(**mark, **demo.values())


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
