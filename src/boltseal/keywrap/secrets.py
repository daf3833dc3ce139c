"""Where a passphrase or a PIN comes from: a file, a descriptor, a variable or the text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boltseal._io.files import read_bounded, read_user_file, storage_errors
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.keywrap.options import KeyOptions

MAX_SECRET_BYTES = 4096
FORMS = "file=PATH, fd=N, env=NAME or pass=TEXT"


def reader(rest: str, options: KeyOptions, *, bare: bool = True) -> Callable[[], bytes]:
    """What reads it, when it is needed. From now on no child gets the variable that it names: a
    key provider may be asked before this key's passphrase is."""
    kind, equals, value = rest.partition("=")
    if equals and kind == "env":
        options.secret_variables.add(value)
    return lambda: read(rest, options.environment, bare=bare)


def read(rest: str, environment: Mapping[str, str], *, bare: bool = True) -> bytes:
    """``pass=TEXT``, ``file=PATH``, ``fd=N``, ``env=NAME``, or with ``bare`` the text itself.

    Raises UsageError, NotFoundError or StorageError, none of which shows a secret.
    """
    kind, equals, value = rest.partition("=")
    if equals and kind == "pass":
        return os.fsencode(value)
    if equals and kind == "file":
        raw = read_user_file(value, "passphrase file", max_bytes=MAX_SECRET_BYTES)
        return _first_line(raw)
    if equals and kind == "fd":
        if not value.isascii() or not value.isdigit() or len(value) > 6:
            raise UsageError("fd= takes the number of an open file descriptor")
        with storage_errors("reading a passphrase from the file descriptor given"):
            raw = read_bounded(int(value), "passphrase", max_bytes=MAX_SECRET_BYTES)
        return _first_line(raw)
    if equals and kind == "env":
        if value not in environment:
            raise UsageError(
                "env= names a variable that is not set", hint="export the variable first"
            )
        return os.fsencode(environment[value])
    if not bare:
        raise UsageError("this does not say where the passphrase is", hint=f"write ask, {FORMS}")
    return os.fsencode(rest)


def _first_line(raw: bytes) -> bytes:
    return raw.rstrip(b"\r\n")
