"""The command line: ``gpo-dspy runs`` and ``gpo-dspy memory``, over a storage of runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gpo_dspy.secrets import without_password
from gpo_dspy.version import installed_version

VARIABLE = "GPO_DSPY_STORAGE"
"""Environment variable that stands in for ``--storage``."""

DEFAULT_FILE = "runs.db"
"""Used if it is there and nothing else is given."""


class UsageError(Exception):
    """What was asked for cannot be done; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        0, or 2 where the input is wrong and standard error says why.
    """
    arguments = build_parser().parse_args(argv)
    from gpo_dspy import commands  # after parsing, so that --help does not wait for it
    from gpo_dspy.errors import GPOError

    command = {
        ("runs", None): commands.list_runs,
        ("runs", "show"): commands.show_run,
        ("runs", "export"): commands.export_run,
        ("runs", "delete"): commands.delete_run,
        ("memory", "search"): commands.search_memory,
    }[arguments.command, arguments.action]
    if isinstance(sys.stdout, io.TextIOWrapper):  # half a surrogate pair must not end an export
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command(arguments, storage_url(arguments.storage))
        sys.stdout.flush()
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (GPOError, UsageError, OSError, ValueError) as error:
        sys.stderr.write(f"gpo-dspy {arguments.command}: {error}\n")
        return 2
    return 0


def storage_url(given: str | None) -> str:
    """Return the storage to open: the one given, the environment's, or the file ``runs.db``.

    Raises:
        UsageError: There is none of them.
    """
    url = given or os.environ.get(VARIABLE)
    if url:
        if "://" not in url:
            raise UsageError(
                f"--storage {without_password(url)!r} is not a URL; for a file write "
                f"sqlite:///{Path(url).name}."
            )
        return url
    if Path(DEFAULT_FILE).is_file():
        return f"sqlite:///{DEFAULT_FILE}"
    raise UsageError(
        f"no storage: give --storage sqlite:///runs.db, or set {VARIABLE} "
        f"(there is no {DEFAULT_FILE} here)."
    )


def run_id(text: str) -> int:
    """Return the id of a run.

    Raises:
        ArgumentTypeError: It cannot be one.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is no id; 'gpo-dspy runs' lists them")
    return int(text)


def search_text(text: str) -> str:
    """Return what to search for.

    Raises:
        ArgumentTypeError: It says nothing.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is empty; give a few words, as 'sort words'")
    return text


def build_parser() -> argparse.ArgumentParser:
    """All arguments of all subcommands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--storage",
        metavar="URL",
        default=argparse.SUPPRESS,
        help=f"such as sqlite:///runs.db (${VARIABLE}, or {DEFAULT_FILE} if it is here)",
    )
    parser = argparse.ArgumentParser(
        prog="gpo-dspy", description="Look at the runs in a storage, and search their prompts."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {installed_version()}")
    parser.set_defaults(storage=None, action=None)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("runs", parents=[common], help="list runs; show, export, delete one")
    actions = runs.add_subparsers(dest="action")
    show = actions.add_parser("show", parents=[common], help="steps, prompts and result of a run")
    export = actions.add_parser(
        "export", parents=[common], help="write all that is stored of a run"
    )
    export.add_argument("--format", choices=("json", "csv"), default="json", help="(%(default)s)")
    export.add_argument("--out", metavar="FILE", type=Path, help="(standard output)")
    delete = actions.add_parser("delete", parents=[common], help="delete a run")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    for action in (show, export, delete):
        action.add_argument("id", type=run_id, metavar="ID", help="as 'gpo-dspy runs' lists it")
    memory = commands.add_parser("memory", help="search the prompts of all runs")
    search = memory.add_subparsers(dest="action", required=True).add_parser(
        "search", parents=[common], help="find prompts by meaning"
    )
    search.add_argument("text", type=search_text, help="what to look for, such as 'sort words'")
    search.add_argument("-k", type=int, default=5, help="prompts to show (%(default)s)")
    search.add_argument("--kind", help="only predictors of this kind, such as ChainOfThought")
    search.add_argument("--model", help="only prompts for this model")
    search.add_argument("--embedder", default="auto", help="that of the runs (%(default)s)")
    return parser


if __name__ == "__main__":
    from gpo_dspy.cli import main as the_same  # so that there is one UsageError, not two

    sys.exit(the_same())
