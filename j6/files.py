"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor


def make_folder(folder: Path, name: str) -> None:
    """Make a folder that is to be written to, before work is done that may be lost.

    Args:
        folder: The folder; fine if it is there.
        name: What the error calls it.

    Raises:
        OSError: If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        msg = f"{name} is {folder}, which cannot be written to ({error}): pass another folder"
        raise type(error)(msg) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place, make it durable, then move it there.

    Args:
        path: Where the file goes; its folder exists.
        data: What it holds.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole.

    Args:
        path: Where the file goes.
        value: What it holds.
    """
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file whole.

    Args:
        path: Where the file goes.
        tensors: What it holds.
    """
    write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        msg = f"{path} is no JSON file ({error}): it was not written by this package, or changed"
        raise ValueError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path} holds a {type(value).__name__}; a JSON object is needed"
        raise ValueError(msg)
    return value
