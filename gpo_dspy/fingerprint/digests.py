"""Descriptions as text, and texts as hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def to_text(description: Any) -> str:
    """Write a description as JSON, in ASCII."""
    return json.dumps(description, separators=(",", ":"))


def digest(*parts: str) -> str:
    """Return 128 bits of the SHA-256 of some texts, as 32 hexadecimal characters."""
    whole = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        whole.update(len(encoded).to_bytes(8, "big") + encoded)
    return whole.hexdigest()[:32]
