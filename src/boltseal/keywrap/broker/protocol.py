"""What a host and a key broker say to each other: ``POST /v1/release``, byte for byte.

Both sides use this module, so that what one writes is what the other reads. The host sends the
wrapped key with a fresh public key; the broker answers with that one layer's private options,
sealed to it (module ``sealing``). ADR 0026 has the reasons.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from boltseal._io import b64, strictjson
from boltseal.errors import MalformedError
from boltseal.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
PATH: Final = "/v1/release"
HEALTH: Final = "/healthz"  # whose answer tells the time
MAX_REQUEST_BYTES: Final = 256 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_PACKET_BYTES: Final = 128 * 1024  # of the packet inside a request
MAX_SECRET_BYTES: Final = 16 * 1024  # of one layer's private options
MAX_EVIDENCE: Final = 4  # documents of one request
MAX_EVIDENCE_BYTES: Final = 64 * 1024  # of one of them
MAX_NAME: Final = 512  # characters of an image's name
MAX_VERSION: Final = 2**31 - 1
TIME_WINDOW: Final = 60  # seconds that the two clocks may differ
XWING: Final = "MLKEM768-X25519"
X25519: Final = "X25519"
STATUS: Final[Mapping[str, int]] = {
    "malformed": 400,
    "expired": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "revoked": 403,
    "disabled": 403,
    "not-found": 404,
    "replayed": 409,
    "conflict": 409,
    "too-large": 413,
    "limited": 429,
    "unavailable": 503,
}
MESSAGES: Final[Mapping[str, str]] = {
    "malformed": "the request is not what it has to be",
    "expired": "the request's time is too far from the broker's",
    "unauthenticated": "the broker does not know who asks",
    "forbidden": "this is not allowed",
    "revoked": "the identity or its credential is revoked",
    "disabled": "this version of the key is not in use",
    "not-found": "there is no such key or version",
    "replayed": "a request with this nonce was there before",
    "conflict": "somebody else changed the same thing meanwhile",
    "too-large": "the request is too large",
    "limited": "too many requests",
    "unavailable": "the broker cannot answer just now",
}
_WHAT = "the release request"
_quote = json.encoder.encode_basestring_ascii
_ANSWER = "the broker's answer"
_TAG_BYTES = 16
_PUBLIC_BYTES = {XWING: 1216, X25519: 32}
_ENCAPSULATED_BYTES = {XWING: 1120, X25519: 32}
_PART = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
KEY = re.compile(rf"{_PART}/{_PART}/{_PART}")
PLATFORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:+-]{0,127}")
_KIND = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_ID = re.compile(r"[0-9a-z]{16,40}")
_CODE = re.compile(r"[a-z][a-z-]{0,31}")
_NEEDED = frozenset(("v", "nonce", "time", "key", "version", "packet", "kem", "hpke"))
_MEMBERS = _NEEDED | {"image", "layer", "platform", "evidence"}
_OF_IMAGE = frozenset(("name", "digest"))
_ANSWER_MEMBERS = frozenset(("v", "request", "time", "kem", "sealed"))
_MAX_KEPT = 512  # packets that stay decoded: 6 MiB at most
_MAX_KEPT_PACKET = 6 * 1024  # characters


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What a host asks: one packet's secret, for a fresh public key.

    ``image_name``, both digests and the platform are what the host says of itself.
    """

    key: str  # tenant/project/name
    version: int
    packet: bytes = field(repr=False)  # as it is in the image's annotation
    kem: str
    public: bytes = field(repr=False)  # the fresh key: 1,216 bytes of X-Wing, or 32 of X25519
    time: int  # seconds since 1970
    nonce: bytes  # 16 to 32 random bytes
    image_name: str | None = None
    image_digest: str | None = None
    layer: str | None = None  # the encrypted layer's digest
    platform: str | None = None
    evidence: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    def encode(self) -> bytes:
        """The body, every byte of which the answer is bound to."""
        document: dict[str, Any] = {
            "v": VERSION,
            "nonce": b64.encode(self.nonce),
            "time": self.time,
            "key": self.key,
            "version": self.version,
            "packet": b64.encode(self.packet),
            "kem": self.kem,
            "hpke": b64.encode(self.public),
        }
        image = {"name": self.image_name, "digest": self.image_digest}
        image = {name: value for name, value in image.items() if value is not None}
        if image:
            document["image"] = image
        if self.layer is not None:
            document["layer"] = self.layer
        if self.platform is not None:
            document["platform"] = self.platform
        if self.evidence:
            document["evidence"] = [
                {"kind": kind, "document": b64.encode(one)} for kind, one in self.evidence
            ]
        raw = _dump(document)
        parse_request(raw)  # nothing leaves that the other side would not read
        return raw

    @property
    def evidence_nonce(self) -> bytes:
        """What a document of evidence has to contain: it is for this request and this key."""
        text = b"boltseal broker evidence/1 "
        return hashlib.sha256(text + hashlib.sha256(self.nonce).digest() + self.public).digest()


@dataclass(frozen=True, slots=True)
class ReleaseAnswer:
    """One layer's private options, sealed to the request's key."""

    request: str  # its id, which the audit record has too
    time: int  # the broker's, seconds since 1970
    kem: str
    sealed: bytes = field(repr=False)  # encapsulated key and ciphertext

    def encode(self) -> bytes:
        """The body of a 200."""
        # as the JSON encoder would write it, which looks for characters to escape in base64 too
        request, kem, sealed = _quote(self.request), _quote(self.kem), b64.encode(self.sealed)
        return (
            f'{{"v":{VERSION},"request":{request},"time":{self.time},"kem":{kem}'
            f',"sealed":"{sealed}"}}'
        ).encode()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was released, as much of it as a host is told."""

    code: str
    message: str
    request: str = ""  # its id, for a question to the broker's operator

    @classmethod
    def of(cls, code: str, request: str = "") -> Refusal:
        """With the text that goes with a code; one that is not in STATUS is ``unavailable``."""
        known = code if code in STATUS else "unavailable"
        return cls(known, MESSAGES[known], request)

    @property
    def status(self) -> int:
        """For HTTP."""
        return STATUS.get(self.code, 503)

    @property
    def is_transient(self) -> bool:
        """Whether it may go well with another try, which needs a new nonce and key."""
        return self.code in ("unavailable", "limited", "replayed", "conflict")

    def encode(self) -> bytes:
        """The body of a 4xx or 5xx."""
        return _dump(
            {"error": {"code": self.code, "message": self.message, "request": self.request}}
        )


def parse_request(raw: bytes) -> ReleaseRequest:
    """Raises MalformedError or LimitExceededError for anything but one strict request."""
    document = strictjson.load_object(raw, _WHAT, max_bytes=MAX_REQUEST_BYTES)
    _members(document, _NEEDED, _MEMBERS, _WHAT)
    if type(document["v"]) is not int or document["v"] != VERSION:
        raise MalformedError(f"{_WHAT} is of a version that is not known here")
    kem = document["kem"]
    if not isinstance(kem, str) or kem not in _PUBLIC_BYTES:
        raise MalformedError(f"{_WHAT} wants its answer sealed in a way that is not known here")
    image = document.get("image", {})
    if not isinstance(image, dict):
        raise MalformedError(f"{_WHAT} has an image that is no object")
    _members(image, frozenset(), _OF_IMAGE, f"{_WHAT}'s image")
    size = _PUBLIC_BYTES[kem]
    return ReleaseRequest(  # in their order: names would take as long again
        _text(document["key"], KEY, "key"),
        _number(document["version"], "version", 1, MAX_VERSION),
        _packet(document["packet"]),
        kem,
        _bytes(document["hpke"], "public key", size, size),
        _number(document["time"], "time", 0, 2**40),
        _bytes(document["nonce"], "nonce", 16, 32),
        _name(image["name"]) if "name" in image else None,
        _digest(image, "digest", "image"),
        _digest(document, "layer", "layer"),
        _text(document["platform"], PLATFORM, "platform") if "platform" in document else None,
        _evidence(document["evidence"]) if "evidence" in document else (),
    )


def parse_answer(raw: bytes) -> ReleaseAnswer:
    """Raises MalformedError or LimitExceededError."""
    document = strictjson.load_object(raw, _ANSWER, max_bytes=MAX_ANSWER_BYTES)
    _members(document, _ANSWER_MEMBERS, _ANSWER_MEMBERS, _ANSWER)
    if type(document["v"]) is not int or document["v"] != VERSION:
        raise MalformedError(f"{_ANSWER} is of a version that is not known here")
    kem = document["kem"]
    if not isinstance(kem, str) or kem not in _ENCAPSULATED_BYTES:
        raise MalformedError(f"{_ANSWER} is sealed in a way that is not known here")
    overhead = _ENCAPSULATED_BYTES[kem] + _TAG_BYTES
    return ReleaseAnswer(
        request=_text(document["request"], _ID, "request's id", _ANSWER),
        time=_number(document["time"], "time", 0, 2**40, _ANSWER),
        kem=kem,
        sealed=_bytes(
            document["sealed"], "secret", overhead + 1, overhead + MAX_SECRET_BYTES, _ANSWER
        ),
    )


def parse_refusal(raw: bytes) -> Refusal:
    """What a broker said instead. Raises MalformedError or LimitExceededError.

    Other members are passed over: what stands here is for people, and decides nothing.
    """
    document = strictjson.load_object(raw, "the broker's refusal", max_bytes=MAX_ANSWER_BYTES)
    error = document.get("error")
    if not isinstance(error, dict):
        raise MalformedError("the broker's refusal does not say what is wrong")
    code, message, identifier = (error.get(name, "") for name in ("code", "message", "request"))
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise MalformedError("the broker's refusal has no code")
    if not isinstance(message, str) or not message.isprintable():
        message = ""
    known = isinstance(identifier, str) and _ID.fullmatch(identifier)
    return Refusal(code, message[:200], identifier if known else "")


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _members(
    document: Mapping[str, Any], needed: frozenset[str], known: frozenset[str], what: str
) -> None:
    if not document.keys() >= needed:
        raise MalformedError(f"{what} has no {min(needed - document.keys())}")
    if not known.issuperset(document):
        raise MalformedError(f"{what} has members that it may not have")


def _text(value: Any, pattern: re.Pattern[str], name: str, what: str = _WHAT) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedError(f"{what} has a {name} that is none")
    return value


def _number(value: Any, name: str, least: int, most: int, what: str = _WHAT) -> int:
    if type(value) is not int or not least <= value <= most:
        raise MalformedError(f"{what} has a {name} that is none")
    return value


def _bytes(value: Any, name: str, least: int, most: int, what: str = _WHAT) -> bytes:
    if not isinstance(value, str):
        raise MalformedError(f"{what} has a {name} that is not base64")
    raw = b64.decode(value, f"the {name} in {what}")
    if not least <= len(raw) <= most:
        bounds = f"{least} to {most}" if least != most else str(least)
        raise MalformedError(f"the {name} in {what} does not have {bounds} bytes")
    return raw


def _packet(value: Any) -> bytes:
    """Every host that starts an image sends the same ones, which stay decoded: they are public."""
    if isinstance(value, str) and len(value) <= _MAX_KEPT_PACKET:
        return _packet_before(value)
    return _bytes(value, "packet", 1, MAX_PACKET_BYTES)


@lru_cache(maxsize=_MAX_KEPT)
def _packet_before(text: str) -> bytes:
    return _bytes(text, "packet", 1, MAX_PACKET_BYTES)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise MalformedError(f"{_WHAT} has an image's name that is none")
    return value


def _digest(document: Mapping[str, Any], member: str, name: str) -> str | None:
    if member not in document:
        return None
    value = document[member]
    if isinstance(value, str):  # the hosts that start an image name the same ones
        return _digest_before(value, name)
    return str(Digest.parse(value, f"the {name}'s digest in {_WHAT}"))


@lru_cache(maxsize=_MAX_KEPT)
def _digest_before(text: str, name: str) -> str:
    return str(Digest.parse(text, f"the {name}'s digest in {_WHAT}"))


def _evidence(value: Any) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_EVIDENCE:
        raise MalformedError(f"{_WHAT} has evidence that is no list of 1 to {MAX_EVIDENCE}")
    found = []
    for one in value:
        if not isinstance(one, dict) or one.keys() != {"kind", "document"}:
            raise MalformedError(f"{_WHAT} has evidence without kind and document")
        kind = _text(one["kind"], _KIND, "kind of evidence")
        found.append((kind, _bytes(one["document"], "evidence", 1, MAX_EVIDENCE_BYTES)))
    return tuple(found)
