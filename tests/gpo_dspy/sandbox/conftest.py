"""What the sandbox's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real benchmark items, which is not part of the repository."""
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real benchmark items: {folder} is absent")
    return folder


@pytest.fixture(scope="session")
def answer_of() -> Callable[..., str]:
    """Ask the simulated solver one question, without LiteLLM."""
    from gpo_dspy.sandbox.provider import replies

    adapter = dspy.ChatAdapter()

    def ask(question: str, instruction: str, demos: Sequence[Any] = ()) -> str:
        signature = dspy.Signature("question -> answer", instruction)
        messages = adapter.format(signature, list(demos), {"question": question})
        return str(adapter.parse(signature, replies("solver", messages)[0])["answer"])

    return ask
