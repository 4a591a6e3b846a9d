"""A private PostgreSQL server for tests and benchmarks, on a free port of this machine.

Run as a program it starts one, prints its URL, and stops it when its input ends.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class NoServer(Exception):
    """PostgreSQL's server cannot be started here."""


class Cluster:
    """A server with its data in a temporary folder and one user, ``gpo``.

    Args:
        durable: Whether a commit waits for the disk, as on a real server.

    Raises:
        NoServer: The server's programs are not there, or do not start.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = _programs()
        self._account = _account()
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="gpo-postgresql-"))
        if self._account:
            os.chown(self._folder, self._account["user"], self._account["group"])
        secret = self._folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._data, self._log = self._folder / "data", self._folder / "log"
        self._settings = (
            f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' "
            f"-c fsync={'on' if durable else 'off'}"
        )
        try:
            options = ["-U", "gpo", "-A", "scram-sha-256", "--pwfile", str(secret), "--no-sync"]
            self._run("initdb", "-D", self._data, "-E", "UTF8", "--locale=C", *options)
            self._run(
                "pg_ctl", "start", "-w", "-D", self._data, "-l", self._log, "-o", self._settings
            )
        except BaseException:
            self.remove()
            raise

    def url(self, **query: str) -> str:
        """Return the URL of the database, with options in its query."""
        tail = "&".join(f"{name}={value}" for name, value in query.items())
        return f"postgresql://gpo:{self.password}@127.0.0.1:{self.port}/postgres?{tail}".rstrip("?")

    def restart(self) -> None:
        """Stop as a crash would, without a word to the clients, and start again."""
        self._run("pg_ctl", "restart", "-w", "-m", "immediate", "-D", self._data, "-l", self._log)

    def stop(self) -> None:
        """Stop as a crash would."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def start(self) -> None:
        """Start again after :meth:`stop`."""
        options = ["-l", self._log, "-o", self._settings]
        self._run("pg_ctl", "start", "-w", "-D", self._data, *options)

    def remove(self) -> None:
        """Stop the server, if it runs, and delete all of it."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: object) -> None:
        # Into a file, not a pipe: the server inherits it, and a pipe would never end.
        with (self._folder / "said").open("w+") as said:
            done = subprocess.run(
                [self._programs / program, *map(str, arguments)],
                stdout=said,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                **self._account,
            )
            if done.returncode:
                said.seek(0)
                raise NoServer(f"{program} failed: {said.read().strip()}")


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs, of the newest version."""
    on_path = shutil.which("initdb")
    folder = Path(on_path).resolve().parent if on_path else None
    if folder and (folder / "pg_ctl").exists():
        return folder
    found = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise NoServer("no initdb in PATH or /usr/lib/postgresql/*/bin; install postgresql")
    return max(found, key=lambda program: int(program.parts[-3])).parent


def _account() -> dict[str, Any]:
    """Return as whom the server runs; it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise NoServer("PostgreSQL does not run as root, and there is no user to run it as")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    cluster = Cluster(durable=True)
    try:
        print(cluster.url(), flush=True)  # noqa: T201
        sys.stdin.read()
    finally:
        cluster.remove()
