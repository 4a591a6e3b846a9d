"""The file that holds an index, so that the next process need not build it.

    index as FAISS writes it | ids of the prompts | what this is, as JSON | its length | mark

FAISS maps a file from its first byte, so the rest comes behind.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import time
import zlib
from glob import escape
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np

from gpo_dspy.memory._layer import Layer
from gpo_dspy.vector_index import VectorIndex

logger = logging.getLogger(__name__)

_MARK = b"gpo-dspy memory\n"
_END = struct.Struct(f"<q{len(_MARK)}s")
_FORMAT = 1
_BLOCK = 1 << 20  # bytes read at a time
_ABANDONED = 3600.0  # seconds after which a file that was never finished is nobody's


def write(path: Path, layer: Layer, embedder: str) -> None:
    """Write a layer, which must not be empty, so that there never is half a file.

    Args:
        path: Where to; its folder is made.
        layer: What to write.
        embedder: Name of the embedder that made the vectors.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    beside = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        try:
            layer.index.write(beside)
        except RuntimeError as error:  # FAISS's own: no such folder, disk full
            raise OSError(str(error)) from error
        with beside.open("r+b") as file:
            length = file.seek(0, os.SEEK_END)
            file.write(layer.ids.astype("<i8").tobytes())
            file.seek(0)
            about = {
                "format": _FORMAT,
                "embedder": embedder,
                "count": len(layer),
                "index_bytes": length,
                "checksum": _checksum(file, length + 8 * len(layer)),
            }
            text = json.dumps(about).encode()
            file.write(text + _END.pack(len(text), _MARK))
            file.flush()
            os.fsync(file.fileno())  # or the name may outlive a power cut that the bytes do not
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path, embedder: str, exact_below: int, *, mapped: bool) -> Layer | None:
    """Return the layer in a file; None if there is no file, or it is not whole or not ours.

    Args:
        path: The file.
        embedder: Name of the embedder that must have made the vectors.
        exact_below: Number of vectors from which on the graph answers.
        mapped: Leave the vectors in the file; then nothing can be added.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _END.size, 0))
            length, mark = _END.unpack(file.read(_END.size))
            if mark != _MARK or not 0 <= length <= size - _END.size:
                raise ValueError("it is not the file of a memory")
            file.seek(size - _END.size - length)
            about = json.loads(file.read(length))
            if (about["format"], about["embedder"]) != (_FORMAT, embedder):
                raise ValueError(f"it is of format {about['format']}, by {about['embedder']!r}")
            content = about["index_bytes"] + 8 * about["count"]
            if content + length + _END.size != size:
                raise ValueError(f"it has {size} bytes")
            file.seek(0)
            if _checksum(file, content) != about["checksum"]:
                raise ValueError("its checksum is wrong")
            file.seek(about["index_bytes"])
            ids = np.frombuffer(file.read(8 * about["count"]), "<i8").astype(np.int64)
            layer = Layer(VectorIndex.read(path, exact_below, mapped=mapped), ids)
            if len(layer.index) != len(ids):
                raise ValueError(f"it has {len(layer.index)} vectors of {len(ids)} prompts")
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise ValueError("another process replaced it just now")
    except FileNotFoundError:
        return None
    # RuntimeError is FAISS's; a file may hold any JSON.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, struct.error) as error:
        logger.info("The memory's index %s is not used, but built anew: %s.", path, error)
        return None
    return layer


def _checksum(file: BinaryIO, length: int) -> int:
    """Return the CRC-32 of the next ``length`` bytes, which leaves the file behind them."""
    block, value = memoryview(bytearray(_BLOCK)), 0
    while length:
        got = file.readinto(block[: min(length, _BLOCK)])  # type: ignore[attr-defined]
        if not got:
            raise ValueError("it ends too early")
        value = zlib.crc32(block[:got], value)
        length -= got
    return value


def _clear(path: Path) -> None:
    """Delete what processes that were killed while they wrote have left."""
    for left in path.parent.glob(f"{escape(path.name)}.*.part"):
        try:
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
        except OSError:  # another process was faster
            continue
