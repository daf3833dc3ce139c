"""The lines of an export, byte for byte: a file that is changed anywhere is another file.

The first says what it is, then one a link of the chain, with the record or, where that is another
tenant's, with its hash alone; a checkpoint comes after the link that it signs; the last line counts
and hashes all the others, and has the broker's signature under that (Ed25519): without it somebody
could hide a record behind its hash. Every line is JSON and ends with one newline.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from boltseal._io import b64, strictjson
from boltseal.broker.audit import checkpoint, record
from boltseal.broker.audit.checkpoint import Checkpoint
from boltseal.errors import LimitExceededError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAMILY: Final = "boltseal audit export/"
KIND: Final = f"{FAMILY}1"
SEAL: Final = "boltseal-audit-export/1"  # before what is signed
MAX_LINE: Final = record.MAX_RECORD_BYTES + 256  # bytes
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9-]{0,63}")
_RECORD = re.compile(rb'\{"hash":"([0-9a-f]{64})","record":(\{.*\})\}\n', re.DOTALL)
_LINK = re.compile(
    rb'\{"hash":"([0-9a-f]{64})","record_hash":"([0-9a-f]{64})","seq":([1-9][0-9]{0,18})\}\n'
)
_CHECKPOINT = re.compile(rb'\{"checkpoint":"([ -!#-\[\]-~]{1,400})"\}\n')
_WHAT = "the audit export"


@dataclass(frozen=True, slots=True)
class Header:
    """What an export says it is. ``tenant`` is None for all of them.

    ``start`` is the first link's number, ``end`` the last one's with a record, None where the
    export goes as far as the chain did. ``previous`` is the hash that the first link hangs on.
    """

    broker: str
    tenant: str | None
    start: int
    end: int | None
    previous: str
    time: int

    def encode(self) -> bytes:
        return _line(
            {
                "boltseal": KIND,
                "broker": self.broker,
                "end": self.end,
                "previous": self.previous,
                "start": self.start,
                "tenant": self.tenant,
                "time": self.time,
            }
        )


@dataclass(frozen=True, slots=True)
class Link:
    """One link; ``text`` is the record, None where there is only its hash."""

    seq: int | None  # of a link without its record; otherwise the record says it
    text: str | None
    record_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class End:
    """``newest`` is the newest checkpoint that the broker had; ``key`` is the fingerprint of the
    one that made ``seal``, both empty where it is not signed.
    """

    lines: int
    sha256: str
    newest: Checkpoint | None
    key: str = ""
    seal: bytes = field(default=b"", repr=False)

    def signed_text(self) -> bytes:
        """What ``seal`` is a signature of."""
        newest = "-" if self.newest is None else str(self.newest)
        return f"{SEAL} {self.lines} {self.sha256} {self.key} {newest}".encode("ascii", "replace")


Line = Header | Link | Checkpoint | End


def of_record(text: str, link: str) -> bytes:
    """A link with its record."""
    return b'{"hash":"%b","record":%b}\n' % (
        link.encode("ascii", "replace"),
        text.encode("utf-8", "replace"),
    )


def of_link(seq: int, record_hash: str, link: str) -> bytes:
    """A link whose record is not for whoever gets the export."""
    return b'{"hash":"%b","record_hash":"%b","seq":%d}\n' % (
        link.encode("ascii", "replace"),
        record_hash.encode("ascii", "replace"),
        seq,
    )


def of_checkpoint(one: Checkpoint) -> bytes:
    """A checkpoint."""
    return b'{"checkpoint":"%b"}\n' % str(one).encode("ascii", "replace")


class Signer(Protocol):
    """What signs an export."""

    @property
    def key(self) -> str:
        """Its fingerprint."""

    def seal(self, text: bytes) -> bytes:
        """Ed25519, 64 bytes."""


class Tally:
    """Counts and hashes lines, for the last one."""

    def __init__(self) -> None:
        self.lines = 0
        self._digest = hashlib.sha256()

    def add(self, line: bytes) -> bytes:
        """The same line."""
        self.lines += 1
        self._digest.update(line)
        return line

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def end(self, newest: Checkpoint | None, signer: Signer | None) -> bytes:
        """The last line."""
        end = End(self.lines, self.sha256, newest)
        if signer is not None:
            end = replace(end, key=signer.key)
            end = replace(end, seal=signer.seal(end.signed_text()))
        return _end(end)


def read(source: IO[bytes]) -> Iterator[tuple[int, Line]]:
    """The lines of an export with their numbers, each of which has its exact form.

    The last one was compared with all others when it comes. Raises MalformedError or
    LimitExceededError with the number of the line, UnsupportedError for another version.
    """
    tally = Tally()
    number = 0
    while True:
        number += 1
        line = source.readline(MAX_LINE + 1)
        if not line.endswith(b"\n"):
            if len(line) > MAX_LINE:
                raise LimitExceededError(
                    f"line {number} of {_WHAT} is over the limit of {MAX_LINE} bytes"
                )
            what = "ends within" if line else "ends before"
            raise MalformedError(f"{_WHAT} is cut off: it {what} line {number}")
        found = _header(line) if number == 1 else _parse(line, number)
        if isinstance(found, End):
            if (found.lines, found.sha256) != (tally.lines, tally.sha256):
                raise MalformedError(f"{_WHAT}'s last line, {number}, does not fit to the others")
            if source.read(1):
                raise MalformedError(f"{_WHAT} goes on after its last line, {number}")
            yield number, found
            return
        tally.add(line)
        yield number, found


def _parse(line: bytes, number: int) -> Line:
    """Every line but the first."""
    match = _LINK.fullmatch(line)
    if match is not None:
        return Link(int(match[3]), None, match[2].decode(), match[1].decode())
    match = _RECORD.fullmatch(line)
    if match is not None:
        try:
            text = match[2].decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedError(f"line {number} of {_WHAT} is not UTF-8 text") from None
        return Link(None, text, record.record_hash(text), match[1].decode())
    match = _CHECKPOINT.fullmatch(line)
    if match is not None:
        return Checkpoint.parse(match[1].decode("ascii"))
    if line.startswith(b'{"end":'):
        return _parse_end(line, number)
    raise MalformedError(f"line {number} of {_WHAT} has none of the forms that it can have")


def _header(line: bytes) -> Header:
    document = strictjson.load_object(line, f"line 1 of {_WHAT}", max_bytes=4096)
    kind = document.get("boltseal")
    if not isinstance(kind, str) or not kind.startswith(FAMILY):
        raise MalformedError("this is no export of a broker's audit")
    if kind != KIND:
        raise UnsupportedError(
            f"{_WHAT} is of version {kind.removeprefix(FAMILY)[:20]!a}, and only 1 is known here",
            hint="verify it with a newer version of Boltseal",
        )
    found = Header(
        _text(document.get("broker")),
        None if document.get("tenant") is None else _text(document["tenant"]),
        _number(document.get("start"), 1),
        None if document.get("end") is None else _number(document["end"], 0),
        _text(document.get("previous")),
        _number(document.get("time"), 0),
    )
    names = (found.broker, found.tenant or "")
    if not all(map(_NAME.fullmatch, names)) or not _HASH.fullmatch(found.previous):
        raise MalformedError(f"line 1 of {_WHAT} has something else where a name should be")
    if found.encode() != line:
        raise MalformedError(f"line 1 of {_WHAT} is not as it is written")
    return found


def _parse_end(line: bytes, number: int) -> End:
    document = strictjson.load_object(line, f"line {number} of {_WHAT}", max_bytes=4096)["end"]
    if not isinstance(document, dict):
        raise MalformedError(f"line {number} of {_WHAT} is not as it is written")
    newest = document.get("newest")
    found = End(
        _number(document.get("lines"), 1),
        _text(document.get("sha256")),
        None if newest is None else Checkpoint.parse(_text(newest)),
        _text(document.get("key")),
        b64.decode(_text(document.get("seal")), f"the signature of {_WHAT}"),
    )
    if _end(found) != line:
        raise MalformedError(f"line {number} of {_WHAT} is not as it is written")
    return found


def _end(one: End) -> bytes:
    newest = None if one.newest is None else str(one.newest)
    end = {
        "key": one.key,
        "lines": one.lines,
        "newest": newest,
        "seal": b64.encode(one.seal),
        "sha256": one.sha256,
    }
    return _line({"end": end})


def _line(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > checkpoint.MAX_LINE:
        raise MalformedError(f"{_WHAT} has something else where a text should be")
    return value


def _number(value: Any, least: int) -> int:
    if type(value) is not int or not least <= value < 2**63:
        raise MalformedError(f"{_WHAT} has something else where a number should be")
    return value
