"""What an optimizer adds to the time its metric calls take: wall time over the ideal, and CPU.

Every optimizer gets the same task, examples and LM objects. The simulated solver takes a set time
for each answer; the prompt model answers at once. The ideal is `metric calls x latency / threads`:
all threads busy from the first call to the last. With no latency there is no ideal, and what is
left is the CPU time of a metric call; that of a plain thread pool which makes the same calls is the
part that no optimizer can save (the program, DSPy, LiteLLM, the simulated model).

    python benchmarks/overhead.py
    python benchmarks/overhead.py --only GPO COPRO --threads 64 --latencies 200 --budget 1000
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import compare  # sets the environment that LiteLLM reads on import
import dspy

from gpo_dspy import sandbox

TASK = "word_sorting"
PLAIN = "plain thread pool"
COMPARED = ("GPO", "GPO+demos", "GPO.paper", "GEPA", "MIPROv2", "MIPROv2+demos", "SIMBA", "COPRO")


class CountedMetric(compare.CountedMetric):
    """Counts in any thread."""

    def __init__(self, *, feedback: bool) -> None:
        super().__init__(feedback=feedback)
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self._lock:
            return super().__call__(*arguments, **named)


@dataclass(frozen=True)
class Measured:
    """One run; times in seconds, latency in milliseconds."""

    optimizer: str
    threads: int
    latency: int
    metric_calls: int
    lm_calls: int
    seconds: float
    cpu_seconds: float
    error: str = ""

    @property
    def over_ideal(self) -> float | None:
        """Wall time over the ideal; None where there is no latency."""
        ideal = self.metric_calls * self.latency / 1000 / self.threads
        return self.seconds / ideal if ideal else None


def plain(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
) -> Any:
    """Make ``budget`` metric calls and nothing else."""

    def call(position: int) -> None:
        example = (*train, *val)[position % (len(train) + len(val))]
        metric(example, program(**example.inputs()))

    with ThreadPoolExecutor(threads) as pool:
        contexts = [copy_context() for _ in range(budget)]
        list(pool.map(lambda i: contexts[i].run(call, i), range(budget)))
    return program


def measure(name: str, threads: int, latency: int, budget: int, seed: int) -> Measured:
    """Make one run, with whatever the optimizer prints swallowed."""
    compile_: Callable[..., Any] = plain if name == PLAIN else compare.OPTIMIZERS[name]
    examples = sandbox.make_dataset(TASK, n=compare.N_TRAIN + compare.N_VAL, seed=seed)
    train, val = examples[: compare.N_TRAIN], examples[compare.N_TRAIN :]
    metric = CountedMetric(feedback=name.startswith(compare.READS_FEEDBACK))
    model = f"sandbox/solver-{latency}ms" if latency else "sandbox/solver"
    lm = dspy.LM(model, engine="litellm", cache=False)
    program, error = sandbox.program_for(TASK), ""
    began, cpu = time.perf_counter(), time.process_time()
    with (
        dspy.context(lm=lm),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            compile_(program, train, val, metric, budget, seed, threads=threads)
        except Exception as raised:  # noqa: BLE001 - the calls made so far took their time
            error = f"{type(raised).__name__}: {raised}"
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Measured(name, threads, latency, metric.calls, len(lm.history), seconds, cpu, error)


def warm_up() -> None:
    """Import what the optimizers import late, so that none pays for it."""
    for name in (PLAIN, *COMPARED):
        measure(name, threads=8, latency=0, budget=60, seed=1)


def table(rows: list[Measured]) -> str:
    """Return the runs as a Markdown table: wall time over the ideal, then CPU."""
    grid = sorted({(row.threads, row.latency) for row in rows if row.latency})
    heads = [f"{threads} threads, {latency} ms" for threads, latency in grid]
    lines = [
        f"| optimizer | {' | '.join(heads)} | CPU ms per metric call |",
        f"|---|{'---:|' * (len(heads) + 1)}",
    ]
    for name in dict.fromkeys(row.optimizer for row in rows):
        own = [row for row in rows if row.optimizer == name]
        cells = []
        for threads, latency in grid:
            here = [r for r in own if (r.threads, r.latency) == (threads, latency)]
            best = min(here, key=lambda row: row.seconds, default=None)
            cells.append(f"{best.over_ideal:.2f} ({best.seconds:.1f} s)" if best else "")
        cpu = [1000 * row.cpu_seconds / row.metric_calls for row in own if not row.latency]
        cells.append(f"{min(cpu):.2f}" if cpu else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = arguments()
    logging.disable(logging.CRITICAL)
    sandbox.register()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    warm_up()
    rows = []
    for latency in options.latencies:
        for threads in options.threads:
            for name in options.only or (PLAIN, *COMPARED):
                for seed in range(options.repeats):
                    row = measure(name, threads, latency, options.budget, seed)
                    rows.append(row)
                    print(json.dumps(asdict(row)), f"load {os.getloadavg()[0]:.1f}", flush=True)
    text = table(rows)
    print(text)
    if options.out:
        Path(options.out).write_text(text, "utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--latencies", type=int, nargs="+", default=[0, 50, 200], help="ms")
    parser.add_argument("--budget", type=int, default=400, help="metric calls")
    parser.add_argument("--repeats", type=int, default=1, help="runs; the fastest counts")
    parser.add_argument("--only", nargs="+", choices=[PLAIN, *compare.OPTIMIZERS])
    parser.add_argument("--out", help="a Markdown file for the table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
