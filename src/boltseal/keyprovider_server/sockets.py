"""The Unix socket that a provider listens on: for its owner alone, and gone when it ends."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from boltseal._io.files import folder_of, storage_errors
from boltseal.errors import StorageError
from boltseal.keywrap.keyprovider.sockets import check_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONNECT_SECONDS = 2


@contextmanager
def listening(path: str, bind: Callable[[], object]) -> Iterator[None]:
    """Have ``bind`` make the socket at ``path``, with mode 0600, and remove it afterwards.

    A socket that nobody listens on any more is replaced. Raises StorageError where that cannot be
    done safely. Binding changes the process's umask for a moment.
    """
    with storage_errors(f"making the socket {path}"):
        check_folder(os.path.dirname(path))
        with folder_of(path):  # two that start at the same time take turns
            _clear(path)
            before = os.umask(0o177)
            try:
                bind()
            finally:
                os.umask(before)
            made = os.lstat(path)
    try:
        yield
    finally:
        with suppress(OSError):
            if os.path.samestat(os.lstat(path), made):  # not that of a successor
                os.unlink(path)


def _clear(path: str) -> None:
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode):
        raise StorageError(f"{path} is there already, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:  # left behind by one that was killed
            os.unlink(path)
            return
    raise StorageError(f"another process listens on {path}", hint="stop it first")
