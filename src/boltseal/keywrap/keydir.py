"""Find the files of a folder of keys.

Kubernetes mounts a secret as links into a hidden folder beside them, so links are followed, but
only to what is inside the folder: a link that leads out is not followed, and neither are loops.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal._io.files import open_regular, read_bounded, storage_errors
from boltseal.errors import IntegrityError, LimitExceededError
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 1_000  # files of one folder of keys
MAX_DEPTH = 16  # folders inside folders
_HINT = "name the key itself, or a folder that has nothing but keys"


@dataclass(frozen=True, slots=True)
class Found:
    """A file's content, or why it was not read."""

    path: str
    content: bytes = field(default=b"", repr=False)
    problem: str | None = None


def walk(folder: str) -> Iterator[Found]:
    """The files below ``folder``, in the order of their names; the same file once.

    Raises StorageError when the folder cannot be listed, LimitExceededError over MAX_FILES.
    """
    root = os.path.realpath(folder)
    with storage_errors(f"listing {folder}"):
        info = os.stat(root)
    seen = {(info.st_dev, info.st_ino)}
    for count, path in enumerate(_paths(folder, root, 0, seen)):
        if count >= MAX_FILES:
            raise LimitExceededError(
                f"{folder} has more than the limit of {MAX_FILES} files", hint=_HINT
            )
        found = _read(path, root, seen)
        if found is not None:
            yield found


def _paths(folder: str, root: str, depth: int, seen: set[tuple[int, int]]) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise LimitExceededError(
            f"{folder} is deeper than the limit of {MAX_DEPTH} folders", hint=_HINT
        )
    with storage_errors(f"listing {folder}"):
        names = sorted(os.listdir(folder))
    # plain names first: of a file that a link and a hidden folder lead to, the link is what the
    # user knows
    for name in sorted(names, key=lambda one: one.startswith("..")):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and _is_inside(path, root):
            info = os.stat(path)
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                yield from _paths(path, root, depth + 1, seen)
        else:
            yield path


def _is_inside(path: str, root: str) -> bool:
    return os.path.commonpath((os.path.realpath(path), root)) == root


def _read(path: str, root: str, seen: set[tuple[int, int]]) -> Found | None:
    """One file; None for one that was read under another name."""
    if not _is_inside(path, root):
        return Found(path, problem="it is a link to a place outside of the folder")
    try:
        fd = open_regular(path, follow=True)
    except IntegrityError:
        return Found(path, problem="it is a special file")
    except OSError as error:
        return _failed(path, error)
    try:
        return _content(fd, path, root, seen)
    except LimitExceededError:
        return Found(path, problem=f"it is larger than {MAX_KEY_FILE_BYTES} bytes")
    except OSError as error:
        return _failed(path, error)
    finally:
        os.close(fd)


def _content(fd: int, path: str, root: str, seen: set[tuple[int, int]]) -> Found | None:
    # what was opened, and not what the name meant a moment ago
    if not _is_inside(os.readlink(f"/proc/self/fd/{fd}"), root):
        return Found(path, problem="it is a link to a place outside of the folder")
    info = os.fstat(fd)
    if (info.st_dev, info.st_ino) in seen:
        return None
    seen.add((info.st_dev, info.st_ino))
    return Found(path, read_bounded(fd, path, max_bytes=MAX_KEY_FILE_BYTES))


def _failed(path: str, error: OSError) -> Found:
    return Found(path, problem=os.strerror(error.errno or 0).lower())
