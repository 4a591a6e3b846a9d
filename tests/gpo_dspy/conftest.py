"""Settings that every test of ``gpo_dspy`` needs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import dspy
import pytest
from hypothesis import settings

# Before LiteLLM is imported: its price list comes with the package, not from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


# The same cases on every machine, however busy it is.
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def no_cached_answers() -> Iterator[None]:
    """Answers of one test must not serve another."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    with dspy.context(lm=None):
        yield
