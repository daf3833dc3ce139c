"""Following the chain link by link, and comparing it with checkpoints: what all verifying rests on.

The first thing that is wrong ends it: whatever comes after hangs on that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from boltseal.broker.audit import record
from boltseal.broker.audit.checkpoint import is_signature
from boltseal.broker.audit.succession import Succession
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from boltseal.broker.audit.checkpoint import Checkpoint
    from boltseal.broker.model import AuditEntry

_KEPT = "a checkpoint that was kept"
_VERSION = re.compile(r'"v":([0-9]{1,9})\}\Z')  # the last member


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where.

    ``code`` is one of ``changed`` (a record or its link), ``gap``, ``duplicate``, ``order``,
    ``truncated``, ``rewritten`` (it holds together, and a signature says it was otherwise),
    ``forged`` (a signature is wrong), ``foreign`` (another broker's, or an unknown key's),
    ``replayed`` (an older checkpoint in a newer one's place), ``version``, ``malformed``.
    ``seq`` is the first link that is wrong, ``line`` that of the file.
    """

    code: str
    message: str
    seq: int | None = None
    line: int | None = None


class FoundError(Exception):
    """Ends the following."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was verified. It is as good as its keys: signatures count only for those."""

    finding: Finding | None
    start: int  # the first link that was followed
    last: int  # the last one that is right; one less than ``start`` for none
    hash: str  # of the last one
    records: int  # links with their record
    links: int  # links with its hash alone
    checkpoints: int  # that are signed, and fit
    signed: int  # up to which link a checkpoint signs; 0 for none
    compared: tuple[int, ...] = ()  # kept checkpoints that were compared
    outside: tuple[int, ...] = ()  # kept checkpoints of links that are not in this export
    tenant: str | None = None
    broker: str = ""
    sealed: bool = False  # an export that the broker signed as a whole

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding is None

    @property
    def unsigned(self) -> int:
        """Links at the end that no checkpoint signs yet: those can be changed unseen."""
        return max(0, self.last - max(self.signed, self.start - 1))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is right and yet proves less than it might, one sentence each."""
        found = []
        if self.ok and self.unsigned:
            found.append(
                f"no checkpoint signs the last {self.unsigned} records yet: they could be changed "
                "unseen"
            )
        if self.ok and self.tenant is not None and not self.sealed:
            found.append(
                "the broker did not sign this export as a whole: records of the tenant could be "
                "hidden in it among those of others"
            )
        if self.outside:
            numbers = ", ".join(map(str, self.outside[:10]))
            found.append(f"kept checkpoints of records that are not in this export: {numbers}")
        return tuple(found)


@dataclass(slots=True)
class Follower:
    """``kept`` are checkpoints from elsewhere that have to fit. Raises FoundError from each step.

    ``keys`` are public keys by fingerprint, to which those are added that the chain names and one
    of them has signed; ``broker`` is which one it has to be, once it is known.
    """

    keys: Mapping[str, Ed25519PublicKey]
    kept: Sequence[Checkpoint] = ()
    tenant: str | None = None
    broker: str = ""
    start: int = 1
    seq: int = 0
    hash: str = record.GENESIS
    records: int = 0
    links: int = 0
    checkpoints: int = 0
    signed: int = 0
    sealed: bool = False
    line: int | None = None
    compared: list[int] = field(default_factory=list)
    _kept: dict[int, Checkpoint] = field(default_factory=dict)
    _succession: Succession = field(default_factory=Succession)
    _last_checkpoint: int = 0

    def begin(self, start: int, previous: str) -> None:
        """Before the first link. Kept checkpoints have to be signed and to agree."""
        self.start, self.seq, self.hash = start, start - 1, previous
        if start == 1 and previous != record.GENESIS:
            self.fail("changed", "the first link does not begin the chain", 1)
        for one in self.kept:
            if one.key in self.keys:  # or the chain may name it
                self.check_signature(one, _KEPT)
            other = self._kept.setdefault(one.seq, one)
            if other.hash != one.hash:
                self.fail(
                    "rewritten",
                    f"two checkpoints that were kept sign two different links {one.seq}: "
                    "the broker has had two histories",
                    one.seq,
                )
        if start - 1 in self._kept:
            self._compare(start - 1)

    def record(self, text: str, link: str) -> AuditEntry:
        """A link with its record."""
        self._next(record.record_hash(text), link)
        try:
            seq, entry = record.parse(text)
        except BoltsealError as error:
            version = _VERSION.search(text)
            is_known = version is None or int(version[1]) == record.VERSION
            code = "malformed" if is_known else "version"
            self.fail(code, f"record {self.seq}: {error.message}", self.seq)
        if seq != self.seq:
            self.fail("order", f"record {seq} stands where {self.seq} should", self.seq)
        self.records += 1
        self._succession.note(seq, entry)
        return entry

    def link(self, hashed: str, link: str) -> None:
        """A link with its record's hash alone."""
        self._next(hashed, link)
        self.links += 1

    def place(self, seq: int) -> None:
        """What a link says its number is, before the link itself."""
        expected = self.seq + 1
        if seq == expected:
            return
        if seq > expected:
            missing = str(expected) if seq == expected + 1 else f"{expected} to {seq - 1}"
            self.fail("gap", f"after record {self.seq} comes {seq}: {missing} missing", expected)
        if seq == self.seq >= self.start:
            self.fail("duplicate", f"record {seq} is there twice", seq)
        self.fail("order", f"record {seq} comes after record {self.seq}", expected)

    def checkpoint(self, one: Checkpoint) -> None:
        """A checkpoint that came with the chain, after the link that it signs."""
        if one.seq <= self._last_checkpoint:
            self.fail(
                "replayed",
                f"a checkpoint of record {one.seq} comes after that of {self._last_checkpoint}",
                one.seq,
            )
        self.check_signature(one, "the checkpoint")
        if one.seq != self.seq:
            code = "truncated" if one.seq > self.seq else "replayed"
            self.fail(code, f"a checkpoint of record {one.seq} comes after {self.seq}", one.seq)
        if one.hash != self.hash:
            self._rewritten(one)
        replaced = self._succession.replaced(one.key, one.seq)
        if replaced is not None:
            self.fail(
                "forged",
                f"the checkpoint of record {one.seq} is of an audit key that record {replaced} "
                "replaced: whoever has that key may have made it",
                one.seq,
            )
        self._last_checkpoint = self.signed = one.seq
        self.checkpoints += 1
        self.keys = self._succession.known(self.keys, one.seq)

    def seal(self, key: str, signature: bytes, text: bytes) -> None:
        """The signature under an export as a whole; none is no error."""
        if not key and not signature:
            return
        if key not in self.keys:
            self.fail("foreign", "the export is signed with a key that was not given")
        if not is_signature(self.keys[key], signature, text):
            self.fail("forged", "the signature under the export is wrong")
        self.sealed = True

    def newest(self, one: Checkpoint, *, complete: bool) -> None:
        """The newest checkpoint that the broker had when it made the export."""
        self.check_signature(one, "the newest checkpoint")
        if one.seq < self._last_checkpoint:
            self.fail(
                "replayed",
                f"the newest checkpoint is said to be that of record {one.seq}, and there is one "
                f"of {self._last_checkpoint}",
                one.seq,
            )
        if one.seq == self.seq and one.hash != self.hash:
            self._rewritten(one)
        if complete and one.seq > self.seq:
            self.fail(
                "truncated",
                f"the newest checkpoint signs record {one.seq}, and the audit ends with {self.seq}",
                self.seq + 1,
            )

    def check_signature(self, one: Checkpoint, what: str) -> None:
        """Known key, right signature, the same broker as the others'."""
        if one.key not in self.keys:
            self.fail("foreign", f"{what} of record {one.seq} is of a key not given", one.seq)
        if not one.is_signed(self.keys):
            self.fail("forged", f"{what} of record {one.seq} has a wrong signature", one.seq)
        self.broker = self.broker or one.broker
        if one.broker != self.broker:
            self.fail("foreign", f"{what} of record {one.seq} is of broker {one.broker}", one.seq)

    def end(self, *, complete: bool) -> None:
        """After the last link. ``complete``: the chain is said not to go on after it."""
        for one in self._kept.values():
            self.check_signature(one, _KEPT)
        beyond = [seq for seq in self._kept if seq > self.seq]
        if complete and beyond:
            self.fail(
                "truncated",
                f"a checkpoint that was kept signs record {min(beyond)}, and the audit ends with "
                f"{self.seq}",
                self.seq + 1,
            )

    def verdict(self, finding: Finding | None) -> Verdict:
        """What is known so far."""
        return Verdict(
            finding,
            self.start,
            self.seq,
            self.hash,
            self.records,
            self.links,
            self.checkpoints,
            self.signed,
            tuple(self.compared),
            tuple(sorted(set(self._kept) - set(self.compared))) if finding is None else (),
            self.tenant,
            self.broker,
            self.sealed,
        )

    def fail(self, code: str, message: str, seq: int | None = None) -> NoReturn:
        """Raises FoundError."""
        raise FoundError(Finding(code, message, seq, self.line))

    def _next(self, hashed: str, link: str) -> None:
        seq = self.seq + 1
        if record.link_hash(self.hash, hashed, seq) != link:
            self.fail("changed", f"record {seq} or its link was changed: its hash is another", seq)
        self.seq, self.hash = seq, link
        if seq in self._kept:
            self._compare(seq)

    def _compare(self, seq: int) -> None:
        one = self._kept[seq]
        self.check_signature(one, _KEPT)
        if one.hash != self.hash:
            self._rewritten(one)
        self.compared.append(seq)
        self.signed = max(self.signed, seq)

    def _rewritten(self, one: Checkpoint) -> NoReturn:
        since = f"after record {self.signed}" if self.signed else "from the beginning"
        self.fail(
            "rewritten",
            f"the checkpoint of record {one.seq} signs another history: something {since}, up to "
            f"record {one.seq}, was changed and all hashes were computed anew",
            max(self.signed + 1, self.start),
        )
