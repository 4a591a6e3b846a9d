"""Times the storage inside a whole run, says how large it grows, and lets writers crowd it.

The run is a real one on simulated language models (``gpo_dspy.sandbox``), so batches and rows are
what a run writes; each call of the storage is timed. On PostgreSQL it uses a server of its own
(or ``--postgresql URL``, an empty database), in which each commit waits for the disk. Run it with::

    python benchmarks/storage.py --calls 2000
    python benchmarks/storage.py --stress 60
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# LiteLLM's price list from the package instead of the network; this process only.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy
import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from gpo_dspy import GPO, sandbox
from gpo_dspy.storage import open_storage
from gpo_dspy.storage.storage import Storage

EVALUATIONS = ("gpo_evaluations", "gpo_links", "gpo_lm_calls", "gpo_texts", "gpo_run_texts")
TESTS = Path(__file__).parents[1] / "tests" / "gpo_dspy" / "storage"


@dataclass
class Timed:
    """Seconds that each call of a method of the storage took."""

    seconds: list[float] = field(default_factory=list)

    def wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = method(*arguments, **named)
            self.seconds.append(time.perf_counter() - started)
            return result

        return timed

    def __str__(self) -> str:
        median, p95 = 1e3 * np.quantile(self.seconds, [0.5, 0.95])
        return f"{median:.2f} / {p95:.2f} ({len(self.seconds):,})"


def measure(url: str, task: str, calls: int, threads: int) -> list[str]:
    """Run GPO with a storage and return a row of the table."""
    save, acquire = Timed(), Timed()
    kept = Storage.save, Storage.acquire
    Storage.save, Storage.acquire = save.wrap(Storage.save), acquire.wrap(Storage.acquire)  # type: ignore[method-assign]
    try:
        examples = sandbox.make_dataset(task, n=400, seed=0)
        optimizer = GPO(
            metric=sandbox.exact_match,
            prompt_model=dspy.LM("sandbox/rewriter", engine="litellm", cache=False),
            max_metric_calls=calls,
            num_threads=threads,
            embedder="hashed-ngrams",
            storage=url,
            verbose=False,
        )
        started = time.perf_counter()
        program = sandbox.program_for(task)
        optimizer.compile(program, trainset=examples[:200], valset=examples[200:])
        wall = time.perf_counter() - started
    finally:
        Storage.save, Storage.acquire = kept  # type: ignore[method-assign]
    with open_storage(url, read_only=True) as storage:
        run = storage.runs()[-1]
        rows = storage.evaluations(run.id)
    spent = sum(save.seconds) + sum(acquire.seconds)
    detail = np.mean([len(row.stored.detail) for row in rows])
    return [
        url.partition(":")[0],
        f"{run.metric_calls:,}",
        str(save),
        str(acquire),
        f"{1e3 * spent / run.metric_calls:.2f}",
        f"{100 * spent / wall:.1f}",
        " / ".join(f"{1000 * megabytes / run.metric_calls:.2f}" for megabytes in size(url)),
        f"{detail:.0f}",
    ]


def size(url: str) -> tuple[float, float]:
    """Return the MB that a storage takes on the disk, and those of its evaluations alone.

    Indexes are included, and with the evaluations their LM calls and the texts they refer to.
    """
    if url.startswith("sqlite"):
        file = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file)) as connection:
            query = "SELECT tbl_name, pgsize FROM dbstat JOIN sqlite_master USING (name)"
            try:
                found = connection.execute(query).fetchall()
            except sqlite3.OperationalError:  # this build of SQLite does not tell
                found = [(name, np.nan) for name in EVALUATIONS]
        everything = Path(file).stat().st_size
    else:
        with psycopg.connect(url) as server:
            query = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
            found = [row for row in server.execute(query) if row[0].startswith("gpo_")]
        everything = sum(bytes_ for _, bytes_ in found)
    return everything / 1e6, sum(bytes_ for name, bytes_ in found if name in EVALUATIONS) / 1e6


@contextmanager
def postgresql(url: str | None) -> Iterator[str | None]:
    """Give the URL of a server: the one given, or one of our own, or None where there is none."""
    if url is not None:
        yield url
        return
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, TESTS / "cluster.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        yield server.stdout.readline().strip() or None
        server.communicate()


def stress(url: str, seconds: float, kill_every: int | None) -> list[str]:
    """Let eight processes evaluate the same keys, and return a row of the table."""
    kills = ["--kill-every", str(kill_every), "--first-key", str(10**7)] if kill_every else []
    command = [sys.executable, "writers.py", url, "--writers", "8", "--seconds", str(seconds)]
    done = subprocess.run(  # noqa: S603 - our own program
        [*command, *kills], stdout=subprocess.PIPE, text=True, check=True, cwd=TESTS
    )
    report = json.loads(done.stdout)
    for error in report["errors"]:
        print(error)
    names = ("evaluated", "killed", "wasted", "twice", "lost", "held")
    counts = [f"{report[name]:,}" for name in names]
    return [url.partition(":")[0], *counts, str(len(report["errors"])), f"{report['slowest']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=2_000, help="metric calls of the run")
    parser.add_argument("--task", choices=sandbox.TASK_NAMES, default="word_sorting")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--postgresql", metavar="URL", help="an empty database to use")
    parser.add_argument("--stress", type=float, metavar="SECONDS", help="eight writers instead")
    given = parser.parse_args()
    if given.stress:
        titles = "database", "evaluated", "killed", "wasted", "twice", "lost", "held", "errors"
        table = Table(*titles, "slowest ms", title=f"8 writers, {given.stress:g} s")
    else:
        sandbox.register()
        dspy.configure(lm=dspy.LM("sandbox/solver", engine="litellm", cache=False))
        titles = "database", "metric calls", "save ms, median / p95 (calls)", "acquire ms"
        more = "storage ms per metric call", "% of wall", "MB per 1,000: all / evaluations"
        title = f"{given.task}, {given.threads} threads"
        table = Table(*titles, *more, "characters of detail", title=title)

    def rows(url: str) -> None:
        if given.stress:
            table.add_row(*stress(url, given.stress, None))
            table.add_row(*stress(url, given.stress, 200))
        else:
            table.add_row(*measure(url, given.task, given.calls, given.threads))

    with tempfile.TemporaryDirectory() as folder, postgresql(given.postgresql) as server:
        rows(f"sqlite:///{folder}/gpo.db")
        if server:
            rows(server)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
