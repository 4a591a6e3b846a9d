"""The command line: ``j6 tune``, ``j6 eval``, ``j6 explain``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from j6.soft_prompt.config import Position

EXAMPLES = "JSON lines, each with prompt and answer, or with messages"
HELD_OUT = (
    "examples held out, in the same form: the prompt that is best on them is kept, and the run "
    "stops when it gets no better on them; without them, all steps are taken and the last prompt "
    "is kept"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        0; 1 where a run was broken off, 2 where the input is wrong, and standard error says why.
    """
    arguments = build_parser().parse_args(argv)
    from j6 import commands  # after parsing, so that --help does not wait for it

    command = {"tune": commands.tune, "eval": commands.evaluate, "explain": commands.explain}
    try:
        text = command[arguments.command](arguments)
    except (ImportError, OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"j6 {arguments.command}: {error}\n")
        return 2
    except commands.RunFailedError as error:
        sys.stderr.write(f"j6 {arguments.command}: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All arguments of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="j6", description="Tune a soft prompt of a local model for factuality and confidence."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_tune(commands.add_parser("tune", help="tune a soft prompt"))
    _add_eval(commands.add_parser("eval", help="measure a model with and without a soft prompt"))
    explain = commands.add_parser("explain", help="which part of a prompt serves which objective")
    explain.add_argument("folder", help="folder that 'j6 tune --out' wrote")
    explain.add_argument("--html", metavar="FILE", help="also write the report as a page")
    return parser


def _add_tune(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--train", required=True, metavar="FILE", help=EXAMPLES)
    parser.add_argument("--val", metavar="FILE", help=HELD_OUT)
    parser.add_argument("--out", required=True, metavar="DIR", help="where the prompt goes")
    parser.add_argument("--steps", type=int, default=200, help="most steps (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="examples at once (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.3, help="at first (%(default)s)")
    parser.add_argument("--tokens", type=int, help="virtual tokens (8, or those of --text)")
    parser.add_argument("--layers", type=int, nargs="*", help="layers with an h (the middle one)")
    parser.add_argument(
        "--position",
        choices=get_args(Position),
        default="after_bos",
        help="where the virtual tokens stand (%(default)s)",
    )
    parser.add_argument("--text", help="text that the prompt starts from")
    parser.add_argument(
        "--policy",
        choices=("soft", "hard"),
        default="soft",
        help="weigh all components by their scores, or take the highest alone (%(default)s)",
    )
    parser.add_argument(
        "--components",
        choices=("gram", "paper"),
        default="gram",
        help="compare the objectives within each of h and w, or across them (%(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.3,
        help="of --policy soft: the lower, the more the highest score counts (%(default)s)",
    )
    parser.add_argument(
        "--preference",
        type=float,
        default=0.0,
        help="how much higher factuality's scores count than confidence's (0)",
    )
    parser.add_argument(
        "--refresh-every",
        type=int,
        default=1,
        metavar="N",
        help="compute the gradient of confidence at every N-th step only (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the examples' order and the prompt's start (0)"
    )
    parser.add_argument(
        "--restart", action="store_true", help="start over where DIR holds a checkpoint"
    )


def _add_eval(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--prompt", required=True, metavar="DIR", help="a saved soft prompt")
    parser.add_argument("--data", required=True, metavar="FILE", help=EXAMPLES)
    parser.add_argument("--batch-size", type=int, default=16, help="examples at once (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="folder of a Hugging Face causal LM")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="type of the model's parameters; auto, the default: as saved",
    )
    parser.add_argument("--bits", type=int, choices=(8, 4), help="quantise with bitsandbytes")
    device = "for example cuda:0 (a GPU where there is one), or auto: over all, with accelerate"
    parser.add_argument("--device", help=device)
