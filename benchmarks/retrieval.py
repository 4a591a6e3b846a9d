"""Times one retrieval and one append at several sizes of a trajectory.

Vectors are synthetic but shaped like prompt embeddings: clusters in a space of few dimensions,
projected to many, with a little noise. Run it with::

    python benchmarks/retrieval.py --sizes 1000 90000 100000 1000000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gpo_dspy.vector_index import VectorIndex

CHUNK = 50_000  # vectors made at a time, to keep the memory for the index
INTRINSIC = 32  # dimensions the clusters live in


class Prompts:
    """An endless stream of clustered unit vectors.

    Args:
        dimension: Length of the vectors.
        clusters: Number of topics.
        seed: Seed of the random generator.
    """

    def __init__(self, dimension: int, clusters: int, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.projection = self.generator.standard_normal((INTRINSIC, dimension), np.float32)
        self.centres = self.generator.standard_normal((clusters, INTRINSIC), np.float32)
        self.dimension = dimension

    def take(self, n: int) -> NDArray[np.float32]:
        """Returns the next rows [n, d]."""
        topic = self.centres[self.generator.integers(len(self.centres), size=n)]
        inner = topic + 0.5 * self.generator.standard_normal((n, INTRINSIC), np.float32)
        noise = 0.3 * self.generator.standard_normal((n, self.dimension), np.float32)
        rows = inner @ self.projection + noise
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows, np.float32)

    def chunks(self, n: int) -> Iterator[NDArray[np.float32]]:
        """Yields the next ``n`` rows in chunks."""
        for first in range(0, n, CHUNK):
            yield self.take(min(CHUNK, n - first))


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def milliseconds(samples: list[float]) -> str:
    median, p95 = 1e3 * np.quantile(samples, [0.5, 0.95])
    return f"{median:.3f} / {p95:.3f}"


def measure(size: int, k: int, repeats: int, dimension: int, seed: int) -> list[str]:
    prompts = Prompts(dimension, clusters=2_000, seed=seed)
    queries = prompts.take(repeats)
    index = VectorIndex()
    build = 0.0
    exact = np.empty((repeats, 0), np.float32)  # the k highest similarities so far [repeats, k]
    for rows in prompts.chunks(size):
        build += seconds(partial(index.add, rows))
        exact = np.sort(np.concatenate([exact, queries @ rows.T], axis=1), axis=1)[:, -k:]
    found = [index.search(query, k)[1] for query in queries]
    # Found is what is as near as the k-th nearest, rounding aside.
    recall = np.mean([got >= top[0] - 1e-5 for got, top in zip(found, exact, strict=True)])
    memory = faiss.get_mem_usage_kb() / 2**20
    searches = [seconds(partial(index.search, query, k)) for query in queries]
    appends = [seconds(partial(index.add, row[None])) for row in prompts.take(repeats)]
    kind = "exact" if index.is_exact else "HNSW"
    return [
        f"{size:,}",
        kind,
        milliseconds(searches),
        milliseconds(appends),
        f"{recall:.4f}",
        f"{build:.1f}",
        f"{memory:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 90_000, 100_000, 1_000_000])
    parser.add_argument("--k", type=int, default=3, help="prompts per retrieval")
    parser.add_argument("--repeats", type=int, default=1_000, help="timed calls per size")
    parser.add_argument("--dimension", type=int, default=384, help="length of the vectors")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    table = Table(title=f"{arguments.dimension} dimensions, k = {arguments.k}, median / p95")
    for column in ("prompts", "index", "retrieval ms", "append ms", "recall", "build s", "RSS GiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for size in arguments.sizes:
        table.add_row(
            *measure(size, arguments.k, arguments.repeats, arguments.dimension, arguments.seed)
        )
    Console().print(table)


if __name__ == "__main__":
    main()
