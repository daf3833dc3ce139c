"""Who can listen at a Unix socket's path: nobody but its user and root, or it is not used.

The check is made before the connection, and gRPC tells nothing of who is at the other end. Between
the two nothing can change but by those whom the check allows, and by whoever can rename a folder
above the socket's own: those folders are not looked at.
"""

from __future__ import annotations

import os
import stat

from boltseal.errors import KeyServiceError, StorageError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check(path: str, where: str) -> None:
    """For a client: that a stranger can have made the socket neither now nor soon.

    Links are followed, and the folder of the link counts as well. Raises KeyServiceError.
    """
    try:
        real = os.path.realpath(path)
        folders = dict.fromkeys(map(os.path.dirname, (path, real)))
        for folder in folders:
            if is_open(folder):
                raise KeyServiceError(
                    f"{where}: others can write to the folder {folder}, and put a socket of theirs "
                    "there",
                    hint="have the provider listen in a folder that is yours or root's alone",
                )
        info = os.stat(real)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyServiceError(
            f"{where} cannot be reached: {reason}",
            hint="see that it runs, and that its address is right",
        ) from None
    if not stat.S_ISSOCK(info.st_mode):
        raise KeyServiceError(f"{where}: {path} is no socket")
    if not _is_trusted(info):
        raise KeyServiceError(
            f"{where}: the socket is of another user ({info.st_uid}), who would get the keys",
            hint="a provider of your own or of root can be asked",
        )


def check_folder(folder: str) -> None:
    """For a server: that nobody else can put another socket in its place.

    Raises StorageError, or OSError when there is no such folder.
    """
    if is_open(folder):
        raise StorageError(
            f"the socket's folder {folder} can be written to by others",
            hint="make one that cannot: mkdir -m 700 DIR",
        )


def is_open(folder: str) -> bool:
    """Whether anybody but its user and root can make files in a folder.

    That the folder is sticky (``/tmp``) does not help: whoever comes first has the name.
    """
    info = os.stat(folder)
    return not _is_trusted(info) or bool(info.st_mode & _OTHERS)


def _is_trusted(info: os.stat_result) -> bool:
    return info.st_uid in (0, os.geteuid())
