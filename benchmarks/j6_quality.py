"""Quality of J6 against weighted sums and torchjd's aggregators, at equal entropy.

Tiny real models of three architectures learn a knowledge base that contradicts itself
(benchmarks/j6_knowledge.py); every method tunes a soft prompt on 192 facts and is measured on the
others, but for 128 of them. All methods get the same learning-rate search (validation NLL on those,
first seed) and the same steps. Finished runs are kept in ``--cache`` and not repeated.

    python -m benchmarks.j6_quality --seeds 5
    python -m benchmarks.j6_quality --seeds 5 --world clean  # tuned models are too sure
    python -m benchmarks.j6_quality --seeds 30 --refresh 1 2  # gradient of C at every step, or 2nd
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.j6_knowledge import WORLDS, Knowledge, trained_model
from j6 import J6Config, J6Tuner, J6Update, SoftPromptConfig
from j6.examples import ExampleEncoder, in_batches
from j6.metrics import calibration_error, measure
from j6.tuner.answers import AnswerRunner, frozen

ARCHITECTURES = ("llama", "gpt2", "qwen3")
LEARNING_RATES = (0.03, 0.1, 0.3, 1.0)
WEIGHTS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75)  # on confidence
STEPS, BATCH, TOKENS = 150, 16, 4
NO_SEARCH = "J6 (no search)"
"""J6 as it is without any setting, at the tuner's own learning rate."""
METRICS = ("accuracy", "nll", "entropy", "ece", "confident_wrong", "ece_floor", "too_sure")
COLLAPSED = 0.1
"""A weighted sum this much less accurate than the best one is no point of the curve."""


def weighted(weight: float) -> Callable[[Tensor], Tensor]:
    """The weighted sum ``(1 − weight) F + weight C``."""
    return lambda jacobian: (1 - weight) * jacobian[0] + weight * jacobian[1]


def methods() -> dict[str, dict[str, Any]]:
    """Settings of every method by name."""
    earned = ("factuality", "earned_confidence")
    found: dict[str, dict[str, Any]] = {f"sum {w}": {"update": weighted(w)} for w in WEIGHTS}
    found |= {
        "J6 (default)": {},
        NO_SEARCH: {},
        "J6 hard gram": {"update": J6Update("hard")},
        "J6 soft paper": {"update": J6Update(components="paper")},
        "J6 hard paper": {"update": J6Update("hard", components="paper")},
        "J6 no priority": {"update": J6Update(priority=None)},
        # What normalising and projecting do alone.
        "J6 equal weights": {"update": J6Update(temperature=1e6)},
        "J6 earned": {"objectives": earned},
        "J6 sure": {"update": J6Update(preference=-0.5)},
        "J6 sure, earned": {
            "update": J6Update(preference=(-0.25, 0.25)),
            "objectives": earned,
        },
    }
    try:
        from torchjd import aggregation

        from j6.aggregation import AggregatorUpdate
    except ImportError:
        return found
    for name in ("UPGrad", "MGDA", "AlignedMTL", "PCGrad"):
        try:
            found[name] = {"update": AggregatorUpdate(getattr(aggregation, name)())}
        except ImportError:
            continue
    return found


@dataclass(frozen=True)
class Subject:
    """A model, and the knowledge that it learned."""

    model: Any
    knowledge: Knowledge


def tune(
    subject: Subject,
    settings: dict[str, Any],
    learning_rate: float,
    seed: int,
    *,
    validation: bool = False,
) -> dict[str, float]:
    """Tune a soft prompt and measure it on facts that were not tuned on."""
    model, knowledge = subject.model, subject.knowledge
    train, held_out, test = knowledge.split(seed)
    words = knowledge.tokenizer()
    config = J6Config(
        **settings,
        prompt=SoftPromptConfig(n_tokens=TOKENS, seed=seed),
        learning_rate=learning_rate,
        max_steps=STEPS,
        batch_size=BATCH,
        seed=seed,
    )
    torch.manual_seed(seed)  # PCGrad shuffles
    result = J6Tuner(model, words, config).fit(knowledge.pairs(train), progress=False)
    facts = held_out if validation else test
    examples = ExampleEncoder(words, "after_bos", None).encode_all(knowledge.pairs(facts))
    with result.soft_prompt.attached(model), frozen(model):
        (batch,) = in_batches(examples, len(examples))
        with torch.no_grad():
            logits = AnswerRunner(result.soft_prompt, model).logits(batch)
    found = measure([(logits, batch.labels, batch.mask)]).to_json()
    probability, _ = logits[:, 0].softmax(-1).max(-1)
    found["too_sure"] = probability.mean().item() - found["accuracy"]
    found["ece_floor"] = calibrated_error(probability)
    return found


def calibrated_error(probability: Tensor, draws: int = 50) -> float:
    """What calibration error a model with these confidences shows if it is calibrated.

    Not 0: within every bin the share of right answers scatters about the confidence.
    """
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand((draws, *probability.shape), generator=generator)
    return statistics.fmean(
        calibration_error(probability, (c < probability).float()) for c in chances
    )


class Results:
    """Finished runs, kept as JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, float]] = {}
        if path.is_file():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self.rows[row["key"]] = row["metrics"]

    def get(self, key: str, run: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The metrics of a run, made if they are not there."""
        if key not in self.rows:
            self.rows[key] = run()
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "metrics": self.rows[key]}) + "\n")
        return self.rows[key]


def run_method(
    results: Results, models: dict[str, Subject], name: str, settings: dict[str, Any], seeds: int
) -> dict[str, list[dict[str, float]]]:
    """All runs of a method: per architecture, one row per seed at the best learning rate."""
    rows = defaultdict(list)
    for architecture, model in models.items():
        scores = {}
        rates = (J6Config().learning_rate,) if name == NO_SEARCH else LEARNING_RATES
        for rate in rates:
            key = f"{architecture}|{name}|{rate}|search"
            found = results.get(
                key, lambda r=rate, m=model: tune(m, settings, r, 0, validation=True)
            )
            scores[rate] = found["nll"]
        best = min(scores, key=lambda rate: scores[rate])
        for seed in range(seeds):
            key = f"{architecture}|{name}|{best}|{seed}"
            found = results.get(key, lambda s=seed, m=model, r=best: tune(m, settings, r, s))
            rows[architecture].append(found)
    return dict(rows)


def mean_of(rows: dict[str, list[dict[str, float]]], metric: str) -> float:
    """Mean of a metric over models and seeds."""
    return statistics.fmean(row[metric] for runs in rows.values() for row in runs)


def paired(
    own: dict[str, list[dict[str, float]]], other: dict[str, list[dict[str, float]]], metric: str
) -> tuple[float, float]:
    """Mean difference over equal models and seeds, and its standard error."""
    pairs = [
        a[metric] - b[metric]
        for architecture in own
        for a, b in zip(own[architecture], other[architecture], strict=True)
    ]
    return statistics.fmean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5


def off_the_curve(
    rows: dict[str, list[dict[str, float]]], sums: dict[float, dict[str, list[dict[str, float]]]]
) -> tuple[float, float]:
    """Accuracy and ECE minus those of the weighted sums at the same entropy, mean over models.

    The curve runs through the weighted sums that no other one beats in both entropy and accuracy.
    A weight at which training collapsed is left out: it is sure and wrong, and the line to it would
    flatter whoever is a little surer than the last sum that works.
    """
    accuracy, entropy, ece = map(METRICS.index, ("accuracy", "entropy", "ece"))
    gaps = []
    for architecture, runs in rows.items():
        points = [
            tuple(statistics.fmean(r[m] for r in found[architecture]) for m in METRICS)
            for found in sums.values()
        ]
        best = max(point[accuracy] for point in points)
        points = [point for point in points if point[accuracy] > best - COLLAPSED]
        points.sort(key=lambda point: (point[entropy], -point[accuracy]))
        front: list[tuple[float, ...]] = []
        for point in points:
            if not front or point[accuracy] > front[-1][accuracy]:
                front.append(point)
        own = [statistics.fmean(r[m] for r in runs) for m in METRICS]
        gaps.append([own[m] - interpolate(own[entropy], front, m) for m in (accuracy, ece)])
    return statistics.fmean(g[0] for g in gaps), statistics.fmean(g[1] for g in gaps)


def interpolate(entropy: float, points: list[tuple[float, ...]], column: int) -> float:
    """Value of a curve at an entropy, linear between its points and constant beyond them."""
    at = METRICS.index("entropy")
    if entropy <= points[0][at]:
        return points[0][column]
    for left, right in itertools.pairwise(points):
        if entropy <= right[at]:
            part = (entropy - left[at]) / (right[at] - left[at])
            return left[column] + part * (right[column] - left[column])
    return points[-1][column]


def compare_refresh(
    results: Results, models: dict[str, Subject], every: list[int], rate: float, seeds: int
) -> None:
    """Print what values of ``refresh_every`` change against the first of them, in pairs."""
    table: dict[int, dict[str, list[dict[str, float]]]] = {n: {} for n in every}
    for n, (architecture, model) in itertools.product(every, models.items()):
        table[n][architecture] = [
            results.get(
                f"{architecture}|J6 every {n}|{rate}|{seed}",
                lambda n=n, m=model, s=seed: tune(m, {"refresh_every": n}, rate, s),
            )
            for seed in range(seeds)
        ]
    first = table[every[0]]
    print(f"{len(models) * seeds} runs each, learning rate {rate}; minus the first, in pairs")
    for n, rows in table.items():
        print(f"\nrefresh_every={n}")
        for metric in METRICS:
            mean, error = paired(rows, first, metric)
            change = f"   {mean:+.4f} ± {error:.4f} (standard error)" if n != every[0] else ""
            print(f"  {metric:16}{mean_of(rows, metric):8.4f}{change}")
        pairs = [p for name in rows for p in zip(rows[name], first[name], strict=True)]
        lost = [before["accuracy"] - own["accuracy"] for own, before in pairs]
        print(f"  {sum(x > COLLAPSED for x in lost)} runs collapsed; most lost: {max(lost):.3f}")


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--world", choices=WORLDS, default="noisy")
    parser.add_argument("--cache", type=Path, default=Path("runs/j6_quality"))
    parser.add_argument("--only", nargs="*", help="names of methods besides the weighted sums")
    parser.add_argument(
        "--refresh", type=int, nargs="+", metavar="N", help="compare values of refresh_every alone"
    )
    parser.add_argument(
        "--learning-rate", type=float, default=J6Config().learning_rate, help="for --refresh"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cache = arguments.cache / arguments.world
    cache.mkdir(parents=True, exist_ok=True)
    knowledge = Knowledge.generate(WORLDS[arguments.world])
    results = Results(cache / "runs.jsonl")
    models = {a: Subject(trained_model(a, knowledge, cache), knowledge) for a in ARCHITECTURES}
    if arguments.refresh:
        rate = arguments.learning_rate
        compare_refresh(results, models, arguments.refresh, rate, arguments.seeds)
        return
    chosen = {
        name: settings
        for name, settings in methods().items()
        if not arguments.only or name.startswith("sum") or name in arguments.only
    }
    start, table = time.perf_counter(), {}
    for name, settings in chosen.items():
        table[name] = run_method(results, models, name, settings, arguments.seeds)
        print(f"{time.perf_counter() - start:6.0f} s  {name}", flush=True)
    sums = {w: table[f"sum {w}"] for w in WEIGHTS}
    print(f"\n{'method':24}" + "".join(f"{m:>16}" for m in METRICS) + "   Δaccuracy      ΔECE")
    for name, rows in table.items():
        every = [row for runs in rows.values() for row in runs]
        means = "".join(f"{statistics.fmean(r[m] for r in every):16.3f}" for m in METRICS)
        accuracy, ece = off_the_curve(rows, sums)
        print(f"{name:24}{means}{accuracy:+12.3f}{ece:+10.3f}")
    best = min((f"sum {w}" for w in WEIGHTS), key=lambda name: mean_of(table[name], "nll"))
    for name in ("J6 (default)", NO_SEARCH):
        if name in table:
            print(f"\n{name} minus {best}, the sum of lowest NLL on the test facts, in pairs:")
            for metric in METRICS:
                mean, error = paired(table[name], table[best], metric)
                print(f"  {metric:16}{mean:+.4f} ± {error:.4f} (standard error)")


if __name__ == "__main__":
    main()
