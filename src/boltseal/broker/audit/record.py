"""One link of the audit's chain, byte for byte.

A record is canonical JSON: members sorted, ASCII, no spaces. Its hash is SHA-256 over its bytes,
and the link's hash is SHA-256 over the ASCII text ``boltseal audit/1``, the previous link's hash
(32 bytes; zeros before the first), the record's hash (32 bytes) and the sequence number (8 bytes,
big endian). So whoever has one tenant's records, and of all others only the hashes, can follow the
whole chain; a random salt in each record keeps them from finding out by guessing what a hash is of.
Hashes are written as 64 hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Final, NamedTuple

from boltseal._io import strictjson
from boltseal.broker.model import AuditEntry
from boltseal.errors import LimitExceededError, MalformedError

VERSION: Final = 1
GENESIS: Final = "0" * 64  # what the first link hangs on
MAX_RECORD_BYTES: Final = 128 * 1024
MAX_REASON: Final = 1000  # characters
_MARK = b"boltseal audit/1"
_SALT_BYTES = 16
_WHAT = "the audit record"
_NOT_JSON = f"{_WHAT} has details that cannot be written as JSON"
_TEXTS = ("actor", "image", "kind", "outcome", "request", "salt", "subject", "tenant")
_MEMBERS = {*_TEXTS, "details", "seq", "time", "v"}
_MAX_SEQ = 2**63 - 1
COLUMNS: Final = (
    *("time", "tenant", "kind", "outcome", "actor", "subject", "image_digest", "request"),
)
Row = tuple[int, str, str, str, str, str, str, str]  # in their order
_WORDS = 512
# how much of each but the first the columns take; the record itself has all of it
_WIDTHS = (63, 32, 16, _WORDS, _WORDS, 160, 64)
canonical: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False
).encode  # of any value
quote: Final = json.encoder.encode_basestring_ascii  # the same of a text, many times faster


class Prepared(NamedTuple):
    """An entry that can become a record: only its place in the chain is missing.

    Preparing finds what cannot be written before any transaction has it, so that one bad entry
    does not undo those of others. Plain texts and numbers: it may come from another process.
    """

    row: Row
    before: str
    after: str

    def record(self, seq: int) -> str:
        """The record's text at this place."""
        return f"{self.before}{seq}{self.after}"

    def values(self) -> Row:
        """What the table has beside the record, in the order of COLUMNS."""
        return self.row

    def columns(self) -> dict[str, str | int]:
        """The same by their names."""
        return dict(zip(COLUMNS, self.row, strict=True))


def columns(entry: AuditEntry) -> dict[str, str | int]:
    """What the table has beside the record, for searching: printable and cut to its width."""
    return dict(zip(COLUMNS, _cut(_row(entry)), strict=True))


def prepare(entry: AuditEntry) -> Prepared:
    """Raises LimitExceededError over MAX_RECORD_BYTES, MalformedError for what JSON has not."""
    try:
        details = canonical(entry.details)
    except (TypeError, ValueError, RecursionError):
        raise MalformedError(_NOT_JSON) from None
    return write(_row(entry), details)


def write(row: Row, details: str) -> Prepared:
    """The same from ``details`` that are in canonical JSON already. Raises as :func:`prepare`."""
    time, tenant, kind, outcome, actor, subject, image_digest, request = row
    salt = os.urandom(_SALT_BYTES).hex()
    try:
        before = (
            f'{{"actor":{quote(actor)},"details":{details},"image":{quote(image_digest)}'
            f',"kind":{quote(kind)},"outcome":{quote(outcome)},"request":{quote(request)}'
            f',"salt":"{salt}","seq":'
        )
        after = (
            f',"subject":{quote(subject)},"tenant":{quote(tenant)},"time":{int.__repr__(time)}'
            f',"v":{VERSION}}}'
        )
        if "\\" in before or "\\" in after:
            _refuse_halves(f"{before}0{after}")
    except (TypeError, ValueError, RecursionError):
        raise MalformedError(_NOT_JSON) from None
    if len(before) + len(after) > MAX_RECORD_BYTES - 64:
        raise LimitExceededError(f"{_WHAT} is over the limit of {MAX_RECORD_BYTES} bytes")
    return Prepared(_cut(row), before, after)


def refuse(allowed: Prepared, code: str, detail: str) -> Prepared:
    """The record of the same request when it is refused after all, with another salt."""
    document = json.loads(allowed.record(0))
    found = {**document["details"], "code": code, "reason": detail[:MAX_REASON]}
    return prepare(
        AuditEntry(
            time=document["time"],
            tenant=document["tenant"],
            kind=document["kind"],
            outcome="refused",
            actor=document["actor"],
            subject=document["subject"],
            image_digest=document["image"],
            request=document["request"],
            details=found,
        )
    )


def parse(text: str) -> tuple[int, AuditEntry]:
    """Sequence number and entry of a record. Raises MalformedError or LimitExceededError.

    Only the canonical form is read: two texts of one record would have two hashes.
    """
    raw = text.encode("utf-8", "replace")
    document = strictjson.load_object(raw, _WHAT, max_bytes=MAX_RECORD_BYTES)
    if set(document) != _MEMBERS or not all(isinstance(document[one], str) for one in _TEXTS):
        raise MalformedError(f"{_WHAT} does not have the members it should have")
    numbers = [document[one] for one in ("v", "seq", "time")]
    if not all(type(one) is int and 0 <= one <= _MAX_SEQ for one in numbers):
        raise MalformedError(f"{_WHAT} has a number that is none")
    if document["v"] != VERSION or not isinstance(document["details"], dict):
        raise MalformedError(f"{_WHAT} is of a version that is not known here")
    if canonical(document) != text:
        raise MalformedError(f"{_WHAT} is not in its canonical form")
    entry = AuditEntry(
        time=document["time"],
        tenant=document["tenant"],
        kind=document["kind"],
        outcome=document["outcome"],
        actor=document["actor"],
        subject=document["subject"],
        image_digest=document["image"],
        request=document["request"],
        details=document["details"],
    )
    return document["seq"], entry


def record_hash(text: str) -> str:
    """SHA-256 of a record."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def link_hash(previous: str, hashed: str, seq: int) -> str:
    """The hash of link ``seq``, from the hashes of the link before it and of its record."""
    joined = _MARK + bytes.fromhex(previous) + bytes.fromhex(hashed) + seq.to_bytes(8, "big")
    return hashlib.sha256(joined).hexdigest()


def _refuse_halves(text: str) -> None:
    """Of surrogate pairs: they could not be read again. Raises ValueError."""
    if "\\ud" in text:
        json.dumps(json.loads(text), ensure_ascii=False).encode()


def _row(entry: AuditEntry) -> Row:
    of_whom = (entry.tenant, entry.kind, entry.outcome, entry.actor, entry.subject)
    return (entry.time, *of_whom, entry.image_digest, entry.request)


def _cut(row: Row) -> Row:
    """Printable, and as wide as the columns."""
    time, *texts = row
    return (time, *map(_plain, texts, _WIDTHS))  # type: ignore[return-value]


def _plain(text: str, width: int) -> str:
    if len(text) <= width and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text[:width])
