"""How DSPy programs are described, part by part, so that a person can be told what changed.

The instructions of predictors that may be optimised are left out: they are the parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import dspy

from gpo_dspy.fingerprint.describer import (
    Describer,
    attributes_of,
    describe,
    is_library,
    settings_of,
)
from gpo_dspy.secrets import is_secret_setting

NOT_SETTINGS = frozenset({"history", "callbacks", "_compiled"})
"""Attributes of a module that say nothing about what it does."""

DESCRIBED_APART = frozenset(
    {"stage", "traces", "train", "demos", "lm", "signature", "config", "fields"}
)
"""Attributes of a predictor: random, unused, or in a part of their own."""

CONNECTION = frozenset(
    {
        "api_base",
        "base_url",
        "headers",
        "extra_headers",
        "extra_query",
        "timeout",
        "organization",
        "project",
        "azure_ad_token_provider",
        "model_list",
        "prompt_cache",
    }
)
"""Settings of an LM that say how it is reached; as in DSPy's cache, they do not count."""


def structure(program: dspy.Module) -> Any:
    """Describe the modules of a program: their classes and settings."""
    to = Describer()
    return [
        [path, to(type(module)), to.mapping(_settings(module))]
        for path, module in program.named_sub_modules()
    ]


def predictors(program: dspy.Module, *, instructions: bool = False) -> Any:
    """Describe the signatures and settings of all predictors.

    Args:
        program: A DSPy module.
        instructions: Whether instructions count. Those of frozen submodules always do: nobody
            optimises them.
    """
    to = Describer()
    optimizable = {id(predictor) for _, predictor in program.named_predictors()}
    described = []
    for path, predictor in _predictors(program):
        told = instructions or id(predictor) not in optimizable
        signature = describe_signature(predictor.signature, to, instructions=told)
        config = [(k, v) for k, v in predictor.config.items() if not is_secret_setting(k)]
        described.append([path, signature, to.mapping(config), to(predictor.fields)])
    return described


def demos(program: dspy.Module) -> Any:
    """Describe the demos of all predictors."""
    to = Describer(content=True)
    return [[path, to(list(predictor.demos))] for path, predictor in _predictors(program)]


def models(program: dspy.Module) -> Any:
    """Describe the LMs of a program; predictors without one use the configured LM."""
    to = Describer()
    used = [[path, to(p.lm or dspy.settings.lm)] for path, p in _predictors(program)]
    held = [[path, to(lm)] for path, lm in program.named_sub_modules(type_=dspy.BaseLM)]
    return [used or to(dspy.settings.lm), held]


def tools(program: dspy.Module) -> Any:
    """Describe the tools that a program's agents may call."""
    to = Describer()
    return [[path, to(tool)] for path, tool in program.named_sub_modules(type_=dspy.Tool)]


def adapter(program: dspy.Module) -> Any:  # noqa: ARG001 - as the other parts
    """Describe the configured adapter."""
    return Describer()(dspy.settings.adapter or dspy.ChatAdapter())  # DSPy's default


def retriever(program: dspy.Module) -> Any:  # noqa: ARG001 - as the other parts
    """Describe the configured retrieval model."""
    return Describer()(dspy.settings.rm)


PARTS = {
    "program": structure,
    "predictors": predictors,
    "demos": demos,
    "lm": models,
    "tools": tools,
    "adapter": adapter,
    "rm": retriever,
}


@describe.register(dspy.Module)
def _(value: dspy.Module, to: Describer) -> Any:  # one that a metric or a tool uses
    def description() -> Any:
        parts = [part(value) for part in PARTS.values() if part is not predictors]
        return ["program", predictors(value, instructions=True), *parts]

    return to.once(value, description)


@describe.register(type(dspy.Signature))
def _(value: type[dspy.Signature], to: Describer) -> Any:
    return describe_signature(value, to, instructions=True)


@describe.register(dspy.BaseLM)
def _(value: dspy.BaseLM, to: Describer) -> Any:
    settings = [
        (name, setting)
        for name, setting in value.kwargs.items()
        if setting is not None and name not in CONNECTION and not is_secret_setting(name)
    ]
    described = ["lm", to(type(value)), to(value.model), to(value.model_type), to.mapping(settings)]
    own = [] if is_library(type(value).__module__) else [*_own_settings(value)]
    return [*described, to.mapping(own)] if own else described


@describe.register(dspy.Embedder)
def _(value: dspy.Embedder, to: Describer) -> Any:
    return ["embedder", to(value.model)]


@describe.register(dspy.Tool)
def _(value: dspy.Tool, to: Describer) -> Any:
    description = inspect.cleandoc(value.desc or "")  # Python 3.13 strips docstrings itself
    return ["tool", value.name, description, to(value.args), to(value.func)]


@describe.register(dspy.Adapter)
def _(value: dspy.Adapter, to: Describer) -> Any:
    settings = ((name, held) for name, held in attributes_of(value) if name not in NOT_SETTINGS)
    return ["adapter", to(type(value)), to.mapping(settings)]


def _own_settings(lm: dspy.BaseLM) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that a user's class of LMs adds to DSPy's."""
    known = vars(dspy.LM("openai/none", api_key="none"))
    for name, value in settings_of(lm):
        if name not in known and name not in CONNECTION and not is_secret_setting(name):
            yield name, value


def describe_signature(
    signature: type[dspy.Signature], to: Describer, *, instructions: bool
) -> list[Any]:
    """Describe the fields of a signature, in order: names, types, descriptions.

    Args:
        signature: A signature.
        to: Describes the types.
        instructions: Whether the instructions count.
    """
    fields = [
        [
            name,
            to(field.annotation),
            to(field.json_schema_extra),
            to(field.metadata),
            to(field.default),
        ]
        for name, field in signature.model_fields.items()
    ]
    return ["signature", str(signature.instructions) if instructions else None, fields]


def _predictors(program: dspy.Module) -> Iterator[tuple[str, dspy.Predict]]:
    """Yield all predictors with their paths, frozen ones too."""
    yield from program.named_sub_modules(type_=dspy.Predict)


def _settings(module: dspy.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a module that are described with it."""
    apart = NOT_SETTINGS | (DESCRIBED_APART if isinstance(module, dspy.Predict) else frozenset())
    for name, value in settings_of(module):
        if name not in apart:
            yield name, _without_parts(value)


def _without_parts(value: Any) -> Any:
    """Take out what has a part of its own: modules, LMs, tools; and the signatures made of it."""
    if isinstance(value, (dspy.Module, dspy.BaseLM, dspy.Tool, type(dspy.Signature))):
        return None
    if type(value) in (list, tuple):
        return [_without_parts(item) for item in value]
    if type(value) is dict:
        return {key: _without_parts(item) for key, item in value.items()}
    return value
