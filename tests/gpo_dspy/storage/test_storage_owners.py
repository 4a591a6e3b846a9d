"""Processes are told apart, and known to be gone, by the machine's own means."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from gpo_dspy.storage import new_owner, owners
from gpo_dspy.storage.owners import is_gone
from gpo_dspy.storage.rows import Owner

WAIT = "import sys; from gpo_dspy.storage import new_owner; o = new_owner(); "
WAIT += "print(o.id, o.host, o.pid, o.began, sep='|', flush=True); sys.stdin.read()"

linux = pytest.mark.skipif(sys.platform != "linux", reason="pids are told apart on Linux")


def other_process() -> tuple[subprocess.Popen[str], Owner]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    name, host, pid, began = process.stdout.readline().strip().split("|")
    return process, Owner(name, host, int(pid), float(began))


def test_each_call_has_its_own_owner() -> None:
    first, second = new_owner(), new_owner()
    assert first.id != second.id
    assert replace(first, id=second.id) == second
    assert first.pid == os.getpid()
    assert not is_gone(first)


@linux
def test_a_killed_process_is_gone_even_before_its_parent_knows() -> None:
    process, owner = other_process()
    assert owner.host == new_owner().host
    assert not is_gone(owner)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert is_gone(owner)
    process.communicate()
    assert is_gone(owner)


@linux
def test_a_pid_used_again_is_another_process() -> None:
    assert is_gone(replace(new_owner(), began=new_owner().began - 1))


def test_processes_of_another_host_are_not_asked_after() -> None:
    assert not is_gone(replace(new_owner(), host="elsewhere", pid=2**22 + 1))


def test_another_users_process_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    monkeypatch.setattr(owners, "_began", lambda pid: None)
    assert not is_gone(new_owner())


def test_windows_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly(pid: int, signal: int) -> None:
        raise AssertionError("this would end the process")

    owner = replace(new_owner(), pid=2**22 + 1)
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "kill", deadly)
    assert not is_gone(owner)
