from __future__ import annotations

import subprocess
import sys

BLOCKED = "import sys; sys.modules[{name!r}] = None; import {package}"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_j6_needs_no_dspy_and_no_transformers() -> None:
    names = ("dspy", "transformers", "gpo_dspy")
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in names)
    found = run(f"import sys; {blocked}; import j6")
    assert found.returncode == 0, found.stderr


def test_missing_torch_is_named_with_the_command_to_type() -> None:
    found = run(BLOCKED.format(name="torch", package="j6"))
    assert 'pip install "gpo-dspy[j6]"' in found.stderr


def test_missing_torchjd_is_named_with_the_command_to_type() -> None:
    found = run(BLOCKED.format(name="torchjd", package="j6.aggregation"))
    assert "pip install torchjd" in found.stderr
