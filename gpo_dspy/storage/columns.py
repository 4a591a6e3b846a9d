"""Column types and expressions that mean the same in SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Connection, Double, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

BigId = BigInteger().with_variant(Integer, "sqlite")
"""Ids of rows; SQLite counts up by itself only in a column of the type INTEGER."""

Value = TypeVar("Value")

_MOST = 500  # older releases of SQLite take 999 parameters
_PLAIN, _PACKED = b"-", b"z"
_ESCAPED = "\x1ajson:"  # a control character that no text begins with by chance


class _Coded(TypeDecorator[Any]):
    """A type whose values are stored in another form; NULL is None."""

    impl: Any = Text
    cache_ok = True

    def encode(self, value: Any) -> Any:
        """Return what is stored."""
        raise NotImplementedError

    def decode(self, stored: Any) -> Any:
        """Return what was given."""
        raise NotImplementedError

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else self.encode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else self.decode(value)


class AnyText(_Coded):
    """Any Python string, and it comes back as it was.

    PostgreSQL takes no NUL, and neither database takes half of a surrogate pair; models write
    both now and then. Such texts are stored as JSON with a mark in front.
    """

    cache_ok = True

    def encode(self, value: str) -> str:
        """Return the text, or its JSON if a database would not take it."""
        return value if _is_plain(value) else _ESCAPED + json.dumps(value)

    def decode(self, stored: str) -> str:
        """Return the text."""
        if not stored.startswith(_ESCAPED):
            return stored
        return str(json.loads(stored[len(_ESCAPED) :]))


def _is_plain(text: str) -> bool:
    if "\0" in text or text.startswith(_ESCAPED):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Json(_Coded):
    """A JSON value as text, the same in both databases."""

    cache_ok = True

    def encode(self, value: Any) -> str:
        """Return the JSON text; all of it ASCII, which every database takes."""
        return json.dumps(value)

    def decode(self, stored: str) -> Any:
        """Return the value."""
        return json.loads(stored)


class Vector(_Coded):
    """A vector [d] of float32, to the last bit, the lowest byte of each number first.

    Counts of n-grams are mostly zeros and a few other values, and take a fifth of the space when
    they are compressed; embeddings by a model do not. The last byte says which was done.
    """

    impl = LargeBinary
    cache_ok = True

    def encode(self, value: NDArray[np.float32]) -> bytes:
        """Return the bytes."""
        plain = np.ascontiguousarray(value, dtype="<f4").tobytes()
        packed = zlib.compress(plain, 1)
        return packed + _PACKED if len(packed) < 0.7 * len(plain) else plain + _PLAIN

    def decode(self, stored: bytes) -> NDArray[np.float32]:
        """Return the vector."""
        plain = stored if stored[-1:] == _PLAIN else zlib.decompress(stored[:-1])
        return np.frombuffer(plain, "<f4", len(plain) // 4).astype(np.float32)


def text_hash(text: str) -> str:
    """Return the hash under which a text is looked up; indexes take no long texts."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since 1970 by the clock of the database."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) AS DOUBLE PRECISION)"


Insert = sqlite.Insert | postgresql.Insert


@cache
def insert_into(dialect: str, table: Table) -> Insert:
    """Return an INSERT that can say what to do where a row is there already."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def _insert_missing(dialect: str, table: Table) -> Insert:
    return insert_into(dialect, table).on_conflict_do_nothing()


def insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
    """Insert the rows that are not there yet, and return how many."""
    if not rows:
        return 0
    return connection.execute(_insert_missing(connection.dialect.name, table), rows).rowcount


def chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield the values in lists short enough for one statement."""
    rest = iter(values)
    while part := list(islice(rest, _MOST)):
        yield part
