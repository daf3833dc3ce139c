"""Make a runtime's folder hold the keys that a source has, and none that were withdrawn from it.

1. The source is listed, wholly or not at all. An outage is not a deletion: a listing that fails
   changes nothing, and one that is suddenly empty is taken for a failure.
2. What will be there is written down first, so that a run that is stopped loses track of nothing.
3. New and changed keys get their names, each at once and whole; then withdrawn ones go. In between
   a host has both, the old and the new.
Files that were not put there by a run for the same source are never touched.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import stat
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import files, strictjson
from boltseal.errors import MalformedError, StorageError, UsageError
from boltseal.runtime.keysync import sources
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_STATE_BYTES = 4 * 1024 * 1024  # of the record of what was put where
_TEMPORARY = ".boltseal-"
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class Place:
    """The folder for keys, and the file that remembers which of them come from where."""

    folder: str
    record: str

    @classmethod
    def of(cls, folder: str, record: str | None = None) -> Place:
        """The record lies beside the folder, since runtimes take every file in it for a key."""
        whole = os.path.abspath(folder)
        beside = os.path.join(
            os.path.dirname(whole), f".{os.path.basename(whole)}.boltseal-sync.json"
        )
        return cls(whole, record or beside)


@dataclass(frozen=True, slots=True)
class Report:
    """Names of files: what was done to them; ``skipped`` ones have a reason beside them."""

    source: str
    folder: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def is_change(self) -> bool:
        """Whether anything was done."""
        return bool(self.added or self.changed or self.removed)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def sync(
    source: str,
    place: Place,
    environment: Mapping[str, str],
    *,
    allow_empty: bool = False,
    dry_run: bool = False,
) -> Report:
    """Bring a folder up to date once.

    Raises StorageError, KeyServiceError or an IntegrityError when the source cannot be listed, and
    StorageError for a name that somebody else uses; the folder is then as it was. UsageError when
    both are the same folder.
    """
    name = source if source.startswith(sources.COMMAND) else os.path.abspath(source)
    if os.path.realpath(name) == os.path.realpath(place.folder):
        raise UsageError("the keys are to come from the very folder that they go to")
    listing = sources.read(source, environment)
    with _opened(place.folder) as dir_fd:
        record = _load(place.record)
        mine = record.get(name, {})
        _check_listing(source, listing, mine, allow_empty=allow_empty)
        there = {key: _digest(key, dir_fd) for key in {*listing.keys, *mine}}
        others = {key: other for other, keys in record.items() if other != name for key in keys}
        for key, content in listing.keys.items():
            if key in others:
                raise StorageError(
                    f"{key} comes from {others[key]} already",
                    hint="give the two sources folders of their own, or the files other names",
                )
            if key not in mine and there[key] not in (None, str(Digest.of(content))):
                raise StorageError(
                    f"{place.folder} has another file called {key}, not put there from this source",
                    hint="move it away, or give the key another name at its source",
                )
        wanted = {key: str(Digest.of(content)) for key, content in listing.keys.items()}
        added = tuple(sorted(key for key in wanted if there[key] is None))
        changed = tuple(sorted(key for key in wanted if there[key] not in (None, wanted[key])))
        gone = tuple(sorted(key for key in mine if key not in wanted))
        if not dry_run:
            if {**mine, **wanted} != mine:
                _save(place.record, {**record, name: {**mine, **wanted}})
            for key in (*added, *changed):
                _put(key, listing.keys[key], dir_fd)
            for key in gone:
                with files.storage_errors(f"removing {key}"), suppress(FileNotFoundError):
                    os.unlink(key, dir_fd=dir_fd)
            files.sync_directory(dir_fd)
            if gone:
                _save(place.record, {**record, name: wanted})
    kept = tuple(sorted(key for key in wanted if there[key] == wanted[key]))
    removed = tuple(key for key in gone if there[key] is not None)
    return Report(name, place.folder, added, changed, removed, kept, listing.skipped)


def _check_listing(
    source: str, listing: sources.Listing, mine: Mapping[str, str], *, allow_empty: bool
) -> None:
    for name, reason in listing.skipped:
        if name in mine:
            raise StorageError(f"{name} of {source} was a key before, and now {reason}")
    if mine and not listing.keys and not allow_empty:
        raise StorageError(
            f"{source} has no key at all, and had {len(mine)} before: that is taken for a failure",
            hint="if all of them were withdrawn, say so once with --allow-empty",
        )


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    """The folder, locked, made if need be; one that others may write to is no place for keys."""
    with files.storage_errors(f"opening {folder}"):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            raise StorageError(
                f"the folder that {folder} should be made in does not exist",
                hint=f"make it first: install -d -m 0700 {shlex.quote(os.path.dirname(folder))}",
            ) from None
        dir_fd = files.open_directory(folder)
    try:
        info = os.fstat(dir_fd)
        if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StorageError(
                f"{folder} belongs to somebody else, or others may write to it",
                hint="make it yours alone: chown and chmod 0700",
            )
        with files.directory_lock(dir_fd):
            files.sweep_temporaries(_TEMPORARY, dir_fd)
            yield dir_fd
    finally:
        os.close(dir_fd)


def _digest(name: str, dir_fd: int) -> str | None:
    """The digest of a file; None when it is not there."""
    try:
        with files.storage_errors(f"reading {name}"):
            fd = files.open_regular(name, dir_fd=dir_fd)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        with files.storage_errors(f"reading {name}"):
            return str(Digest.of(files.read_bounded(fd, name, max_bytes=MAX_KEY_FILE_BYTES)))
    finally:
        os.close(fd)


def _put(name: str, content: bytes, dir_fd: int) -> None:
    """Give content a name, whole and at once; what a runtime sees meanwhile is a whole key too."""
    hidden = files.temporary_name(_TEMPORARY)
    with files.storage_errors(f"writing {name}"):
        fd, is_named = _new_file(hidden, dir_fd)
        try:
            files.write_all(fd, content, 0)
            os.fsync(fd)
            if not is_named:
                path = f"/proc/self/fd/{fd}"
                os.link(path, hidden, dst_dir_fd=dir_fd, follow_symlinks=True)
            os.rename(hidden, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(hidden, dir_fd=dir_fd)
            raise
        finally:
            os.close(fd)


def _new_file(hidden: str, dir_fd: int) -> tuple[int, bool]:
    """A file of mode 0600 that has no name yet, where the file system can do that."""
    try:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE
        return os.open(".", flags, 0o600, dir_fd=dir_fd), False
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    return files.create_temporary(hidden, dir_fd), True


def _load(path: str) -> dict[str, dict[str, str]]:
    """Names and digests of files by source."""
    what = f"the record {path}"
    try:
        fd = files.open_regular(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StorageError(f"{what} cannot be opened: {reason}") from None
    try:
        info = os.fstat(fd)
        if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StorageError(
                f"{what} belongs to somebody else, or others may write to it",
                hint="look at it, remove it, and name another place with --record",
            )
        with files.storage_errors(f"reading {what}"):
            raw = files.read_bounded(fd, what, max_bytes=MAX_STATE_BYTES)
    finally:
        os.close(fd)
    document = strictjson.load_object(raw, what, max_bytes=MAX_STATE_BYTES)
    found = document.get("sources")
    if document.get("version") != 1 or not isinstance(found, dict):
        raise MalformedError(f"{what} is not one of this version of Boltseal")
    for names in found.values():
        if not isinstance(names, dict) or not all(_is_entry(*one) for one in names.items()):
            raise MalformedError(f"{what} does not name files and their digests")
    return found


def _is_entry(name: str, digest: object) -> bool:
    """A record that was tampered with must not name a file elsewhere."""
    return "/" not in name and name not in ("", ".", "..") and isinstance(digest, str)


def _save(path: str, record: Mapping[str, Mapping[str, str]]) -> None:
    kept = {source: names for source, names in record.items() if names}
    text = json.dumps({"version": 1, "sources": kept}, indent=1, sort_keys=True)
    # somebody else's link must not make us write elsewhere
    files.replace_private_file(path, text.encode() + b"\n", follow=False)
