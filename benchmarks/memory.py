"""Times the memory across runs: its start with and without its file, and its searches.

The prompts are synthetic: runs of 50 texts each, whose vectors walk away from a start near one of
300 tasks, one in ten the same as the start. They are written into an SQLite storage through its
public methods; each start is measured in a process of its own. Run it with::

    python benchmarks/memory.py --sizes 10000 100000 1000000
    python benchmarks/memory.py --sizes 100000 --kinds     # kinds of index, without a storage

A million prompts take 3 GB of disk and some minutes; ``--folder`` keeps them for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gpo_dspy.embedding import CachedEmbedder
from gpo_dspy.memory import Memory, memory_text
from gpo_dspy.storage import new_owner, open_storage
from gpo_dspy.storage.rows import Batch, NewRun, PredictorRow, PromptRow, RunStatus

Rows = NDArray[np.float32]

DIMENSION = 384
PER_RUN = 50  # prompts
TASKS = 300
RUNS_A_CHUNK = 200
KINDS = ("Predict", "ChainOfThought")
RARE = 500  # one run in so many has predictors of the kind "Rare"
QUERIES = 200
K = 10
THREADS = faiss.omp_get_max_threads()


class Runs:
    """An endless stream of the vectors of runs."""

    def __init__(self, seed: int) -> None:
        fixed = np.random.default_rng(0)
        self.tasks = fixed.standard_normal((TASKS, 32), np.float32)
        self.projection = fixed.standard_normal((32, DIMENSION), np.float32)
        self.generator = np.random.default_rng(seed)

    def take(self, runs: int) -> Rows:
        """Return the next vectors [runs * PER_RUN, DIMENSION]."""
        normal, uniform = self.generator.standard_normal, self.generator.random
        start = self.tasks[self.generator.integers(TASKS, size=runs)]
        start = (start + 0.4 * normal((runs, 32), np.float32)) @ self.projection
        start += 0.5 * normal((runs, DIMENSION), np.float32)
        steps = 0.2 * normal((runs, PER_RUN, DIMENSION), np.float32)
        rows = start[:, None] + np.cumsum(steps, axis=1)
        rows = np.where(uniform((runs, PER_RUN, 1)) < 0.1, start[:, None], rows)
        rows = rows.reshape(-1, DIMENSION)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def chunks(self, n: int) -> Iterator[Rows]:
        """Yield the next ``n`` vectors, about."""
        for first in range(0, n, RUNS_A_CHUNK * PER_RUN):
            yield self.take(min(RUNS_A_CHUNK, (n - first) // PER_RUN))


class Queries:
    """Embeds "query 0", "query 1", ..., which are near the prompts of other runs."""

    name = "synthetic"

    def __init__(self) -> None:
        self.rows = Runs(seed=2).take(QUERIES)[::PER_RUN]

    def __call__(self, texts: Sequence[str]) -> Rows:
        return np.stack([self.rows[int(text.split()[1])] for text in texts])


def exact_similarities(n: int) -> Rows:
    """Return the similarities of the K prompts nearest to each query [queries, K], ascending."""
    queries = Queries().rows
    best = np.empty((len(queries), 0), np.float32)
    for rows in Runs(seed=1).chunks(n):
        best = np.sort(np.concatenate([best, queries @ rows.T], axis=1), axis=1)[:, -K:]
    return best


# --- a storage ------------------------------------------------------------------------------------


def fill(url: str, n: int) -> float:
    """Write ``n`` prompts into a storage, and return the seconds it took."""
    started, number = time.perf_counter(), 0
    with open_storage(url) as storage:
        owner = new_owner()
        for rows in Runs(seed=1).chunks(n):
            for first in range(0, len(rows), PER_RUN):
                number += 1
                kind = "Rare" if number % RARE == 0 else KINDS[number % 2]
                task = f"task {number % TASKS}"
                predictor = PredictorRow("answer", kind, task, "model")
                new = NewRun(str(number), None, {}, {}, "Program", "", (predictor,), {}, "0")
                run = storage.create_run(new, owner)
                texts = [f"{number}.{i} " + 40 * "prompt " for i in range(PER_RUN)]
                named = [memory_text(task, text) for text in texts]
                prompts = tuple(
                    PromptRow("answer", text, 0.5, 24, i, name)
                    for i, (text, name) in enumerate(zip(texts, named, strict=True))
                )
                vectors = tuple(
                    (Queries.name, name, row)
                    for name, row in zip(named, rows[first : first + PER_RUN], strict=True)
                )
                storage.save(run, owner, Batch(prompts=prompts, vectors=vectors))
                storage.leave_run(run, owner, RunStatus.FINISHED, None)
    return time.perf_counter() - started


# --- one start, in a process of its own -----------------------------------------------------------


def start(folder: Path) -> dict[str, float]:
    """Return the seconds of a start and of searches, and the memory they took."""
    embedder = CachedEmbedder(Queries())
    texts = [f"query {i}" for i in range(QUERIES)]
    embedder(texts)
    exact = np.load(folder / "exact.npy")
    with open_storage(f"sqlite:///{folder / 'gpo.db'}") as storage:
        memory = Memory(storage, embedder)
        first = seconds(lambda: memory.search(texts[0], K))
        peak_first = peak()
        ready = first + seconds(memory.wait)
        found = [[s for _, s in memory.search(text, K)] for text in texts]
        measured = {
            "first": first,
            "ready": ready,
            "peak_first": peak_first,
            # Found is what is as near as the K-th nearest, half precision aside.
            "recall": float(np.mean(np.array(found) >= exact[:, :1] - 1e-4)),
            "query": median(lambda i: memory.search(texts[i], K)),
            "not_run": median(lambda i: memory.search(texts[i], K, not_run=1)),
            "kind": median(lambda i: memory.search(texts[i], K, kind=KINDS[0])),
            "rare": median(lambda i: memory.search(texts[i], K, kind="Rare"), 5),
            "peak": peak(),
        }
        memory.close()
    return measured


def in_a_process(folder: Path) -> dict[str, float]:
    done = subprocess.run(  # noqa: S603 - this very file
        [sys.executable, __file__, "--start", folder], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def out_of_cache(folder: Path) -> None:
    """Make the system forget what it holds of the files, as if it had just been started."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(size: int, folder: Path, table: Table) -> None:
    """Fill a storage in a folder, if there is none, and measure the starts with it."""
    if not (folder / "exact.npy").exists():
        took = fill(f"sqlite:///{folder / 'gpo.db'}", size)
        print(f"{size:,} prompts written in {took:.0f} s", file=sys.stderr)
        np.save(folder / "exact.npy", exact_similarities(size))
    cases: dict[str, Callable[[], object]] = {
        "no file": lambda: [path.unlink() for path in folder.glob("*.faiss*")],
        "file": lambda: None,
        "file, not in cache": lambda: out_of_cache(folder),
    }
    for case, prepare in cases.items():
        prepare()
        found = in_a_process(folder)
        print(f"{size:,}, {case}: {found}", file=sys.stderr)  # the table comes last
        files = [path.stat().st_size for path in folder.glob("*.faiss")]
        table.add_row(
            f"{size:,}",
            case if files else "never a file",
            *(f"{found[name]:.2f}" for name in ("first", "ready")),
            f"{found['recall']:.4f}",
            *(f"{1e3 * found[name]:.1f}" for name in ("query", "not_run", "kind", "rare")),
            *(f"{found[name] / 2**30:.2f}" for name in ("peak_first", "peak")),
            f"{sum(files) / 2**20:,.0f}",
        )
        if not files:
            break


# --- kinds of index -------------------------------------------------------------------------------


def compare_kinds(size: int, table: Table) -> None:
    """Measure what each kind of index takes to build, keep, map and search."""
    inner = faiss.METRIC_INNER_PRODUCT
    half = faiss.ScalarQuantizer.QT_fp16
    kinds: dict[str, Callable[[], Any]] = {
        "flat": lambda: faiss.IndexFlatIP(DIMENSION),
        "flat, fp16": lambda: faiss.IndexScalarQuantizer(DIMENSION, half, inner),
        "HNSW": lambda: faiss.IndexHNSWFlat(DIMENSION, 32, inner),
        "HNSW, fp16": lambda: faiss.IndexHNSWSQ(DIMENSION, half, 32, inner),
    }
    exact = exact_similarities(size)
    for name, make in kinds.items():
        index = make()
        if hasattr(index, "hnsw"):
            index.hnsw.efConstruction, index.hnsw.efSearch = 150, 256
        for order in ("random order", "run by run") if hasattr(index, "hnsw") else ("",):
            index.reset()
            title = f"{name} {order}".strip()
            table.add_row(f"{size:,}", title, *measured_kind(index, size, order, exact))


def measured_kind(index: Any, size: int, order: str, exact: Rows) -> list[str]:
    queries = Queries().rows
    rows = np.concatenate(list(Runs(seed=1).chunks(size)))
    if order == "random order":
        np.random.default_rng(0).shuffle(rows)
    parts = [rows[first : first + 5_000] for first in range(0, size, 5_000)]
    build = sum(seconds(partial(index.add, part)) for part in parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        write = seconds(lambda: faiss.write_index(index, str(path)))
        length = path.stat().st_size
        read = seconds(lambda: faiss.read_index(str(path)))
        began = time.perf_counter()
        mapped = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        took = time.perf_counter() - began
        faiss.omp_set_num_threads(1)  # as the memory searches
        found = [mapped.search(query[None], K)[0][0] for query in queries]
        query = median(lambda i: mapped.search(queries[i : i + 1], K), len(queries))
        faiss.omp_set_num_threads(THREADS)
    hits = [(f >= e[0] - 1e-4).mean() for f, e in zip(found, exact, strict=True)]
    return [
        f"{build:.1f}",
        f"{write:.2f}",
        f"{read:.2f}",
        f"{took:.3f}",
        f"{1e3 * query:.2f}",
        f"{np.mean(hits):.4f}",
        f"{length / 2**20:,.0f}",
    ]


# --- clocks ---------------------------------------------------------------------------------------


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def median(action: Callable[[int], object], repeats: int = QUERIES) -> float:
    return float(np.median([seconds(lambda i=i: action(i)) for i in range(repeats)]))


def peak() -> float:
    """Return the most memory this process has had, in bytes."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def columns(*names: str, title: str) -> Table:
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", action="store_true", help="compare kinds of index instead")
    parser.add_argument("--folder", type=Path, help="where to keep the storages")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(arguments.start)))
        return
    threads = f"{THREADS} FAISS threads"
    if arguments.kinds:
        table = columns(
            "prompts", "index", "build s", "write s", "read s", "map s", "query ms",
            f"recall@{K}", "MiB",
            title=f"Synthetic vectors of {DIMENSION} dimensions, k = {K}, {threads}",
        )  # fmt: skip
    else:
        table = columns(
            "prompts", "start with", "first answer s", "index ready s", f"recall@{K}", "query ms",
            "not_run ms", "kind ms", "rare kind ms", "peak GiB at first", "peak GiB", "file MiB",
            title=f"Synthetic prompts, {DIMENSION} dimensions, k = {K}, medians, {threads}",
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        for size in arguments.sizes:
            if arguments.kinds:
                compare_kinds(size, table)
                continue
            folder = (arguments.folder or Path(temporary)) / str(size)
            folder.mkdir(parents=True, exist_ok=True)
            measure(size, folder, table)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
