"""A home of GnuPG's for one exported key: private, in memory where possible, and removed again.

It is removed when its owner is dropped and at the latest when the interpreter ends, so after every
exception and every signal that becomes one. What a killed process left is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal._io.files import (
    create_temporary_directory,
    is_named,
    open_directory,
    temporary_name,
    try_lock,
)
from boltseal.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boltseal.keywrap.options import KeyOptions

_PREFIX = "boltseal-gpg-"
_MAX_BASE = 60  # bytes: the agent's socket in it has to stay under the 108 of sun_path
_SECONDS = 10  # for the agent to end
_TRIES = 5  # of removing a folder into which a dying agent may still write
# No smart card is wanted here: a second daemon would take it away from the user's own. The key is
# here for one run, so that deriving keys from its passphrase need not take long every time.
_AGENT = """\
disable-scdaemon
no-allow-external-cache
ignore-invalid-option s2k-calibration
s2k-calibration 20
"""


class TemporaryHome:
    """A folder, mode 0700, for one run of Boltseal; ``path`` is gone with this object."""

    def __init__(self, options: KeyOptions, program: str) -> None:
        base = _base(options.environment)
        name = temporary_name(_PREFIX)
        self.path = os.path.join(base, name)
        with _folder(base) as folder:
            _sweep(base, folder.fd, program)
            lock: list[int] = []
            # before the folder is made: a signal may come between making and knowing
            self._finalizer = weakref.finalize(self, _remove, self.path, program, lock, os.getpid())
            try:
                lock.append(create_temporary_directory(name, folder.fd))
                with open(os.path.join(self.path, "gpg-agent.conf"), "x", encoding="ascii") as file:
                    file.write(_AGENT)
            except OSError as error:
                self.close()
                reason = os.strerror(error.errno or 0).lower()
                raise StorageError(f"{reason} while making a folder for GnuPG in {base}") from None

    def close(self) -> None:
        """Remove it now."""
        self._finalizer()


class _folder:  # noqa: N801  a context
    def __init__(self, path: str) -> None:
        self.fd = open_directory(path, follow=True)

    def __enter__(self) -> _folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _base(environment: Mapping[str, str]) -> str:
    """The first folder that will do: the user's own in memory, anybody's in memory, any other."""
    candidates = [environment.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]  # noqa: S108  see below
    candidates += [environment.get("TMPDIR", ""), "/tmp"]  # noqa: S108
    for path in candidates:
        if os.path.isabs(path) and len(os.fsencode(path)) <= _MAX_BASE and _is_safe(path):
            return path
    raise StorageError(
        "there is no folder in which GnuPG could be given the key",
        hint="set TMPDIR to a folder of yours with a short name",
    )


def _is_safe(path: str) -> bool:
    """Whether we can write there, and nobody else can take away what we write."""
    try:
        info = os.stat(path)
    except OSError:
        return False
    others = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return (
        stat.S_ISDIR(info.st_mode)
        and os.access(path, os.W_OK | os.X_OK)
        and info.st_uid in (0, os.geteuid())
        and (not others or bool(info.st_mode & stat.S_ISVTX))
    )


def _sweep(base: str, folder: int, program: str) -> None:
    """Remove what killed processes of ours left: nobody holds its lock."""
    with suppress(OSError):
        for name in _left_over(folder):
            with suppress(OSError):
                fd = open_directory(name, dir_fd=folder)
                try:
                    mine = os.fstat(fd).st_uid == os.geteuid()
                    if mine and try_lock(fd) and is_named(name, fd, folder):
                        _clear(os.path.join(base, name), program)
                finally:
                    os.close(fd)


def _left_over(folder: int) -> Iterator[str]:
    return (name for name in os.listdir(folder) if name.startswith(_PREFIX))


def _remove(path: str, program: str, lock: list[int], owner: int) -> None:
    if os.getpid() != owner:  # a fork's copy: the home is its parent's
        return
    try:
        _clear(path, program)
    finally:
        while lock:
            os.close(lock.pop())


def _clear(path: str, program: str) -> None:
    """End the agent and remove the folder; an agent whose folder is gone ends by itself, too."""
    try:
        if os.path.isdir(path):
            _stop_agent(path, program)
    finally:
        for _ in range(_TRIES):
            shutil.rmtree(path, ignore_errors=True)
            if not os.path.lexists(path):
                break


def _stop_agent(path: str, program: str) -> None:
    gpgconf = os.path.join(os.path.dirname(program), "gpgconf")
    for action in (("--kill", "all"), ("--remove-socketdir",)):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(  # noqa: S603  the gpgconf beside gpg
                [gpgconf, "--homedir", path, *action],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.path.dirname(program), "LC_ALL": "C"},
                check=False,
                timeout=_SECONDS,
            )
