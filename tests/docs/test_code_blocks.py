"""Every code block of the documentation does what it says."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import dspy
import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(document.read_text("utf-8")) if kind == language]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run_in_order(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    with dspy.context():
        for number, code in enumerate(blocks(document, "python"), start=1):
            exec(compile(code, f"{document.name}, block {number}", "exec"), names)  # noqa: S102


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
