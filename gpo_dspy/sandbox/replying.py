"""Field values -> the text of a reply, in the layout that was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .reading import Frame


def render(values: Mapping[str, Any], frame: Frame) -> str:
    """Write ``values`` in the frame's layout.

    Args:
        values: A value for every output field; in plain text one value.
        frame: What the system message asked for.
    """
    if frame.layout == "plain":
        return "\n\n".join(_text(value) for value in values.values())
    if frame.layout == "json":
        return json.dumps(dict(values), ensure_ascii=False, indent=2)
    if frame.layout == "xml":
        return "\n\n".join(_element(name, value) for name, value in values.items())
    blocks = [f"[[ ## {name} ## ]]\n{_text(value)}" for name, value in values.items()]
    return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _element(name: str, value: Any) -> str:
    if isinstance(value, list):
        items = "".join(f"<item>{_text(item)}</item>" for item in value)
        return f"<{name}>{items}</{name}>"
    shown = str(value) if isinstance(value, bool) else _text(value)
    return f"<{name}>\n{shown}\n</{name}>"
