"""GPO beside DSPy's own optimizers: held-out score against metric calls, on simulated LMs.

Every optimizer gets the same sandbox tasks, the same LM objects, the same examples and, as nearly
as its arguments allow, the same number of metric calls. The calls are counted here, outside the
optimizers, and the table shows what each really used. The LMs are simulated: the figures compare
how the optimizers search, not what they gain with a real model.

    python benchmarks/compare.py --budgets 150 400 1000 --seeds 5 --out benchmarks/results
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("TQDM_DISABLE", "1")

import dspy

from gpo_dspy import GPO, sandbox
from gpo_dspy.direction import Reflection, Relevance
from gpo_dspy.sandbox import provider

N_TRAIN, N_VAL, N_TEST = 40, 40, 150
DEMOS = 3
"""Demos of each kind at most, for those that search them."""
TASKS = tuple(sandbox.TASK_NAMES)


class CountedMetric:
    """The sandbox's metric, counting its calls; with feedback for those who read it."""

    def __init__(self, *, feedback: bool) -> None:
        self.calls = 0
        self._metric = sandbox.metric_with_feedback if feedback else sandbox.exact_match

    def __call__(
        self,
        example: dspy.Example,
        prediction: dspy.Prediction,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> Any:
        if pred_name is None:  # GEPA asks again for feedback on a pair it has scored
            self.calls += 1
        return self._metric(example, prediction)


class CountedReplies:
    """The sandbox's replies, counted with their tokens, those of program and prompt model apart."""

    def __init__(self) -> None:
        self.replies: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._reply = provider.reply

    def __call__(self, name: str, messages: Sequence[Mapping[str, Any]], draw: int) -> str:
        text = self._reply(name, messages, draw)
        read = "".join(str(m.get("content") or "") for m in messages) if not draw else ""
        self.replies[name] += 1
        self.tokens[name] += provider.count_tokens(read) + provider.count_tokens(text)
        return text


@dataclass(frozen=True)
class Setting:
    """One run: who, on what, with how much."""

    optimizer: str
    task: str
    budget: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of it; scores in [0, 1], calls are metric calls.

    ``prompt_model_calls`` and the tokens read and written by program and prompt model are counted
    where they are answered, for all optimizers alike; the final test is not among them.

    An optimizer that raised leaves the user with the program they had: ``final`` is ``base``, and
    ``error`` says what happened.
    """

    optimizer: str
    task: str
    budget: int
    seed: int
    calls: int
    base: float
    final: float
    prompt_model_calls: int
    program_tokens: int
    prompt_model_tokens: int
    seconds: float
    error: str = ""


def gpo(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
) -> Any:
    return _gpo(program, train, val, metric, budget, seed, num_threads=threads)


def gpo_varied(**changes: Any) -> Callable[..., Any]:
    def run(
        program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
    ) -> Any:
        return _gpo(program, train, val, metric, budget, seed, num_threads=threads, **changes)

    return run


def gpo_paper(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
) -> Any:
    # Its own length is 3 epochs with 8 candidates on the whole validation set; where the budget
    # is smaller, the validation set is cut so that at least two steps are made.
    val = val[: max(min(len(val), budget // 17), 4)]
    optimizer = GPO.paper(
        metric, prompt_model=sandbox.rewriter(cache=False), max_metric_calls=budget, seed=seed,
        verbose=False, num_threads=threads, embedder="hashed-ngrams",
    )  # fmt: skip
    return optimizer.compile(program, trainset=train, valset=val)


def _gpo(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, **changes: Any
) -> Any:
    optimizer = GPO(
        metric, prompt_model=sandbox.rewriter(cache=False), max_metric_calls=budget, seed=seed,
        verbose=False, **({"embedder": "hashed-ngrams", "num_threads": 1} | changes),
    )  # fmt: skip
    return optimizer.compile(program, trainset=train, valset=val)


def gepa(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
) -> Any:
    optimizer = dspy.GEPA(
        metric, max_metric_calls=budget, reflection_lm=sandbox.rewriter(cache=False),
        num_threads=threads, seed=seed,
    )  # fmt: skip
    return optimizer.compile(program, trainset=train, valset=val)


def copro(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
) -> Any:
    breadth, depth = 5, 3
    examples = [*train, *val][: budget // (breadth * depth * len(program.predictors()))]
    optimizer = dspy.COPRO(
        metric=metric, prompt_model=sandbox.rewriter(cache=False), breadth=breadth, depth=depth
    )
    quiet = {"num_threads": threads, "display_progress": False}
    return optimizer.compile(program, trainset=examples, eval_kwargs=quiet)


def mipro(demos: int) -> Callable[..., Any]:
    def run(
        program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
    ) -> Any:
        val = val[: max(budget // 8, 10)]
        batch = 12 if budget < 800 else 20
        bootstrap = 3 * len(train) if demos else 0
        # The start, every fifth trial and the end are scored on the whole validation set.
        trials = max((budget - 3 * len(val) - bootstrap) // (batch + len(val) // 5), 2)
        # More proposals than full evaluations: MIPROv2 raises once all were fully evaluated.
        proposals = max(6, trials // 2)
        optimizer = dspy.MIPROv2(
            metric, prompt_model=sandbox.rewriter(cache=False), auto=None, num_candidates=proposals,
            max_bootstrapped_demos=demos, max_labeled_demos=demos, num_threads=threads, seed=seed,
        )  # fmt: skip
        return optimizer.compile(
            program, trainset=train, valset=val, num_trials=trials, minibatch_size=batch, seed=seed
        )

    return run


def simba(
    program: Any, train: Any, val: Any, metric: Any, budget: int, seed: int, threads: int = 1
) -> Any:
    candidates, batch = 4, 8 if budget < 300 else 12
    per_step = batch * (2 * candidates + 1)
    steps = max(int(budget * 0.7) // per_step, 1)
    examples = [*train, *val][: max((budget - steps * per_step) // (steps + 1), batch)]
    optimizer = dspy.SIMBA(
        metric=metric, bsize=batch, num_candidates=candidates, max_steps=steps,
        prompt_model=sandbox.rewriter(cache=False), num_threads=threads,
    )  # fmt: skip
    return optimizer.compile(program, trainset=examples, seed=seed)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "GPO": gpo,
    "GPO+demos": gpo_varied(max_bootstrapped_demos=DEMOS, max_labeled_demos=DEMOS),
    "GPO.paper": gpo_paper,
    "GEPA": gepa,
    "MIPROv2": mipro(demos=0),
    "MIPROv2+demos": mipro(demos=DEMOS),
    "SIMBA": simba,
    "COPRO": copro,
}
ABLATIONS: dict[str, Callable[..., Any]] = {
    "GPO, no retrieval": gpo_varied(direction="none"),
    "GPO, summary": gpo_varied(direction="summary"),
    "GPO, reflection": gpo_varied(direction="reflection"),
    "GPO, reflection and retrieval": gpo_varied(direction=Reflection(Relevance())),
    "GPO, no schedule": gpo_varied(schedule="constant"),
    "GPO, no race": gpo_varied(evaluation="full"),
    "GPO, no failures": gpo_varied(failures=0),
    # as many candidates as GPO has at 400 calls
    "GPO, a request each": gpo_varied(rewrites_per_request=1, candidates_per_step=9),
}
READS_FEEDBACK = ("GPO", "GEPA")


def run(setting: Setting) -> Outcome:
    """Make one run, with whatever the optimizer prints swallowed."""
    logging.disable(logging.CRITICAL)
    sandbox.register()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    examples = sandbox.make_dataset(setting.task, n=N_TRAIN + N_VAL + N_TEST, seed=setting.seed)
    train, val = examples[:N_TRAIN], examples[N_TRAIN : N_TRAIN + N_VAL]
    test = examples[N_TRAIN + N_VAL :]
    metric = CountedMetric(feedback=setting.optimizer.startswith(READS_FEEDBACK))
    asked = CountedReplies()
    program = sandbox.program_for(setting.task)
    compile_ = (OPTIMIZERS | ABLATIONS)[setting.optimizer]
    lm = sandbox.solver(cache=False)
    began = time.perf_counter()
    with (
        dspy.context(lm=lm),
        mock.patch("gpo_dspy.sandbox.provider.reply", asked),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        compiled, error = program, ""
        try:
            compiled = compile_(program, train, val, metric, setting.budget, setting.seed)
        except Exception as raised:  # noqa: BLE001 - one failure must not end the comparison
            error = f"{type(raised).__name__}: {raised}"
        seconds = time.perf_counter() - began
        prompt_model_calls = asked.replies["rewriter"]
        tokens = asked.tokens.copy()
        final = held_out(compiled, test)
        base = start_score(setting.task, setting.seed)
    return Outcome(
        **asdict(setting),
        calls=metric.calls,
        base=base,
        final=final,
        prompt_model_calls=prompt_model_calls,
        program_tokens=tokens["solver"],
        prompt_model_tokens=tokens["rewriter"],
        seconds=seconds,
        error=error,
    )


def held_out(program: Any, test: list[dspy.Example]) -> float:
    return fmean(float(sandbox.exact_match(e, program(**e.inputs()))) for e in test)


@cache
def start_score(task: str, seed: int) -> float:
    """Score the task's own program on the same examples; once per process."""
    examples = sandbox.make_dataset(task, n=N_TRAIN + N_VAL + N_TEST, seed=seed)
    return held_out(sandbox.program_for(task), examples[N_TRAIN + N_VAL :])


def main() -> None:
    options = arguments()
    names = [*OPTIMIZERS, *(ABLATIONS if options.ablations else ())]
    if options.only:
        names = [name for name in names if name in options.only]
    settings = [
        Setting(name, task, budget, seed)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for budget in options.budgets
        for task in options.tasks
        for name in names
    ]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    log_file = out / "compare.jsonl"
    rows = [json.loads(line) for line in log_file.open()] if log_file.exists() else []
    done = {(row["optimizer"], row["task"], row["budget"], row["seed"]) for row in rows}
    settings = [s for s in settings if (s.optimizer, s.task, s.budget, s.seed) not in done]
    with ProcessPoolExecutor(options.processes) as pool, log_file.open("a") as log:
        for finished in as_completed([pool.submit(run, setting) for setting in settings]):
            log.write(json.dumps(asdict(finished.result())) + "\n")
            log.flush()
    report(out)


def report(out: Path) -> None:
    """Write the table and the plot of all runs in ``compare.jsonl``."""
    from compare_report import write_plot, write_table

    rows = [json.loads(line) for line in (out / "compare.jsonl").read_text().splitlines()]
    order = [*OPTIMIZERS, *ABLATIONS]  # whoever finished first
    rows.sort(key=lambda row: order.index(row["optimizer"]))
    print(write_table(rows, out / "compare.md"))
    write_plot([row for row in rows if row["optimizer"] in OPTIMIZERS], out / "compare.png")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=int, nargs="+", default=[150, 400, 1000])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="optimizers to run")
    parser.add_argument("--ablations", action="store_true", help="also GPO with a part changed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", default="benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
