from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import j6
from tests.j6._models import tiny_model
from tests.j6._tasks import tokenizer

ROOT = Path(__file__).parents[2]


def test_the_guides_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model().save_pretrained(tmp_path / "my-model")
    tokenizer().save_pretrained(tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "j6.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 (our own guide)


def test_the_front_pages_example_runs() -> None:
    assert doctest.testmod(j6).failed == 0


def test_everything_public_is_there_and_documented() -> None:
    for name in j6.__all__:
        if isinstance(getattr(j6, name), tuple):
            continue
        assert getattr(j6, name).__doc__, name


@pytest.mark.slow
def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import j6_local_model as example  # type: ignore[import-not-found]

    training = example.train_model
    monkeypatch.setattr(example, "train_model", lambda *facts: training(*facts, steps=30))
    example.main()
    assert "with the prompt:" in capsys.readouterr().out
    sys.modules.pop("j6_local_model")
