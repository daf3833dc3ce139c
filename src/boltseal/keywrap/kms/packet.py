"""The packet of the ``provider.boltseal-kms`` scheme: strict JSON, one key of one service.

``{"boltseal":"kms/1","key":"<URI>","version":"<text>","ciphertext":"<base64>","sealed":"<base64>"}``:
``ciphertext`` is a content key that the service encrypted, ``sealed`` the secret under that content
key. ADR 0011 has the construction. What is in here came with an image: ``key`` is compared with
the identity's own and contacts nobody.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io import b64, strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.base import WrappedKey
from boltseal.keywrap.kms import uri
from boltseal.spec.annotations import KEY_SERVICE

if TYPE_CHECKING:
    from boltseal.keywrap.kms.uri import KeyUri

KIND = "kms/1"
NONCE_BYTES = 12
_TAG_BYTES = 16
MAX_PACKET_BYTES = 64 * 1024
MAX_CIPHERTEXT_BYTES = 8 * 1024  # of a content key, as a service encrypted it
_WHAT = "the key service's packet"
_MEMBERS = ("boltseal", "key", "version", "ciphertext", "sealed")
_VERSION = re.compile(r"[A-Za-z0-9_-]{0,64}")


@dataclass(frozen=True, slots=True)
class Packet:
    """``version`` is what the service said, or empty; ``sealed`` is nonce, ciphertext and tag."""

    key: KeyUri
    version: str
    ciphertext: bytes
    sealed: bytes


def build(packet: Packet) -> bytes:
    """The bytes of a packet. Raises LimitExceededError for one that could not be read again."""
    values = (
        KIND,
        packet.key.canonical,
        packet.version,
        b64.encode(packet.ciphertext),
        b64.encode(packet.sealed),
    )
    document = dict(zip(_MEMBERS, values, strict=True))
    raw = json.dumps(document, separators=(",", ":")).encode()
    parse(raw)  # a service's odd answer is found now, not by whoever decrypts
    return raw


def parse(raw: bytes) -> Packet:
    """Read a packet. Raises MalformedError or LimitExceededError."""
    document = strictjson.load_object(raw, _WHAT, max_bytes=MAX_PACKET_BYTES)
    if document.get("boltseal") != KIND:
        raise MalformedError(
            f"{_WHAT} is of a kind that this version does not know",
            hint="a newer Boltseal may have written it",
        )
    if set(document) != set(_MEMBERS) or not all(isinstance(one, str) for one in document.values()):
        raise MalformedError(f"{_WHAT} does not have the members it should have")
    key = uri.read(document["key"])
    if key is None or key.canonical != document["key"] or not key.is_settled:
        raise MalformedError(f"{_WHAT} does not name a key of a service in the canonical form")
    if not _VERSION.fullmatch(document["version"]):
        raise MalformedError(f"{_WHAT} has a key version that none of the services would write")
    ciphertext = b64.decode(document["ciphertext"], _WHAT)
    if len(ciphertext) > MAX_CIPHERTEXT_BYTES:
        raise LimitExceededError(
            f"{_WHAT} has a wrapped key over the limit of {MAX_CIPHERTEXT_BYTES} bytes"
        )
    sealed = b64.decode(document["sealed"], _WHAT)
    if not ciphertext or len(sealed) <= NONCE_BYTES + _TAG_BYTES:
        raise MalformedError(f"{_WHAT} is too short")
    return Packet(key, document["version"], ciphertext, sealed)


def describe_packet(raw: bytes) -> list[WrappedKey]:
    """The service, and the key's URI."""
    found = parse(raw)
    return [WrappedKey(KEY_SERVICE, found.key.name, found.key.canonical)]
