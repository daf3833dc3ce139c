"""A claim on a tag: how two writers of one tag of a registry keep out of each other's way.

The Distribution API reads a tag and writes a tag, and cannot compare and write in one step. So who
changes a tag in place first writes a *claim*, a tiny index without entries, under another tag that
belongs to it. That tag works as a register which everybody can read and write::

    1. read the claim tag: somebody else's claim of late means leave it to him
    2. write our claim, with a random number that only this change has
    3. wait: ``Pace.wait`` seconds
    4. read the claim tag: another claim than ours means that somebody came after us
    5. compare the image's tag with what was read, and write it
    6. take the claim back

What makes it safe is that steps 4 and 5 take no longer (``Pace.change``) than anybody ever waits
in step 3: that is measured, and where it took longer, or the pace is slow, the claim has to be ours
still after step 5. docs/adr/0013-claims.md has the proof, which needs no clock that two machines
share and nothing about how fast the network is. The time in a claim, which is the registry's own,
only says when a claim of somebody who was killed is passed over.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal._io.retry import ATTEMPTS, MAX_ASKED_SECONDS, pause
from boltseal.errors import (
    BoltsealError,
    ConflictError,
    MalformedError,
    RegistryError,
    TransientError,
)
from boltseal.spec import mediatypes
from boltseal.spec.digest import Digest
from boltseal.transports.registry import manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.transports.registry.client import Repository

PREFIX = "boltseal-claim-"
EMPTY = b"{}"  # the blob of an artifact that is its annotations alone
_MAX_BYTES = 16 * 1024  # of a claim
_MARK = "org.boltseal.claim"  # its random number, or that it is free
_FREE = "released"
_TAG, _PACE, _TIME = f"{_MARK}.tag", f"{_MARK}.pace", f"{_MARK}.time"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take with a registry, in seconds.

    ``wait`` is from the answer for a claim to the second look at it. ``change`` is from the begin
    of that look to the answer for the tag; no pace's ``change`` that goes without a last look may
    ever be longer than the shortest ``wait`` of any version. ``life`` is how long others leave
    the claim alone.
    """

    name: str
    wait: float
    change: float
    life: float


QUICK = Pace("quick", wait=0.25, change=0.2, life=3)
SLOW = Pace("slow", wait=4, change=3, life=12)


class RefusedError(Exception):
    """The registry does not take claims; ``args[0]`` is what it said."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is under a claim tag, and for how many seconds yet others leave it alone."""

    mark: str | None  # None where nothing is
    pace: Pace
    left: float

    @property
    def is_free(self) -> bool:
        """Whether nobody holds the tag."""
        return self.mark in (None, _FREE)


def now() -> float:
    """Seconds on a clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def claim_tag(tag: str) -> str:
    """The tag that holds the claims on another tag."""
    return PREFIX + hashlib.sha256(tag.encode()).hexdigest()[:16]


class Claim:
    """One change's claim on a tag. ``put_empty`` makes the blob EMPTY be there."""

    def __init__(self, repository: Repository, tag: str, put_empty: Callable[[], object]) -> None:
        self.pace = QUICK
        self.doubts = 0  # writes of the tag of which it is not known what became of them
        self._repository = repository
        self._of = tag
        self._tag = claim_tag(tag)
        # One for each request: what arrives late must not look like what was written last.
        self._marks: list[str] = []
        self._failures = 0
        self._put_empty = put_empty
        self._as_index = True
        self._written: Digest | None = None

    def take(self) -> None:
        """Steps 1 to 3.

        Raises ConflictError when somebody else holds the tag, RefusedError when the registry takes
        no claims.
        """
        late = 0  # once may be chance, twice is how this registry is
        while True:
            begin = now()
            seen, date = self._read()
            self._respect(seen)
            if not seen.is_free and seen.pace.wait > self.pace.wait:
                self.pace = seen.pace  # he may be at work yet, so he gets his time
            if self.pace is QUICK and now() - begin > QUICK.change / 2:
                late += 1
                if late == 1:
                    continue
                self.pace = SLOW
            begin = now()
            if not self._write(date):
                continue
            if self.pace is SLOW or now() - begin <= QUICK.change:
                break
            late += 1
            if late > 1:
                self.pace = SLOW
        time.sleep(self.pace.wait)

    def is_mine(self) -> bool:
        """Step 4: whether nobody else has written a claim since ours."""
        return self._read()[0].mark == self._marks[-1]

    def release(self) -> None:
        """Step 6: others need not wait for the claim's end. What cannot be done is left to that.

        Nor is anything done while the tag may be written yet. Where a registry deletes nothing, a
        mark stays that says that nobody holds the tag.
        """
        if self._written is None or self.doubts:
            return
        try:
            gone = manifests.delete(self._repository, self._written, attempts=3)
        except TransientError:
            return
        except BoltsealError:
            gone = False
        try:
            if not gone and self.is_mine():
                self._put({_MARK: _FREE, _TAG: self._of})
        except BoltsealError:
            pass

    def _respect(self, seen: Seen) -> None:
        if seen.is_free or seen.mark in self._marks or seen.left <= 0:
            return
        seconds = int(seen.left) + 1
        raise ConflictError(
            f"somebody else is changing the tag {self._of} right now; nothing was changed here",
            hint=f"run it again; if they were stopped on the way, in {seconds} seconds",
        )

    def _read(self) -> tuple[Seen, str]:
        """Step 1: what is there, and the registry's time."""
        try:
            raw, headers = manifests.peek(self._repository, self._tag, _MAX_BYTES)
        except TransientError:
            raise
        except RegistryError as error:
            if self._written is None:
                raise RefusedError(error.message) from None
            raise
        date = headers.get("date", "")
        return _parsed(raw, _moment(date), self._tag), date

    def _write(self, date: str) -> bool:
        """Step 2; False when it is to be tried again after another look, maybe in another form."""
        moment = _moment(date)
        self._marks.append(secrets.token_hex(16))
        notes = {_MARK: self._marks[-1], _TAG: self._of, _PACE: self.pace.name}
        if moment is not None:
            notes[_TIME] = moment.isoformat()
        try:
            self._written = self._put(notes)
        except TransientError as error:
            self._failures += 1
            if self._failures >= ATTEMPTS or (error.wait or 0) > MAX_ASKED_SECONDS:
                raise
            time.sleep(pause(self._failures, error.wait))
            return False
        except RegistryError as error:
            if not self._as_index or error.status in (401, 403):
                raise RefusedError(error.message) from None
            self._as_index = False
            return False
        return True

    def _put(self, notes: Mapping[str, str]) -> Digest:
        if not self._as_index:
            self._put_empty()
        kind = mediatypes.OCI_INDEX if self._as_index else mediatypes.OCI_MANIFEST
        raw = _document(notes, as_index=self._as_index)
        manifests.put(self._repository, self._tag, raw, kind, attempts=1)
        return Digest.of(raw)


def _document(notes: Mapping[str, str], *, as_index: bool) -> bytes:
    """An index without entries, or the artifact without content of the image specification."""
    document: dict[str, Any]
    if as_index:
        document = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": []}
    else:
        kind = "application/vnd.oci.empty.v1+json"
        empty = {"mediaType": kind, "digest": str(Digest.of(EMPTY)), "size": len(EMPTY)}
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "artifactType": "application/vnd.boltseal.claim.v1",
            "config": empty,
            "layers": [empty],
        }
    return json.dumps({**document, "annotations": dict(notes)}).encode()


def _parsed(raw: bytes | None, moment: dt.datetime | None, tag: str) -> Seen:
    if raw is None:
        return Seen(None, QUICK, 0)
    notes: Any = None
    try:
        document = strictjson.load_object(raw, "a claim", max_bytes=_MAX_BYTES)
        notes = document.get("annotations")
    except BoltsealError:
        pass
    mark = notes.get(_MARK) if isinstance(notes, dict) else None
    if not isinstance(mark, str):
        raise MalformedError(
            f"the tag {tag} is there and is no claim",
            hint="delete that tag, or change the image with --no-claim",
        )
    pace = QUICK if notes.get(_PACE) == QUICK.name else SLOW
    return Seen(mark, pace, _left(notes.get(_TIME), moment, pace))


def _left(stated: object, moment: dt.datetime | None, pace: Pace) -> float:
    """Seconds of life; none where the registry tells no time, which costs nobody his change."""
    try:
        begin = dt.datetime.fromisoformat(stated if isinstance(stated, str) else "")
        if moment is None:
            return 0
        age = (moment - begin).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0
    return pace.life - age if -pace.life < age else 0  # nor is a time to come any


def _moment(date: str) -> dt.datetime | None:
    """The time of a ``Date`` header (RFC 9110 6.6.1)."""
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None
