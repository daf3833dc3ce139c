"""The journal of a bulk run: what is done, so that the next run goes on from there.

JSON lines. The first says what the job is, each later one what became of an image. A line is
written in one piece and is on disk before the next image counts as done; the last one may be torn
by a crash and is then dropped. It has no secret in it, and is believed only when nobody else can
write to it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from boltseal._io import files, strictjson
from boltseal.errors import (
    ConflictError,
    LimitExceededError,
    MalformedError,
    StorageError,
    UsageError,
    located,
)
from boltseal.image.bulk.report import DONE, FAILED
from boltseal.image.bulk.task import is_digest
from boltseal.spec.limits import MAX_JOURNAL_BYTES, MAX_JOURNAL_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = "boltseal-bulk-journal"
_VERSION = 1
_BEGINNING = f'{{"{_FORMAT}":'.encode()
_MEMBERS = {"source", "source_digest", "destination", "digest", "state", "job", "error"}
_ANEW = "name another journal, or remove this one to begin anew"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: ``job`` is the digest of what was to be done to the image."""

    source: str
    source_digest: str | None
    destination: str
    digest: str | None
    state: str
    job: str
    error: str | None = None


class Journal:
    """An open journal, locked. ``entries`` has the newest line of each destination."""

    def __init__(self, path: str, header: Mapping[str, Any]) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._header = dict(header)
        self._fd = -1

    def __enter__(self) -> Self:
        with files.storage_errors(f"opening the journal {self.path}"):
            self._fd = self._open()
        try:
            with located(f"journal {self.path}"):
                self._begin()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._close()

    def record(self, entry: Entry) -> None:
        """Write one line, and have it on disk."""
        self._append(asdict(entry))
        self.entries[entry.destination] = entry

    def _open(self) -> int:
        # O_NONBLOCK: opening a named pipe must not wait for a reader
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self.path, flags, 0o600)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise StorageError(
                    f"the journal {self.path} is a symbolic link or a special file"
                ) from None
            raise

    def _begin(self) -> None:
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            raise StorageError("it is not a regular file")
        if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StorageError(
                "somebody else may write to it, and could have images passed over",
                hint="chown and chmod 600 it, if you know what is in it; or name another journal",
            )
        if not files.try_lock(self._fd):
            error = ConflictError("another run is using it")
            error.hint = "wait for it, or name another journal"
            raise error
        with files.storage_errors("reading it"):
            os.lseek(self._fd, 0, os.SEEK_SET)
            raw = files.read_bounded(self._fd, "it", max_bytes=MAX_JOURNAL_BYTES)
        self.entries, whole = parse(raw, self._header)
        if whole != len(raw):  # the end of a run that was killed
            with files.storage_errors("writing it"):
                os.ftruncate(self._fd, whole)
        if not whole:
            self._append({_FORMAT: _VERSION, **self._header})
            self._sync_folder()

    def _append(self, document: Mapping[str, Any]) -> None:
        line = json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
        data = line.encode("utf-8")
        if len(data) > MAX_JOURNAL_LINE_BYTES:
            raise LimitExceededError(
                f"a line of the journal is over the limit of {MAX_JOURNAL_LINE_BYTES} bytes"
            )
        with files.storage_errors(f"writing the journal {self.path}"):
            before = os.fstat(self._fd).st_size
            written = os.write(self._fd, data)
            if written != len(data):  # the disk is full: half a line must not stay
                os.ftruncate(self._fd, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._fd)

    def _sync_folder(self) -> None:
        with files.storage_errors(f"writing the journal {self.path}"):
            folder = files.open_directory(os.path.dirname(self.path) or ".", follow=True)
            try:
                files.sync_directory(folder)
            finally:
                os.close(folder)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # and with it goes the lock
            self._fd = -1


def parse(raw: bytes, header: Mapping[str, Any]) -> tuple[dict[str, Entry], int]:
    """The newest line of each destination, and how many bytes the whole lines have.

    Raises UsageError for what is no journal or one of another job than ``header``, and an
    IntegrityError for a broken line.
    """
    whole = raw[: raw.rfind(b"\n") + 1]
    if not (raw.startswith(_BEGINNING) or (not whole and _BEGINNING.startswith(raw))):
        raise UsageError("it is there, and is no journal", hint="name another file")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(whole.split(b"\n")[:-1], 1):
        with located(f"line {number}"):
            document = strictjson.load_object(line, "it", max_bytes=MAX_JOURNAL_LINE_BYTES)
            if number == 1:
                _check_header(document, header)
            else:
                entry = _entry(document)
                entries[entry.destination] = entry
    return entries, len(whole)


def _check_header(document: dict[str, Any], header: Mapping[str, Any]) -> None:
    version = document.pop(_FORMAT)
    if version != _VERSION:
        raise UsageError(f"it is of version {str(version)[:20]}", hint=_ANEW)
    wanted = json.loads(json.dumps(header))
    differ = [
        name for name in sorted({*wanted, *document}) if wanted.get(name) != document.get(name)
    ]
    if differ:
        shown = ", ".join(_difference(name, wanted, document) for name in differ[:10])
        raise UsageError(f"it is of another job, with other {shown}", hint=_ANEW)


def _difference(name: str, wanted: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    now, then = wanted.get(name), document.get(name)
    inside = ""
    if isinstance(now, dict) and isinstance(then, dict):
        differ = [one for one in sorted({*now, *then}) if now.get(one) != then.get(one)]
        inside = f" ({', '.join(one[:40] for one in differ[:10])})"
    return f"{name[:40]}{inside}"


def _entry(document: dict[str, Any]) -> Entry:
    """Raises MalformedError for anything but what :meth:`Journal.record` writes."""
    if set(document) != _MEMBERS:
        raise MalformedError("it does not have the members of a journal's line")
    for name in _MEMBERS:
        value = document[name]
        may_lack = name in ("source_digest", "digest", "error")
        if not isinstance(value, str) and not (value is None and may_lack):
            raise MalformedError(f"its {name} is not a string")
    if document["state"] not in (DONE, FAILED):
        raise MalformedError("its state is not one that is known")
    for name in ("source_digest", "digest"):
        value = document[name]
        if not is_digest(value) and (value is not None or document["state"] == DONE):
            raise MalformedError(f"its {name} is not a digest")
    return Entry(**document)
