"""A PostgreSQL of our own: Debian's, in a folder of its own, on a unix socket and loopback.

As root it runs as the user ``postgres``, since it refuses to be root.
"""

from __future__ import annotations

import fcntl
import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from boltseal.broker.store.database import Database
from support.peers import missing, require

_PLACES = "/usr/lib/postgresql/*/bin"
_PREFIX = "boltseal-pg-"
_STARTS_WITHIN = 60.0  # seconds, on a machine that is busy with other tests


class Postgres:
    """One server. ``port`` also listens on loopback; a unix socket is there always.

    ``durable`` waits for the disk as a real one does; without it only a crash of the machine loses
    anything, and tests are quicker.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._bin = _programs()
        self._as = _other_user()
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _try_lock(self.folder / "lock")
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.data = self.folder / "data"
        self.port = _free_port()
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",  # a killed one leaves nothing outside
            "fsync": "on" if durable else "off",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._template: str | None = None
        try:
            self._run("initdb", "-D", str(self.data), "--no-sync", "-U", "boltseal", "-E", "UTF8",
                      "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US",
                      "-A", "trust")  # fmt: skip
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = (self.folder / "log").open("ab")
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with log:
            self._process = subprocess.Popen(
                [*self._as, str(self._bin / "postgres"), "-D", str(self.data), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C at the tests is not its business
            )
        until = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self.folder / "log").read_text()[-2000:]
                pytest.fail(f"PostgreSQL did not start:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End all connections, and the server in good order."""
        self._end(signal.SIGINT)  # "fast"

    def kill(self) -> None:
        """SIGKILL for the server and every process that serves a connection."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def restart(self, *, crash: bool = False) -> None:
        """Down and up again, in good order or not."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: connections stay open and nothing answers, until :meth:`resume`."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._signal_all(signal.SIGCONT)

    def database(self, *, loopback: bool = False, migrated: bool = False) -> str:
        """The address of a new database, which is empty or has the broker's tables."""
        name = f"broker{next(self._numbers)}"
        template = self._migrated() if migrated else "template1"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        if loopback:
            return f"postgresql://boltseal@127.0.0.1:{self.port}/{name}"
        return f"postgresql://boltseal@/{name}?host={self.folder}&port={self.port}"

    def _migrated(self) -> str:
        """The name of a database that was migrated once: copying it is quicker than Alembic."""
        if self._template is None:
            url = self.database()
            with Database.open(url) as opened:
                opened.migrate()
                self._template = str(opened.url.database)
        return self._template

    def sql(self, database: str, statement: str) -> str:
        """What ``psql`` prints, without a frame."""
        return self._run("psql", "-h", str(self.folder), "-p", str(self.port), "-U", "boltseal",
                         "-d", database, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                         "-c", statement).strip()  # fmt: skip

    def close(self) -> None:
        """Stop it, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _answers(self) -> bool:
        command = ["pg_isready", "-q", "-h", str(self.folder), "-p", str(self.port)]
        done = subprocess.run([str(self._bin / command[0]), *command[1:]], check=False, cwd="/")
        return done.returncode == 0

    def _signal_all(self, number: signal.Signals) -> None:
        """The server and its children, each of which is a process group of its own."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        for pid in (self._process.pid, *map(int, children.split())):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
            self._process.wait(60)
            self._process = None

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd="/",
        )
        if done.returncode:
            pytest.fail(f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def _programs() -> Path:
    """Debian keeps the server's programs off the PATH, in a folder for each version."""
    for place in sorted(glob.glob(_PLACES), key=_version, reverse=True):
        if all(os.access(f"{place}/{name}", os.X_OK) for name in ("initdb", "postgres")):
            return Path(place)
    reason = "PostgreSQL's server is not installed (apt-get install postgresql)"
    return Path(shutil.which("initdb") or missing(reason)).parent


def _version(place: str) -> float:
    try:
        return float(place.split("/")[-2])
    except ValueError:
        return 0.0


def _other_user() -> list[str]:
    """What runs a program as ``postgres`` if we are root; it ends with this process."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        missing("there is no user postgres to run PostgreSQL as (apt-get install postgresql)")
    identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return [require("setpriv"), *identity, "--pdeathsig=INT"]


def _sweep() -> None:
    """Remove what tests left that were killed: their lock is free, their server ended with them."""
    for lock in glob.glob(f"{tempfile.gettempdir()}/{_PREFIX}*/lock"):
        with suppress(OSError):
            if time.time() - os.stat(lock).st_mtime < _STARTS_WITHIN:
                continue  # it may be about to be locked
            fd = _try_lock(Path(lock))
            if fd is not None:
                shutil.rmtree(os.path.dirname(lock), ignore_errors=True)
                os.close(fd)


def _try_lock(path: Path) -> int | None:
    """A file that is locked while this process lives; None when another one has the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
