"""The file behind an archive: one on disk that is replaced at the end, or a pipe.

A pipe cannot be read twice nor taken back, so its archive lies in an unnamed temporary file in
between. Nothing is written to a pipe before everything was right.
"""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from boltseal._io import files
from boltseal.errors import BoltsealError, NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD = "-"  # standard input or output
_INPUTS = (STANDARD, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_OUTPUTS = (STANDARD, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_STEP = 1 << 20
_MAX_SPOOL_BYTES = 1 << 42  # bytes read from a pipe


def spool() -> int:
    """An unnamed temporary file: whatever becomes of this process, nothing of it stays."""
    folder = tempfile.gettempdir()
    with files.storage_errors(f"making a temporary file in {folder}"):
        try:
            return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError:  # a file system without unnamed files
            fd, name = tempfile.mkstemp(prefix="boltseal-", dir=folder)
            os.unlink(name)
            return fd


def fill_spool(source: int, what: str) -> int:
    """A spool with everything that comes from an open pipe."""
    fd = spool()
    try:
        with files.storage_errors(f"reading {what}"):
            position = 0
            while data := os.read(source, _STEP):
                files.write_all(fd, data, position)
                position += len(data)
                if position > _MAX_SPOOL_BYTES:
                    raise StorageError(f"{what} goes on over the limit of {_MAX_SPOOL_BYTES} bytes")
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_source(path: str) -> int:
    """A descriptor of a whole archive that can be read anywhere."""
    if path in _INPUTS:
        if os.isatty(0):
            raise UsageError("an archive is to be read from standard input, which is a terminal")
        fd = fill_spool(0, "standard input")
        if os.fstat(fd).st_size == 0:
            os.close(fd)
            raise NotFoundError("nothing came from standard input", hint="did what writes it fail?")
        return fd
    if os.path.isdir(path):
        raise NotFoundError(f"{path} is a folder", hint=f"read a layout as oci:{path}")
    try:
        info = os.stat(path)
        if stat.S_ISFIFO(info.st_mode) or stat.S_ISCHR(info.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return fill_spool(fd, path)
            finally:
                os.close(fd)
        return files.open_regular(path, follow=True)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no archive {path}", hint="look at the path; it ends at the first colon"
        ) from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be opened: {os.strerror(error.errno or 0).lower()}"
        ) from None


def is_standard_input(path: str) -> bool:
    """Whether an archive of this name comes from standard input."""
    return path in _INPUTS


def is_standard_output(path: str) -> bool:
    """Whether an archive of this name goes to standard output."""
    return path in _OUTPUTS


class Target(Protocol):
    """Where a new archive goes."""

    fd: int

    def open(self) -> None:
        """Make ``fd`` a file to write and read."""

    def finish(self, length: int) -> None:
        """Everything was right: the first ``length`` bytes are the archive."""

    def close(self) -> None:
        """Leave nothing behind, but for what was finished."""


def target(path: str, is_replaceable: Callable[[int], bool]) -> Target:
    """A pipe, or a file; ``is_replaceable`` says whether an existing one may go."""
    if is_standard_output(path):
        return PipeTarget(1, "standard output")
    with suppress(OSError):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return PipeTarget(None, path)
    return FileTarget(path, is_replaceable)


class PipeTarget:
    """Standard output or a named pipe."""

    def __init__(self, out: int | None, name: str) -> None:
        self._out = out
        self._name = name
        self.fd = -1

    def open(self) -> None:
        if self._out is not None and os.isatty(self._out):
            raise UsageError("an archive is to be written to standard output, which is a terminal")
        self.fd = spool()

    def finish(self, length: int) -> None:
        with files.storage_errors(f"writing to {self._name}"):
            out = os.open(self._name, os.O_WRONLY) if self._out is None else self._out
            try:
                position = 0
                while position < length:
                    data = memoryview(os.pread(self.fd, min(_STEP, length - position), position))
                    position += len(data)
                    while data:
                        data = data[os.write(out, data) :]
            finally:
                if self._out is None:
                    os.close(out)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class FileTarget:
    """A temporary file beside the archive, renamed over it at the end."""

    def __init__(self, path: str, is_replaceable: Callable[[int], bool]) -> None:
        self._path = path
        self._is_replaceable = is_replaceable
        # a link is followed: what it leads to is replaced, not the link
        self._folder, self._base = os.path.split(os.path.realpath(path))
        self._dir = -1
        self._name = ""
        self.fd = -1

    def open(self) -> None:
        if os.path.isdir(self._path):
            raise StorageError(
                f"{self._path} is a folder", hint="write oci:PATH for a layout in a folder"
            )
        self._check_replaceable()
        with files.storage_errors(f"preparing the archive {self._path}"):
            try:
                self._dir = files.open_directory(self._folder, follow=True)
            except (FileNotFoundError, NotADirectoryError):
                raise NotFoundError(
                    f"the folder that {self._path} should be made in does not exist",
                    hint=f"make it first: mkdir -p {shlex.quote(self._folder)}",
                ) from None
            prefix = f".{self._base[:100]}.boltseal-"
            files.sweep_temporaries(prefix, self._dir)
            self._name = files.temporary_name(prefix)
            self.fd = files.create_temporary(self._name, self._dir)

    def finish(self, length: int) -> None:
        os.ftruncate(self.fd, length)
        os.fchmod(self.fd, self._mode())
        os.fsync(self.fd)
        os.rename(self._name, self._base, src_dir_fd=self._dir, dst_dir_fd=self._dir)
        self._name = ""
        files.sync_directory(self._dir)

    def close(self) -> None:
        if self._name:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._dir)
            self._name = ""
        for fd in (self.fd, self._dir):
            if fd >= 0:
                os.close(fd)
        self.fd = self._dir = -1

    def _mode(self) -> int:
        """An archive that is replaced keeps its mode, a private one above all."""
        try:
            return stat.S_IMODE(os.stat(self._base, dir_fd=self._dir).st_mode)
        except FileNotFoundError:
            return files.umask_mode()

    def _check_replaceable(self) -> None:
        """Only an archive or an empty file gives way to a new one: not a key, not a device."""
        try:
            info = os.stat(self._path)
        except OSError:
            return  # nothing there; what else is wrong shows when the new file is made
        if stat.S_ISREG(info.st_mode):
            if info.st_size == 0:
                return
            with suppress(BoltsealError, OSError):
                fd = files.open_regular(self._path, follow=True)
                try:
                    if self._is_replaceable(fd):
                        return
                finally:
                    os.close(fd)
        raise StorageError(
            f"{self._path} is there already and is not an OCI archive", hint="choose another name"
        )
