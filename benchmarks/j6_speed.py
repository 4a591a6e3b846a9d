"""Cost of a J6 step against plain soft-prompt training, torchjd and one pass per objective.

Each method computes, for a frozen Llama with random weights, the direction for w and h of two
objectives on one batch. Methods take turns, so that a busy machine slows all alike; on a CPU the
process's own time is counted, on a GPU wall time between synchronisations.

    python -m benchmarks.j6_speed --size small
    python -m benchmarks.j6_speed --size 500m --dtype bfloat16 --device cuda --peak-tflops 989
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from j6 import J6Update, SoftPrompt, SoftPromptConfig
from j6.examples import EncodedExample, collate
from j6.jacobian import example_jacobian, example_leaves, leaf_gradients
from j6.objectives import resolve_objectives
from j6.tuner.answers import AnswerRunner, frozen
from j6.tuner.prefix import PrefixCache

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    "wide": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
    "small": {"hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6},
    "500m": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
VOCABULARY = {"tiny": 4096, "wide": 32_000, "small": 8192, "500m": 128_256}
OBJECTIVES = resolve_objectives(["factuality", "confidence"])


class Workload:
    """A model, a soft prompt and a batch, and the ways to get a direction from them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(0)
        shape, vocabulary = SIZES[arguments.size], VOCABULARY[arguments.size]
        config = LlamaConfig(
            vocab_size=vocabulary, intermediate_size=4 * shape["hidden_size"], **shape
        )
        model = LlamaForCausalLM(config).to(arguments.device, getattr(torch, arguments.dtype))
        self.model = model.eval()
        prompt = SoftPromptConfig(n_tokens=8, position="start")
        self.soft_prompt = SoftPrompt.for_model(model, prompt).attach(model)
        self.runner = AnswerRunner(self.soft_prompt, model)
        self.leaves = self.soft_prompt.leaves()
        ids = torch.randint(3, vocabulary, (arguments.batch, arguments.length)).tolist()
        a = arguments.answer
        rows = [EncodedExample(tuple(row[:-a]), tuple(row[-a:]), 0) for row in ids]
        self.batch = collate(rows, arguments.device)
        self.tokens = arguments.batch * (arguments.length + 8)
        self.update = J6Update()

        self.kept = {"confidence": torch.randn_like(self.leaves.w).flatten().expand(2, -1)}

        # The same number of tokens, all but 8 and the answer's of them the same in every row.
        with self.soft_prompt.disabled():
            prefix = PrefixCache(model, torch.tensor(ids[0][: -a - 8], device=arguments.device))
        self.after_prefix = AnswerRunner(self.soft_prompt, model, prefix)
        rest = [EncodedExample(tuple(row[-a - 8 : -a]), tuple(row[-a:]), 0) for row in ids]
        self.rest = collate(rest, arguments.device)

    def flops_per_pass(self) -> int:
        """Of a forward pass or a frozen model's backward pass: 2 per weight and position it sees.

        The embedding multiplies nothing, the output layer sees the answer alone; attention scores
        are left out.
        """
        layers = sum(p.numel() for p in self.model.model.layers.parameters())
        return 2 * (
            layers * self.tokens + self.model.lm_head.weight.numel() * self.batch.labels.numel()
        )

    def plain(self) -> Any:
        """Backward of the summed loss: plain soft-prompt training."""
        loss = self.runner.losses(self.batch, OBJECTIVES).mean(1).sum()
        return torch.autograd.grad(loss, list(self.leaves))

    def usual(self) -> Any:
        """The same as it is usually written: logits of all positions, losses left to autograd."""
        batch, columns = self.batch, self.batch.labels.shape[1]
        ids, attended = batch.input_ids[:, :-1], batch.attention_mask[:, :-1]
        output = self.soft_prompt(ids, attended, insert_at=batch.insert_at, use_cache=False)
        log_p = output.logits[:, -columns:].float().log_softmax(-1)  # [B, A, V]
        surprisal = -log_p.gather(-1, batch.labels[..., None])[..., 0]
        entropy = -(log_p.exp() * log_p).sum(-1)
        return torch.autograd.grad((surprisal + entropy).mean(), list(self.leaves))

    def j6(self) -> Tensor:
        """One forward pass, one backward pass per objective, the update."""
        _, jacobian = self.runner.jacobian(self.batch, OBJECTIVES)
        return self.update(jacobian)

    def between(self) -> Tensor:
        """The J6 step between two refreshes: C's last gradient is used again."""
        _, jacobian = self.runner.jacobian(self.batch, OBJECTIVES, self.kept)
        return self.update(jacobian)

    def prefix(self) -> Tensor:
        """The J6 step with the soft prompt after a cached prefix."""
        _, jacobian = self.after_prefix.jacobian(self.rest, OBJECTIVES)
        return self.update(jacobian)

    def loop(self) -> Tensor:
        """One forward and one backward pass per objective."""
        rows = [
            leaf_gradients(self.runner.losses(self.batch, [objective]).mean(), self.leaves)
            for objective in OBJECTIVES
        ]
        return self.update(torch.stack(rows))

    def torchjd(self) -> Any:
        """The Jacobian and PCGrad of torchjd; UPGrad needs more to be installed."""
        from torchjd import aggregation, autojac

        losses = self.runner.losses(self.batch, OBJECTIVES).mean(1)
        autojac.backward(losses, inputs=list(self.leaves))
        autojac.jac_to_grad(list(self.leaves), aggregation.PCGrad())
        self.soft_prompt.zero_grad()
        return None

    def per_example(self) -> Tensor:
        """The Jacobian of every example."""
        copies = example_leaves(self.leaves, len(self.batch.labels))
        return example_jacobian(self.runner.losses(self.batch, OBJECTIVES, copies).unbind(), copies)


METHODS = ("plain", "usual", "j6", "between", "torchjd", "loop", "per_example", "prefix")
REFRESH = (2, 3, 4)
"""Values of ``refresh_every`` whose mean step is told from those with and without a refresh."""


def seconds(work: Callable[[], Any], device: str) -> float:
    """Time of one call."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(work: Callable[[], Any], device: str) -> float:
    """Most memory in MiB that tensors of one call take at a time; the model's own not counted.

    Not the process's peak: on a CPU that is mostly what malloc keeps of freed memory, which
    changes from run to run. With ``MALLOC_MMAP_THRESHOLD_=65536`` the two agree.
    """
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    taken = [e["args"]["Total Allocated"] for e in events if e["name"] == "[memory]"]
    return float(max(taken)) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64, help="tokens of prompt and answer")
    parser.add_argument("--answer", type=int, default=8, help="tokens of the answer")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak-tflops", type=float, help="of the device, for FLOP utilisation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    workload = Workload(arguments)
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    with frozen(workload.model):
        for turn in range(arguments.rounds + 2):
            for name in METHODS:
                taken = seconds(getattr(workload, name), arguments.device)
                if turn > 1:  # the first rounds warm up
                    times[name].append(taken)
        works = {name: getattr(workload, name) for name in METHODS}
        memory = {name: peak_memory(work, arguments.device) for name, work in works.items()}
    for n in REFRESH:
        rounds = zip(times["j6"], times["between"], strict=True)
        times[f"every {n}"] = [(new + (n - 1) * kept) / n for new, kept in rounds]
        memory[f"every {n}"] = max(memory["j6"], memory["between"])
    report(workload, times, memory, arguments)


def report(
    workload: Workload,
    times: dict[str, list[float]],
    memory: dict[str, float],
    arguments: argparse.Namespace,
) -> None:
    """Print the table."""
    parameters = workload.model.num_parameters(only_trainable=False)
    print(f"{arguments.size}: {parameters / 1e6:.1f} M parameters, {workload.tokens} tokens a step")
    print(f"load averages of the machine: {', '.join(f'{x:.1f}' for x in os.getloadavg())}")
    plain, usual = (statistics.median(times[name]) for name in ("plain", "usual"))
    print(
        f"{'':12}{'ms':>9}{'× plain':>9}{'× usual':>9}{'tokens/s':>10}"
        f"{'MiB':>8}{'× plain':>9}{'× usual':>9}{'MFU':>7}"
    )
    passes = {"plain": 2, "j6": 3, "between": 2, "torchjd": 3, "loop": 4, "per_example": 3}
    for name, values in times.items():
        taken = statistics.median(values)
        row = f"{name:12}{1000 * taken:9.1f}{taken / plain:9.2f}{taken / usual:9.2f}"
        row += f"{workload.tokens / taken:10.0f}{memory[name]:8.0f}"
        row += f"{memory[name] / memory['plain']:9.2f}{memory[name] / memory['usual']:9.2f}"
        if arguments.peak_tflops and name in passes:
            flops = passes[name] * workload.flops_per_pass()
            row += f"{flops / taken / arguments.peak_tflops / 1e12:7.1%}"
        print(row)


if __name__ == "__main__":
    main()
