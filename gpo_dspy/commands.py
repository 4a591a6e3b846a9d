"""What the subcommands of ``gpo-dspy`` do."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gpo_dspy.cli import UsageError
from gpo_dspy.plan import counted
from gpo_dspy.report import show_result
from gpo_dspy.storage import Storage, open_storage
from gpo_dspy.storage.codec import result_from, step_from
from gpo_dspy.storage.rows import RunRow, RunStatus

WIDTH = 120
"""Characters of a line where the output is no terminal."""


def list_runs(arguments: argparse.Namespace, url: str) -> None:  # noqa: ARG001
    """Print a line for each run, the newest last."""
    with open_storage(url, read_only=True) as storage:
        rows = storage.runs()
    table = _table("ID", "study", "program", "status", "begun", "steps", "calls", "best", "time")
    for row in rows:
        _add(
            table, str(row.id), row.study or "", row.program, row.status.value, _when(row.created),
            str(row.steps), f"{row.metric_calls:,}", _percent(row.best_score), _span(row.seconds),
        )  # fmt: skip
    _console().print(table if rows else "The storage has no runs.")


def show_run(arguments: argparse.Namespace, url: str) -> None:
    """Print what is known of a run: settings, steps, prompts and the result."""
    console = _console()
    with open_storage(url, read_only=True) as storage:
        row = _run(storage, arguments.id)
        records = [step_from(text) for text in storage.steps(row.id)]
        prompts = storage.prompts(row.id)
    about = _table("", "")
    about.show_header = False
    for name, value in _about(row):
        _add(about, name, value)
    console.print(about)
    steps = _table("step", "words", "candidates", "tried", "accepted", "best score", "calls")
    for record in records:
        tried = sum(candidate.score is not None for candidate in record.candidates)
        _add(
            steps, str(record.step), str(record.words_allowed), str(len(record.candidates)),
            str(tried), "" if record.accepted is None else "yes", _percent(record.score),
            f"{record.metric_calls:,}",
        )  # fmt: skip
    console.print(steps)
    if row.result is not None:
        show_result(result_from(row.result), console)
        return
    for predictor in row.predictors:
        known = [prompt for prompt in prompts if prompt.predictor == predictor.name]
        if known:
            best = max(known, key=lambda prompt: (prompt.score, prompt.evaluations))
            title = f"best prompt of {predictor.name} so far, {_percent(best.score)}"
            console.print(Panel(Text(best.text), title=Text(title), title_align="left"))


def export_run(arguments: argparse.Namespace, url: str) -> None:
    """Write all that is stored of a run as JSON, or its evaluations as CSV."""
    with open_storage(url, read_only=True) as storage:
        row = _run(storage, arguments.id)
        write = _write_csv if arguments.format == "csv" else _write_json
        with _output(arguments.out) as file:
            write(storage, row, file)


def delete_run(arguments: argparse.Namespace, url: str) -> None:
    """Delete a run, once the user has said yes.

    Raises:
        UsageError: Nobody can be asked, and there is no ``--yes``.
    """
    with open_storage(url, read_only=True) as storage:
        row = _run(storage, arguments.id)
    what = f"run {row.id} ({row.study or row.program}, {row.metric_calls:,} metric calls)"
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"say --yes to delete {what}: there is no terminal to ask on.")
        if input(f"Delete {what}? [y/N] ").strip().lower() not in ("y", "yes"):
            _say("Nothing was deleted.")
            return
    with open_storage(url) as storage:
        storage.delete_run(row.id)
    _say(f"Deleted {what}.")


def search_memory(arguments: argparse.Namespace, url: str) -> None:
    """Print the stored prompts nearest in meaning to a text."""
    from gpo_dspy.embedding import resolve_embedder
    from gpo_dspy.memory import Memory

    embedder = resolve_embedder(arguments.embedder)
    with open_storage(url, read_only=True) as storage:
        memory = Memory(storage, embedder)
        found = memory.search(
            arguments.text, arguments.k, kind=arguments.kind, model=arguments.model
        )
    console = _console()
    if not found:
        _say(
            f"Nothing found. The storage's runs may have another embedder than {embedder.name}; "
            "say which with --embedder."
        )
    for prompt, similarity in found:
        title = (
            f"similarity {similarity:.2f}, score about {_percent(prompt.score)}, estimated from "
            f"{counted(prompt.evaluations, 'example')}, run {prompt.run} "
            f"({prompt.study or prompt.program}, {prompt.predictor}: {prompt.kind}, {prompt.model})"
        )
        console.print(Panel(Text(prompt.text), title=Text(title), title_align="left"))


# --- helpers --------------------------------------------------------------------------------------


def _run(storage: Storage, number: int) -> RunRow:
    row = storage.run(number)
    if row is None:
        known = ", ".join(str(other.id) for other in storage.runs()[-10:]) or "none"
        raise UsageError(f"the storage {storage.url} has no run {number}; the latest are: {known}.")
    return row


def _about(row: RunRow) -> Iterator[tuple[str, str]]:
    yield "run", f"{row.id} {row.study or ''}".strip()
    yield "program", row.program
    for predictor in row.predictors:
        yield f"  {predictor.name}", f"{predictor.kind} on {predictor.model}"
    yield "prompt model", row.prompt_model
    yield "status", row.status.value
    if row.status is not RunStatus.FINISHED:
        failed = row.status is RunStatus.FAILED
        yield "", "the same compile call " + ("begins anew" if failed else "carries on")
    yield "begun", _when(row.created)
    yield "time", _span(row.seconds)
    yield "metric calls", f"{row.metric_calls:,} of {row.plan.get('max_metric_calls', 0):,}"
    yield "settings", ", ".join(f"{name}={value}" for name, value in row.settings.items())


def _write_json(storage: Storage, row: RunRow, file: IO[str]) -> None:
    about = asdict(replace(row, result=None)) | {"status": row.status.value}
    content: dict[str, Any] = {
        "run": about,
        "result": _json(row.result) if row.result else None,
        "steps": [_json(text) for text in storage.steps(row.id)],
        "prompts": [asdict(prompt) for prompt in storage.prompts(row.id)],
        "evaluations": [
            {
                **asdict(evaluation.stored),
                "detail": _json(evaluation.stored.detail),
                "paid": evaluation.paid,
                "program_state": _json(evaluation.state or "null"),
                "example_content": _json(evaluation.example or "null"),
            }
            for evaluation in storage.evaluations(row.id)
        ],
        "lm_calls": [asdict(call) for call in storage.lm_calls(row.id)],
    }
    json.dump(content, file, indent=2, ensure_ascii=False)
    file.write("\n")


def _json(text: str) -> Any:
    """Read stored JSON; NaN and infinity, which JSON has not, become their names."""
    return json.loads(text, parse_constant=str)


def _write_csv(storage: Storage, row: RunRow, file: IO[str]) -> None:
    writer = csv.writer(file)
    writer.writerow(
        ["program_state", "example", "score", "outcome", "feedback", "paid", "lm_calls",
         "input_tokens", "output_tokens", "cost"]
    )  # fmt: skip
    for evaluation in storage.evaluations(row.id):
        stored, usage = evaluation.stored, evaluation.stored.usage
        writer.writerow(
            [evaluation.state, evaluation.example, stored.score, stored.outcome, stored.feedback,
             evaluation.paid, usage.lm_calls, usage.input_tokens, usage.output_tokens, usage.cost]
        )  # fmt: skip


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    """Give a file to write, or standard output; the file is whole or as it was."""
    if path is None:
        yield sys.stdout
        return
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}.")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = io.StringIO(newline="")
    yield text
    beside.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))
    beside.replace(path)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def _say(text: str) -> None:
    _console().print(Text(text))


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain text: a name may look like markup."""
    table.add_row(*map(Text, cells))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _percent(score: float | None) -> str:
    return "" if score is None else f"{100 * score:.1f} %"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
