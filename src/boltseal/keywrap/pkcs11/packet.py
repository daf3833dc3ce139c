"""The JSON packet of the ``pkcs11`` scheme: one blob of RSA-OAEP for each recipient.

``{"version":0,"recipients":[{"version":0,"blob":"<base64>","hash":"sha1","kid":"…"}]}``. The hash
is missing where it went without saying; ``kid``, the RFC 7638 thumbprint of the public key, is
ours, and other readers pass over it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import b64, strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.base import WrappedKey

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SCHEME = "pkcs11"
WHAT = "the PKCS#11 packet"
HASHES = ("sha1", "sha256")
MAX_RECIPIENTS = 256  # of one packet
MAX_BLOB_BYTES = 2048  # bytes of one recipient's blob: an RSA key of 16384 bits
_MAX_PACKET_BYTES = 384 * 1024
_KID = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """One recipient's blob; ``hash`` and ``kid`` are None where the packet does not tell."""

    blob: bytes
    hash: str | None
    kid: str | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hashes to try: who left it out meant SHA-1 first, and SHA-256 for a while."""
        return HASHES if self.hash is None else (self.hash,)


def parse(packet: bytes) -> tuple[Wrapped, ...]:
    """Read a packet. Raises MalformedError or LimitExceededError."""
    document = strictjson.load_object(packet, WHAT, max_bytes=_MAX_PACKET_BYTES)
    strictjson.refuse_variants(document, ("version", "recipients"), WHAT)
    _check_version(document)
    recipients = document.get("recipients")
    if not isinstance(recipients, list) or not recipients:
        raise MalformedError(f"{WHAT} has no list of recipients")
    if len(recipients) > MAX_RECIPIENTS:
        raise LimitExceededError(f"{WHAT} has over {MAX_RECIPIENTS} recipients")
    return tuple(map(_recipient, recipients))


def build(recipients: Sequence[Wrapped]) -> bytes:
    """A packet. The hash is always written, so that nobody has to guess."""
    entries: list[dict[str, Any]] = []
    for one in recipients:
        entry = {"version": 0, "blob": b64.encode(one.blob), "hash": one.hash}
        entries.append(entry if one.kid is None else {**entry, "kid": one.kid})
    document = {"version": 0, "recipients": entries}
    return json.dumps(document, separators=(",", ":")).encode()


def without(packet: bytes, places: Collection[int]) -> bytes:
    """The packet without the recipients at ``places``; one at least stays."""
    parse(packet)
    document = strictjson.load_object(packet, WHAT, max_bytes=_MAX_PACKET_BYTES)
    document["recipients"] = [
        one for place, one in enumerate(document["recipients"]) if place not in places
    ]
    return json.dumps(document, separators=(",", ":")).encode()


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """Who a packet is for, as far as it says."""
    return [
        WrappedKey(SCHEME, f"RSA-OAEP {one.hash}" if one.hash else "RSA-OAEP", one.kid)
        for one in parse(packet)
    ]


def _recipient(entry: Any) -> Wrapped:
    if not isinstance(entry, dict):
        raise MalformedError(f"{WHAT} has a recipient that is not an object")
    strictjson.refuse_variants(entry, ("version", "blob", "hash", "kid"), WHAT)
    _check_version(entry)
    text, name = entry.get("blob"), entry.get("hash")
    if not isinstance(text, str) or not text:
        raise MalformedError(f"{WHAT} has a recipient without a blob")
    if len(text) > (MAX_BLOB_BYTES + 2) // 3 * 4:
        raise LimitExceededError(f"{WHAT} has a blob of over {MAX_BLOB_BYTES} bytes")
    if name not in (None, "", *HASHES):
        raise MalformedError(f"{WHAT} names a hash that is not one of {', '.join(HASHES)}")
    kid = entry.get("kid")  # only a hint: another form than ours is as good as none
    known = isinstance(kid, str) and _KID.fullmatch(kid)
    return Wrapped(b64.decode(text, f"a blob of {WHAT}"), name or None, kid if known else None)


def _check_version(document: dict[str, Any]) -> None:
    version = document.get("version", 0)
    if version != 0 or not isinstance(version, int) or isinstance(version, bool):
        raise MalformedError(f"{WHAT} has a version that is not 0")
