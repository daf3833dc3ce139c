"""Another root key where it is a file: beside it, in its place, and what was there kept apart.

A broker that runs reads the file again when what it has does not open the database any more, so
that another file in its place is all that a replica needs.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from boltseal._io.files import open_directory, storage_errors, sync_directory
from boltseal.broker.keys import exchange
from boltseal.broker.keys.root import create_file, open_root
from boltseal.broker.keys.safe import Safe
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from boltseal.broker.app.config import Settings
    from boltseal.broker.app.replica import Opened
    from boltseal.broker.keys.root import RootKey

NEW: Final = ".new"  # behind the root key's name
_SHOWN: Final = 12  # hexadecimal digits of a root key's label


@dataclass(frozen=True, slots=True)
class Rotated:
    """``label`` is the root key that opens the database now; ``kept`` is the file of the other."""

    label: str
    kept: str
    sealed: int  # private keys


def path_of(settings: Settings) -> str | None:
    """The root key's file; None where it is no file of this kind."""
    scheme, _, path = settings.root_key.partition(":")
    return path if scheme == "file" else None


def make_beside(settings: Settings) -> str:
    """A new root key beside the settings' one; one that is there already stays as it is.

    Raises UsageError where the root key is no file, StorageError or KeyFileError.
    """
    path = path_of(settings)
    if path is None:
        raise UsageError(
            "the root key of the settings is no file, so there is no place for a new one",
            hint="name it: --root-key KEY, spelled as root_key in the settings",
        )
    fresh = f"{path}{NEW}"
    if not os.path.lexists(fresh):
        create_file(fresh, like=path)
    return fresh


def rotate(opened: Opened, actor: str, now: int) -> Rotated:
    """Have a new root key in the file's place, which alone opens the database.

    Stopped at any point, the file has a root key that opens the database, and it can be called
    again. Raises UsageError where the root key is no file, StorageError, KeyFileError,
    KeyServiceError for a root key that does not open the database, and RefusedError.
    """
    settings, safe = opened.settings, opened.safe
    old = safe.root.label
    path = path_of(settings)
    if path is not None and os.path.islink(path):
        raise UsageError(
            f"{path} is a link, and what it leads to is put there by something else",
            hint="use: boltseal broker root add, and root retire when it has been exchanged",
        )
    fresh = make_beside(settings)
    assert path is not None
    new = open_root(f"file:{fresh}")
    if all(one.label != new.label for one in exchange.known_roots(opened.database)):
        exchange.add_root(opened.database, safe, new, actor, now)
    kept = f"{path}.{digits(old)}"
    with storage_errors(f"putting a new root key in the place of {path}"):
        with contextlib.suppress(FileExistsError):  # of a run that was stopped
            os.link(path, kept)
        os.rename(fresh, path)
        folder = open_directory(os.path.dirname(path) or ".", follow=True)
        try:
            sync_directory(folder)
        finally:
            os.close(folder)
    renewed = Safe.open(opened.database, open_root(f"file:{path}"))
    sealed = exchange.retire_others(opened.database, renewed, actor, now, is_newest=True)
    return Rotated(renewed.root.label, kept, sealed)


def named(settings: Settings) -> RootKey:
    """The root key of the settings, whether or not it opens the database."""
    return open_root(settings.root_key, settings.key_options, recipient=settings.root_recipient)


def digits(label: str) -> str:
    """The start of what a root key is known by."""
    return label.rpartition(":")[2][:_SHOWN]
