"""GPO improves a prompt in front of your eyes: offline, without a key, in under 90 seconds.

Both language models are simulated (``gpo_dspy.sandbox``): the solver fails in mechanical ways that
good instructions prevent, and the rewriter reads the same meta-prompt a real model would. What you
see here shows how GPO works, not what it gains with your model.

    python examples/sandbox_demo.py --task object_counting --calls 600 --seed 1
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

# LiteLLM's price list from the package instead of the network; this process only.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy
from rich.console import Console

from gpo_dspy import GPO, sandbox
from gpo_dspy.report import show_result


def main() -> None:
    """Optimise the sandbox task named on the command line and show the outcome."""
    options = arguments()
    # The embedder imports bitsandbytes where it is installed, which warns of an optional kernel.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    console = Console()
    console.rule("GPO on a [bold]simulated[/bold] pair of language models")

    sandbox.register()
    dspy.configure(lm=dspy.LM("sandbox/solver", engine="litellm", cache=False))
    examples = sandbox.make_dataset(options.task, n=250, seed=options.seed)
    trainset, valset, testset = examples[:50], examples[50:100], examples[100:]

    optimizer = GPO(
        metric=sandbox.exact_match,
        prompt_model=dspy.LM("sandbox/rewriter", engine="litellm", cache=False),
        max_metric_calls=options.calls + 2 * len(testset),
        seed=options.seed,
    )
    program = sandbox.program_for(options.task)
    compiled = optimizer.compile(program, trainset=trainset, valset=valset, testset=testset)

    show_result(compiled.detailed_results, console)
    folder = Path("runs") / f"{options.task}-seed{options.seed}"
    result_file = compiled.detailed_results.save(folder / "result.json")
    compiled.save(folder / "program.json")
    console.print(f"The run is stored in {result_file} and {folder / 'program.json'}.")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=sandbox.TASK_NAMES, default="word_sorting")
    parser.add_argument("--calls", type=int, default=600, help="metric calls of the search")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
