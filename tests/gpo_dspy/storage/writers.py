"""Several processes that evaluate the same keys in one storage, some of them killed.

Run as a program it prints a report as JSON::

    python writers.py sqlite:///gpo.db --writers 8 --keys 1000 --kill-every 100
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from samples import evaluation, lm_call, new_run

from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import Batch
from gpo_dspy.storage.storage import Storage

WINDOW = 64  # keys that the writers compete for at a time
BLOCK = 4  # keys acquired at a time
NOTE = len("evaluated 00000000\nsaved 00000000\n")  # bytes that a writer notes of each key


@dataclass(frozen=True)
class Report:
    """What the writers did.

    Attributes:
        evaluated: Keys that were evaluated.
        wasted: Evaluations of processes that were killed before they stored them.
        twice: Keys that were evaluated again although the first evaluation was stored, or by two
            processes of which neither was killed.
        lost: Keys that a process evaluated and saved, and that are not stored.
        held: Keys that are still claimed after all processes have ended.
        killed: Processes that were killed.
        errors: What the other processes raised.
        slowest: Milliseconds of the slowest call.
    """

    evaluated: int
    wasted: int
    twice: int
    lost: int
    held: int
    killed: int
    errors: list[str]
    slowest: float


def write(url: str, folder: Path, keys: range, end: float, seed: int) -> None:
    """Evaluate keys until all are, or the time is up, and note each in a file of this process."""
    generator = random.Random(seed)
    note = os.open(folder / f"{os.getpid()}.keys", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    slowest, done, first = 0.0, set[int](), keys.start
    with Storage(url, lease=1e9) as storage:  # only the end of its process makes an owner dead
        owner = new_owner()
        run = storage.create_run(new_run(), owner)
        while time.monotonic() < end:
            while first in done:
                done.remove(first)
                first += 1
            left = [key for key in range(first, min(first + WINDOW, keys.stop)) if key not in done]
            if not left:
                break
            block = generator.sample(left, min(BLOCK, len(left)))
            wanted = {f"{key:08}": key for key in block}
            started = time.monotonic()
            result = storage.acquire(owner, list(wanted))
            slowest = max(slowest, time.monotonic() - started)
            done.update(wanted[key] for key in result.found)
            if not result.granted:
                time.sleep(0.01)
            for key in result.granted:
                os.write(note, f"evaluated {key}\n".encode())
                time.sleep(generator.random() / 1000)
                stored = evaluation(wanted[key], key=key, detail="x" * 500)
                call = lm_call(at=time.time())
                started = time.monotonic()
                storage.save(run, owner, Batch(evaluations=((stored, True),), lm_calls=(call,)))
                slowest = max(slowest, time.monotonic() - started)
                os.write(note, f"saved {key}\n".encode())
                done.add(wanted[key])
    os.write(note, f"slowest {slowest}\n".encode())


def compete(url: str, writers: int, keys: range, seconds: float, kill_every: int | None) -> Report:
    """Run writers at the same time, kill one now and then, and look at what is stored.

    Args:
        url: The storage.
        writers: How many there are at a time.
        keys: What there is to evaluate.
        seconds: When to end even if some are left.
        kill_every: After how many evaluations the next writer is killed; None for never.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, end, seeds = Path(name), time.monotonic() + seconds, iter(range(1_000_000))
        alive = {_forked(url, folder, keys, end, next(seeds)) for _ in range(writers)}
        killed, generator = set[int](), random.Random(0)
        while alive:
            time.sleep(0.01)
            alive = {process for process in alive if os.waitpid(process, os.WNOHANG)[0] == 0}
            evaluated = sum(file.stat().st_size for file in folder.glob("*.keys")) // NOTE
            if alive and kill_every and evaluated >= kill_every * (len(killed) + 1):
                victim = generator.choice(sorted(alive))
                os.kill(victim, signal.SIGKILL)
                os.waitpid(victim, 0)
                killed.add(victim)
                alive.remove(victim)
                alive.add(_forked(url, folder, keys, end, next(seeds)))
        return _report(url, folder, killed)


def _forked(url: str, folder: Path, keys: range, end: float, seed: int) -> int:
    """Return the pid of a new writer; forked, since to import everything takes a second."""
    process = os.fork()
    if process:
        return process
    try:
        write(url, folder, keys, end, seed)
    except BaseException:  # noqa: BLE001 - reported by the parent
        (folder / f"{os.getpid()}.error").write_text(traceback.format_exc())
    finally:
        os._exit(0)


def _report(url: str, folder: Path, killed: set[int]) -> Report:
    evaluated: dict[str, list[int]] = {}  # by key: the pids
    saved, slowest = set[str](), 0.0
    for file in folder.glob("*.keys"):
        for line in file.read_text().splitlines():
            what, value = line.split()
            if what == "evaluated":
                evaluated.setdefault(value, []).append(int(file.stem))
            elif what == "saved":
                saved.add(value)
            elif what == "slowest":
                slowest = max(slowest, float(value))
    with Storage(url, lease=1e9) as storage:
        paid = Counter(
            key
            for row in storage.runs()
            for key, (_, its_own) in storage.journal(row.id).evaluations.items()
            if its_own
        )
        owner = new_owner()
        storage.create_run(new_run(), owner)
        held = storage.acquire(owner, list(evaluated)).held
    survivors = {key: [p for p in pids if p not in killed] for key, pids in evaluated.items()}
    return Report(
        evaluated=len(evaluated),
        wasted=sum(len(pids) - 1 for pids in evaluated.values()),
        twice=sum(paid[key] > 1 or len(survivors[key]) > 1 for key in evaluated),
        lost=sum(key not in paid for key in saved),
        held=len(held),
        killed=len(killed),
        errors=[file.read_text() for file in folder.glob("*.error")],
        slowest=1000 * slowest,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--keys", type=int, default=10**7)
    parser.add_argument("--first-key", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=int, help="evaluations between two kills")
    given = parser.parse_args()
    keys = range(given.first_key, given.first_key + given.keys)
    report = compete(given.url, given.writers, keys, given.seconds, given.kill_every)
    json.dump(asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
