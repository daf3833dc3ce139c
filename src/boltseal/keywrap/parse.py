"""The spellings of keys on a command line, shared with skopeo, podman, buildah and ctr-enc."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boltseal._io.files import read_bounded, read_user_file, storage_errors
from boltseal.errors import KeyFileError, LimitExceededError, UnsupportedError, UsageError
from boltseal.keywrap.jwe import JweIdentity, JweRecipient
from boltseal.keywrap.keyfiles import load_private, load_public
from boltseal.spec.limits import MAX_KEY_FILE_BYTES
from boltseal.spec.reference import shown

if TYPE_CHECKING:
    from collections.abc import Callable

_LATER = ("pkcs7", "pgp", "pkcs11", "provider")
_MAX_PASSPHRASE_BYTES = 4096


def parse_recipient(text: str, *, with_kid: bool = True) -> JweRecipient:
    """``jwe:FILE``. Raises UsageError, KeyFileError, NotFoundError or UnsupportedError."""
    scheme, colon, path = text.partition(":")
    if scheme in _LATER and colon:
        raise UnsupportedError(
            f"recipients of the kind {scheme}: are not in this version", hint="use jwe:FILE"
        )
    if scheme != "jwe" or not colon:
        raise UsageError(f"recipient {shown(text)!r} names no protocol", hint="write jwe:FILE")
    if not path:
        raise UsageError(f"recipient {text!r} names no file", hint="write jwe:FILE")
    if ":" in path and not os.path.exists(path):
        raise UsageError(
            f"there is no file {shown(path)!r}",
            hint="a public key has no passphrase: write jwe:FILE",
        )
    return JweRecipient(load_public(_read(path), path), with_kid)


def parse_identity(text: str, *, ask: Callable[[str], bytes | None] | None = None) -> JweIdentity:
    """``FILE``, ``FILE:PASSPHRASE``, ``FILE:pass=TEXT``, ``FILE:file=PATH`` or ``FILE:fd=N``.

    ``ask`` is called with the file's name when the key is encrypted and no passphrase was named.
    """
    if text.startswith("provider:"):
        raise UnsupportedError("key providers are not in this version", hint="use a key file")
    path, colon, rest = text.partition(":")
    if colon and not os.path.exists(path) and os.path.exists(text):
        path, rest, colon = text, "", ""  # a file whose name has a colon
    if not path:
        raise UsageError("a key needs a file name", hint="write FILE or FILE:pass=TEXT")
    if path == "jwe" and not os.path.exists(path):
        raise UsageError("private keys are named without jwe:", hint="write FILE or FILE:pass=TEXT")

    def passphrase() -> bytes | None:
        if colon:
            return read_passphrase(rest)
        return ask(path) if ask is not None else None

    return JweIdentity(load_private(_read(path), path, passphrase), path)


def _read(path: str) -> bytes:
    try:
        return read_user_file(path, "key file", max_bytes=MAX_KEY_FILE_BYTES)
    except LimitExceededError as error:
        raise KeyFileError(error.message) from None


def read_passphrase(rest: str, *, bare: bool = True) -> bytes:
    """``pass=TEXT``, ``file=PATH``, ``fd=N``, or with ``bare`` the passphrase itself."""
    kind, equals, value = rest.partition("=")
    if equals and kind == "pass":
        return os.fsencode(value)
    if equals and kind == "file":
        raw = read_user_file(value, "passphrase file", max_bytes=_MAX_PASSPHRASE_BYTES)
        return _first_line(raw)
    if equals and kind == "fd":
        if not value.isascii() or not value.isdigit() or len(value) > 6:
            raise UsageError("fd= takes the number of an open file descriptor")
        with storage_errors("reading a passphrase from the file descriptor given"):
            raw = read_bounded(int(value), "passphrase", max_bytes=_MAX_PASSPHRASE_BYTES)
        return _first_line(raw)
    if not bare:
        raise UsageError(
            "this does not say where the passphrase is",
            hint="write ask, file=PATH, fd=N or pass=TEXT",
        )
    return os.fsencode(rest)


def _first_line(raw: bytes) -> bytes:
    return raw.rstrip(b"\r\n")
