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
from dataclasses import dataclass, field
from typing import Any, Final

from boltseal._io import strictjson
from boltseal.broker.model import AuditEntry
from boltseal.errors import LimitExceededError, MalformedError

VERSION: Final = 1
GENESIS: Final = "0" * 64  # what the first link hangs on
MAX_RECORD_BYTES: Final = 128 * 1024
MAX_REASON: Final = 1000  # characters
_MARK = b"boltseal audit/1"
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_SALT_BYTES = 16
_WHAT = "the audit record"
_TEXTS = ("actor", "image", "kind", "outcome", "request", "salt", "subject", "tenant")
_MEMBERS = {*_TEXTS, "details", "seq", "time", "v"}
_MAX_SEQ = 2**63 - 1
COLUMNS: Final = (
    *("time", "tenant", "kind", "outcome", "actor", "subject", "image_digest", "request"),
)
# how much of each the table's columns take; the record itself has all of it
_WIDTH = {"tenant": 63, "kind": 32, "outcome": 16, "request": 64, "image_digest": 160}
_WORDS = 512


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry that can become a record: only its place in the chain is missing.

    Preparing finds what cannot be written before any transaction has it, so that one bad entry
    does not undo those of others.
    """

    entry: AuditEntry
    _before: str = field(repr=False)
    _after: str = field(repr=False)

    def record(self, seq: int) -> str:
        """The record's text at this place."""
        return f"{self._before}{seq}{self._after}"

    def columns(self) -> dict[str, str | int]:
        """What the table has beside the record, for searching: printable and cut to its width."""
        return dict(zip(COLUMNS, self.values(), strict=True))

    def values(self) -> tuple[str | int, ...]:
        """The same, in the order of COLUMNS."""
        entry = self.entry
        return (
            entry.time,
            _plain(entry.tenant, "tenant"),
            _plain(entry.kind, "kind"),
            _plain(entry.outcome, "outcome"),
            _plain(entry.actor, "actor"),
            _plain(entry.subject, "subject"),
            _plain(entry.image_digest, "image_digest"),
            _plain(entry.request, "request"),
        )


def prepare(entry: AuditEntry) -> Prepared:
    """Raises LimitExceededError over MAX_RECORD_BYTES, MalformedError for what JSON has not."""
    head = {
        "actor": entry.actor,
        "details": entry.details,
        "image": entry.image_digest,
        "kind": entry.kind,
        "outcome": entry.outcome,
        "request": entry.request,
        "salt": os.urandom(_SALT_BYTES).hex(),
    }
    tail = {
        "subject": entry.subject,
        "tenant": entry.tenant,
        "time": entry.time,
        "v": VERSION,
    }
    try:
        before, after = _canonical(head), _canonical(tail)
        if "\\ud" in before or "\\ud" in after:  # half a surrogate pair could not be read again
            json.dumps([head, tail], ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise MalformedError(f"{_WHAT} has details that cannot be written as JSON") from None
    if len(before) + len(after) > MAX_RECORD_BYTES - 64:
        raise LimitExceededError(f"{_WHAT} is over the limit of {MAX_RECORD_BYTES} bytes")
    return Prepared(entry, f'{before[:-1]},"seq":', f",{after[1:]}")


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
    if _canonical(document) != text:
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


def _canonical(document: Any) -> str:
    return _ENCODE(document)


def _plain(text: str, column: str) -> str:
    text = text[: _WIDTH.get(column, _WORDS)]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
