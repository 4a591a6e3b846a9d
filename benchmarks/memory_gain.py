"""What the memory across runs is worth: a task with and without the prompts of earlier runs.

For each seed, seven tasks are optimised into one storage. Then each is asked again in another form
(other fields, another start instruction, other examples): cold, with that storage (*related*), and
with a storage from which the runs on the same task are deleted (*unrelated*). The LMs are
simulated: the figures say whether the search finds and uses what helps, not what it would gain
with a real model.

    python benchmarks/memory_gain.py --seeds 5 --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy

from gpo_dspy import GPO, sandbox
from gpo_dspy.storage import open_storage

N_TRAIN, N_VAL, N_TEST = 40, 40, 150
FIRST_BUDGET = 400
BUDGETS = (200, 400)
TASKS = tuple(name for name in sandbox.TASK_NAMES if name != "plan_then_answer")
KINDS = ("cold", "related", "unrelated")


@dataclass(frozen=True)
class Outcome:
    """Held-out score in [0, 1] of the second run on a task.

    Attributes:
        recalled: Prompts of earlier runs that it tried.
        from_same_task: How many of them come from the run on the same task.
    """

    task: str
    seed: int
    kind: str
    budget: int
    score: float
    recalled: int
    from_same_task: int


def run_seed(seed: int) -> list[Outcome]:
    """Fill a storage with one run of each task, then run each task again in another form."""
    logging.disable(logging.WARNING)
    sandbox.configure(cache=False)
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.db"
        for task in TASKS:
            examples = sandbox.make_dataset(task, n=N_TRAIN + N_VAL, seed=2 * seed)
            program = dspy.Predict("question -> answer")
            first = _gpo(sandbox.exact_match, FIRST_BUDGET, seed, full, study=task, memory=False)
            first.compile(program, trainset=examples[:N_TRAIN], valset=examples[N_TRAIN:])
        return [
            _second_run(full, task, seed, kind, budget)
            for task in TASKS
            for kind in KINDS
            for budget in BUDGETS
        ]


def _second_run(full: Path, task: str, seed: int, kind: str, budget: int) -> Outcome:
    """Run a task again, on a copy of the storage."""
    items = other_form(task, N_TRAIN + N_VAL + N_TEST, 2 * seed + 1)
    train, val, test = items[:N_TRAIN], items[N_TRAIN : N_TRAIN + N_VAL], items[N_TRAIN + N_VAL :]
    program = dspy.Predict(dspy.Signature("request -> response", "Carry out the request."))
    path = full.with_name(f"{task}-{kind}-{budget}.db")
    with open_storage(f"sqlite:///{full}") as source:
        same = next(row.id for row in source.runs() if row.study == task)
    if kind != "cold":
        path.write_bytes(full.read_bytes())  # closed: its write-ahead log is in the file
    if kind == "unrelated":
        with open_storage(f"sqlite:///{path}") as storage:
            storage.delete_run(same)
    optimizer = _gpo(exact, budget, seed, None if kind == "cold" else path)
    optimized = optimizer.compile(program, trainset=train, valset=val)
    origins = [
        candidate.rewrite.origin
        for record in optimized.detailed_results.records
        for candidate in record.candidates
        if candidate.rewrite.origin
    ]
    score = fmean(exact(example, optimized(**example.inputs())) for example in test)
    from_same = sum(f"(run {same}," in origin for origin in origins)
    return Outcome(task, seed, kind, budget, score, len(origins), from_same)


def other_form(task: str, n: int, seed: int) -> list[dspy.Example]:
    """Return items of a task under other field names."""
    return [
        dspy.Example(request=example.question, response=example.answer).with_inputs("request")
        for example in sandbox.make_dataset(task, n=n, seed=seed)
    ]


def exact(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
    return bool(example.response == prediction.response)


def _gpo(metric: object, budget: int, seed: int, path: Path | None, **arguments: object) -> GPO:
    return GPO(
        metric, prompt_model=sandbox.rewriter(cache=False), max_metric_calls=budget, seed=seed,
        verbose=False, num_threads=1, storage=f"sqlite:///{path}" if path else None, **arguments,
    )  # fmt: skip


def report(outcomes: list[Outcome]) -> str:
    """Write mean scores in % by kind and budget, and differences with 95 % intervals."""
    scores = {((o.task, o.seed), o.kind, o.budget): o.score for o in outcomes}
    pairs = sorted({(o.task, o.seed) for o in outcomes})
    lines = ["| calls | cold | related | unrelated |", "|---:|---:|---:|---:|"]
    for budget in BUDGETS:
        means = (fmean(scores[pair, kind, budget] for pair in pairs) for kind in KINDS)
        lines.append(f"| {budget} | " + " | ".join(f"{100 * mean:.1f}" for mean in means) + " |")
    lines.append("")
    few, many = BUDGETS[0], BUDGETS[-1]
    comparisons = (
        ("related", few, "cold", many), ("related", few, "cold", few),
        ("related", many, "cold", many), ("unrelated", few, "cold", few),
        ("unrelated", many, "cold", many),
    )  # fmt: skip
    for kind, calls, other, other_calls in comparisons:
        changes = [scores[pair, kind, calls] - scores[pair, other, other_calls] for pair in pairs]
        error = 1.96 * stdev(changes) / len(changes) ** 0.5
        lines.append(
            f"- {kind} at {calls} minus {other} at {other_calls}: {100 * fmean(changes):+.1f} "
            f"points [{100 * (fmean(changes) - error):+.1f}, {100 * (fmean(changes) + error):+.1f}]"
        )
    related = [o for o in outcomes if o.kind == "related"]
    recalled = sum(o.recalled for o in related)
    same = sum(o.from_same_task for o in related)
    lines.append(f"- of {recalled} prompts recalled in related runs, {same} are of the same task")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="folder for memory_gain.{jsonl,md}")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    with ProcessPoolExecutor(arguments.processes) as pool:
        outcomes = [outcome for of_seed in pool.map(run_seed, seeds) for outcome in of_seed]
    print(report(outcomes))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(json.dumps(asdict(outcome)) for outcome in outcomes)
        (arguments.out / "memory_gain.jsonl").write_text(rows + "\n")
        command = f"python benchmarks/memory_gain.py --seeds {arguments.seeds}"
        command += f" --first-seed {arguments.first_seed}"
        (arguments.out / "memory_gain.md").write_text(
            "# What the memory is worth\n\nMean held-out score in % of the second run, simulated "
            f"LMs, {len(TASKS)} tasks x {arguments.seeds} seeds (`{command}`).\n\n"
            f"{report(outcomes)}\n"
        )


if __name__ == "__main__":
    main()
