"""Kills a process that writes batches, at many moments, and looks at what is there each time.

Run as a program: ``python killing.py sqlite:///gpo.db 20``. Says how many batches survived.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from itertools import count

from samples import full_batch, new_run

from gpo_dspy.storage import new_owner
from gpo_dspy.storage.rows import RunStatus
from gpo_dspy.storage.storage import Storage


def write_for_ever(url: str, run: int, told: int) -> None:
    """Carry on a run: write batches one after the other, and a byte to a pipe after each."""
    storage, owner = Storage(url), new_owner()
    storage.take_run(run, owner)
    for number in count(len(storage.steps(run))):
        storage.save(run, owner, full_batch(number))
        os.write(told, b".")


def check(url: str, run: int) -> int:
    """Return how many batches are stored; all of each, and none missing in between."""
    with Storage(url) as storage:
        journal = storage.journal(run)
        batches = [full_batch(number) for number in range(len(storage.steps(run)))]
        assert journal.evaluations == {
            e.key: (e, paid) for b in batches for e, paid in b.evaluations
        }
        assert journal.answers == {(a.request, 0): a for b in batches for a in b.answers}
        assert journal.readings == {name: value for b in batches for name, value in b.readings}
        assert storage.steps(run) == [text for b in batches for _, text in b.steps]
        assert storage.prompts(run) == [prompt for b in batches for prompt in b.prompts]
        assert len(storage.lm_calls(run)) == 2 * len(batches)
        assert len(storage.memory_ids(embedder="ngrams")) == len(batches)
        row = storage.run(run)
        assert row is not None
        assert row.status is RunStatus.STOPPED
        assert row.seconds == max(0, len(batches) - 1)
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()
    return len(batches)


def main(url: str, times: int) -> None:
    generator = random.Random(0)
    with Storage(url) as storage:
        owner = new_owner()
        run = storage.create_run(new_run(), owner)
        storage.leave_run(run, owner, RunStatus.STOPPED, None)
    stored = 0
    for _ in range(times):
        hears, told = os.pipe()
        child = os.fork()  # forked, since to import everything takes a second
        if not child:
            try:
                write_for_ever(url, run, told)
            finally:
                os._exit(1)
        os.close(told)
        batches = generator.randint(1, 15)
        heard = 0
        while heard < batches and (bytes_ := os.read(hears, batches - heard)):
            heard += len(bytes_)
        time.sleep(generator.uniform(0.0, 0.003))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(hears)
        assert os.WIFSIGNALED(status), "the writer ended on its own"
        before, stored = stored, check(url, run)
        assert stored >= before + batches, "a batch that was written is gone"
    print(stored)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
