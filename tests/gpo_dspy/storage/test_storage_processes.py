"""Several processes at one storage: no key is evaluated twice, nobody waits for the dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import full_batch

from gpo_dspy.storage.storage import Storage

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its processes")


def run(*arguments: object) -> str:
    """Run a program beside this one; apart, since a process with threads must not fork."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=HERE,
    )
    return done.stdout


def test_eight_writers_evaluate_each_key_once(url: str) -> None:
    report = json.loads(run("writers.py", url, "--keys", 120, "--seconds", 100))
    assert report["errors"] == []
    assert report["evaluated"] == 120
    assert report["twice"] == report["wasted"] == report["lost"] == report["held"] == 0


def test_the_claims_of_writers_that_are_killed_are_void_at_once(url: str) -> None:
    """Were they not, the others would wait until the time is up."""
    kills = ("--keys", 120, "--kill-every", 15, "--seconds", 100)
    report = json.loads(run("writers.py", url, *kills))
    assert report["errors"] == []
    assert report["evaluated"] == 120
    assert report["twice"] == report["lost"] == report["held"] == 0
    assert report["killed"] >= 3


FORK = """
import os, sys
from samples import full_batch, new_run
from gpo_dspy.storage import new_owner, open_storage
from gpo_dspy.storage.storage import Storage

storage, owner = Storage(sys.argv[1]), new_owner()
run = storage.create_run(new_run(), owner)
storage.save(run, owner, full_batch(0))
child = os.fork()
if not child:
    with open_storage(sys.argv[1], read_only=True) as other:
        assert len(other.runs()) == 1
    storage.save(run, owner, full_batch(1))
    storage.close()
    os._exit(0)
storage.save(run, owner, full_batch(2))
assert os.waitpid(child, 0)[1] == 0
storage.save(run, owner, full_batch(3))
print(run)
"""


FORK_AND_CLOSE = """
import os, sys
from samples import full_batch, new_run
from gpo_dspy.storage import new_owner
from gpo_dspy.storage.storage import Storage

storage, owner = Storage(sys.argv[1]), new_owner()
run = storage.create_run(new_run(), owner)

def fork_and_close(connection):
    child = os.fork()
    if not child:
        storage.close()  # the lock is held here, by a thread that the child does not have
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

storage._database.write(fork_and_close)
storage.save(run, owner, full_batch(0))
print(run)
"""


def test_a_forked_process_may_close_what_it_inherits(url: str) -> None:
    number = int(run("-c", FORK_AND_CLOSE, url))
    with Storage(url) as storage:
        assert len(storage.journal(number).evaluations) == 1


def test_a_forked_process_has_a_connection_of_its_own(url: str) -> None:
    number = int(run("-c", FORK, url))
    with Storage(url) as storage:
        stored = {e.key for i in range(4) for e, _ in full_batch(i).evaluations}
        assert storage.journal(number).evaluations.keys() == stored


def test_import_gpo_dspy_does_not_import_sqlalchemy() -> None:
    look = "import sys, gpo_dspy, gpo_dspy.storage.rows; print('sqlalchemy' in sys.modules)"
    assert run("-c", look).strip() == "False"
