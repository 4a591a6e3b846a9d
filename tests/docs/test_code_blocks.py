"""Every code block of the documentation does what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The guide to j6 needs a model on disk; tests/j6 runs its blocks.
DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("how-it-works.md", "storage.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(document.read_text("utf-8")) if kind == language]


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run_in_order(document: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{document.stem}.py"
    script.write_text("\n\n".join(blocks(document, "python")), "utf-8")
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # no network
    ran = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_shell_blocks_name_what_exists(document: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for line in "\n".join(blocks(document, "bash")).splitlines():
        command = shlex.split(line, comments=True)
        if command[:1] == ["make"]:
            assert command[1] in targets
        elif command[:1] == ["python"]:
            assert (ROOT / command[1]).exists()
        elif command[:2] == ["pip", "install"]:
            for extra in re.findall(r"\[(.*?)\]", command[2]):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
