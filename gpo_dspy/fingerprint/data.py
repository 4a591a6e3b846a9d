"""How data is described: by value, whatever process or Python reads it."""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import pathlib
import re
import types
import uuid
from typing import Any

import dspy
import numpy
import pydantic

from gpo_dspy.fingerprint.describer import PLAIN, Describer, describe, name_of
from gpo_dspy.fingerprint.digests import to_text

STABLE_REPR = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    complex,
    range,
    slice,
)


@describe.register(int)
@describe.register(float)
@describe.register(str)
def _(value: Any, to: Describer) -> Any:  # of a subclass
    plain: Any = next(kind for kind in PLAIN if isinstance(value, kind))
    return to(plain(value))


@describe.register(bytes)
@describe.register(bytearray)
@describe.register(memoryview)
def _(value: Any, to: Describer) -> Any:  # noqa: ARG001
    return ["bytes", hashlib.sha256(value).hexdigest()]


@describe.register(list)
@describe.register(tuple)
def _(value: Any, to: Describer) -> Any:
    return [name_of(type(value)), *map(to, value)]


@describe.register(set)
@describe.register(frozenset)
def _(value: Any, to: Describer) -> Any:
    return ["set", *sorted(map(to, value), key=to_text)]


@describe.register(dict)
@describe.register(types.MappingProxyType)
def _(value: Any, to: Describer) -> Any:
    return [name_of(type(value)), *to.mapping(value.items())]


@describe.register(re.Pattern)
def _(value: Any, to: Describer) -> Any:  # its repr is cut after 200 characters
    return ["pattern", to(value.pattern), value.flags]


@describe.register(pathlib.PurePath)
def _(value: pathlib.PurePath, to: Describer) -> Any:  # noqa: ARG001
    return ["path", str(value)]


@describe.register(dspy.Example)
def _(value: Any, to: Describer) -> Any:  # items() leaves out DSPy's own, such as a random id
    inputs = getattr(value, "_input_keys", None)  # a Prediction has none
    return ["example", to.mapping(value.items()), sorted(inputs or ())]


@describe.register(pydantic.BaseModel)
def _(value: pydantic.BaseModel, to: Describer) -> Any:
    kind = name_of(type(value)) if to.content else to(type(value))
    return ["model", kind, to.mapping(value)]


def _repr(value: Any, to: Describer) -> Any:  # noqa: ARG001
    return ["repr", repr(value)]


for _kind in STABLE_REPR:
    describe.register(_kind, _repr)


@describe.register(numpy.ndarray)
@describe.register(numpy.generic)
def _(value: Any, to: Describer) -> Any:
    held = to(value.tolist()) if value.dtype.hasobject else to(value.tobytes())
    return ["array", str(value.dtype), list(value.shape), held]
