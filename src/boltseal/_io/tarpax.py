"""What pax headers say of the entry behind them: names, sizes, owners, times, attributes, holes."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from boltseal._io import tarfields as fields
from boltseal._io.tarfields import DAMAGED
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_XATTR_BYTES = 64 * 1024  # bytes of the value of one extended attribute
SPARSE = "GNU.sparse."
PIECES = (f"{SPARSE}offset", f"{SPARSE}numbytes")  # the only ones that come more than once

_SCHILY, _LIBARCHIVE = "SCHILY.xattr.", "LIBARCHIVE.xattr."
_HONOURED = frozenset(("path", "linkpath", "size", "uid", "gid", "mtime"))
_TIME = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{0,20}))?")
_MAX_ID = (1 << 32) - 2  # the last one means "leave it" to chown
_MAX_SECONDS = 1 << 40
NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Extended:
    """The records that count; ``sparse`` are those of a sparse file, in order."""

    override: dict[str, str] = field(default_factory=dict)
    xattrs: Mapping[str, bytes] = field(default_factory=lambda: NOTHING)
    sparse: tuple[tuple[str, str], ...] = ()

    def sparse_name(self, name: str) -> str:
        """The name of a sparse file; the one in its header is for readers that know none."""
        for key, value in self.sparse:
            if key == f"{SPARSE}name" and value:
                return value
        return name


NONE = Extended()


def sort_out(pax: list[tuple[str, bytes]]) -> Extended:
    """Take a header's records for what they are; those of other keys do not count."""
    _check_once(pax)
    override: dict[str, str] = {}
    xattrs: dict[str, bytes] = {}
    also: dict[str, bytes] = {}
    sparse: list[tuple[str, str]] = []
    for key, value in pax:
        if key in _HONOURED:
            if b"\0" in value:
                raise MalformedError(DAMAGED)
            if value:
                override[key] = fields.text(value)
        elif key.startswith(_SCHILY):
            xattrs[_xattr_name(key.removeprefix(_SCHILY))] = value
        elif key.startswith(_LIBARCHIVE):
            encoded = key.removeprefix(_LIBARCHIVE)
            also[_xattr_name(_unquoted(encoded))] = _base64(value)
        elif key.startswith(SPARSE):
            sparse.append((key, fields.text(value)))
    xattrs = {**also, **xattrs}
    for value in xattrs.values():
        if len(value) > MAX_XATTR_BYTES:
            raise LimitExceededError(
                "the archive has an extended attribute larger than the limit of "
                f"{MAX_XATTR_BYTES} bytes"
            )
    return Extended(override, xattrs, tuple(sparse))


def _check_once(pax: list[tuple[str, bytes]]) -> None:
    """Raises MalformedError for a record that counts and is there twice.

    Readers differ: an empty one takes back what was said before, or it is the name.
    """
    once = [
        key for key, _ in pax if key in _HONOURED or (key.startswith(SPARSE) and key not in PIECES)
    ]
    if len(set(once)) != len(once):
        raise MalformedError(DAMAGED)


def sparse_size(known: Mapping[str, str]) -> int:
    """The bytes of a sparse file, holes included, under either of its two names."""
    stated = {known[key] for key in (f"{SPARSE}size", f"{SPARSE}realsize") if key in known}
    if len(stated) != 1:
        raise MalformedError(DAMAGED)
    return fields.decimal(stated.pop())


def _xattr_name(name: str) -> str:
    if not name or "\0" in name or len(name) > 255:
        raise MalformedError("the archive has an extended attribute without a valid name")
    return name


def _unquoted(encoded: str) -> str:
    from urllib.parse import unquote_to_bytes  # it takes its time to load, and is rare

    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        raise MalformedError(DAMAGED) from None


def check_global(found: list[tuple[str, bytes]]) -> None:
    """Raises MalformedError for a global header that says more than a comment."""
    for key, _ in found:
        if key in _HONOURED or key.startswith((_SCHILY, _LIBARCHIVE, SPARSE)):
            raise MalformedError("the archive has a global header that changes every entry")


def owner(stated: str | None, raw: bytes) -> int:
    """A user or group, by its pax record if there is one."""
    value = fields.number(raw) if stated is None else fields.decimal(stated)
    if value > _MAX_ID:
        raise MalformedError(f"the archive has an owner {value}, which cannot be")
    return value


def time(stated: str | None, raw: bytes) -> int:
    """Nanoseconds since 1970, by the pax record if there is one."""
    if stated is None:
        seconds, nanoseconds = fields.signed_number(raw), 0
    else:
        match = _TIME.fullmatch(stated)
        if match is None:
            raise MalformedError(DAMAGED)
        sign, whole, part = match.groups()
        seconds, nanoseconds = int(whole), int((part or "")[:9].ljust(9, "0"))
        if sign:
            seconds, nanoseconds = -seconds, -nanoseconds
    if abs(seconds) > _MAX_SECONDS:
        raise MalformedError(f"the archive has a time {seconds}, which cannot be")
    return seconds * 1_000_000_000 + nanoseconds
