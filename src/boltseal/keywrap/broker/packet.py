"""The packet of the ``provider.boltseal-broker`` scheme: strict JSON, one version of one key.

``{"boltseal":"broker/1","brokers":["https://..."],"key":"tenant/project/name","version":3,
"fingerprint":"sha256:<hex>","wrapped":"<base64>"}``. ``wrapped`` is a JWE for one RSA or EC key, or
a ``pq/1`` packet for an X-Wing key; ``fingerprint`` is SHA-256 of the SubjectPublicKeyInfo of the
key that it was wrapped for. What is in here came with an image: it is compared with what the
reader knows already, and ``brokers`` contacts nobody that its owner did not name as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from boltseal._io import b64, strictjson
from boltseal.errors import MalformedError
from boltseal.keywrap import envelope
from boltseal.keywrap.base import WrappedKey
from boltseal.keywrap.broker import protocol
from boltseal.spec.annotations import BROKER

SCHEME: Final = BROKER
KIND: Final = envelope.BROKER
MAX_BROKERS: Final = 8  # addresses in one packet
_MAX_ADDRESS = 256  # characters of one of them
_MAX_NAMED = 3  # of them, in a message
_MAX_WRAPPED = 64 * 1024  # bytes
_WHAT = "the key broker's packet"
_MEMBERS = ("boltseal", "brokers", "key", "version", "fingerprint", "wrapped")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORT = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Packet:
    """Which key of which brokers opens ``wrapped``."""

    brokers: tuple[str, ...]
    key: str  # tenant/project/name
    version: int
    fingerprint: str
    wrapped: bytes = field(repr=False)

    @property
    def is_hybrid(self) -> bool:
        """Whether ``wrapped`` is a ``pq/1`` packet, and no JWE."""
        return envelope.kind(self.wrapped) == envelope.QUANTUM_SAFE


def build(packet: Packet) -> bytes:
    """The bytes of a packet. Raises what :func:`parse` raises, if it could not be read again."""
    values = (
        KIND,
        list(packet.brokers),
        packet.key,
        packet.version,
        packet.fingerprint,
        b64.encode(packet.wrapped),
    )
    raw = json.dumps(dict(zip(_MEMBERS, values, strict=True)), separators=(",", ":")).encode()
    parse(raw)
    return raw


def parse(raw: bytes) -> Packet:
    """Read a packet. Raises MalformedError or LimitExceededError."""
    document = strictjson.load_object(raw, _WHAT, max_bytes=protocol.MAX_PACKET_BYTES)
    if document.get("boltseal") != KIND:
        raise MalformedError(
            f"{_WHAT} is of a kind that this version does not know",
            hint="a newer Boltseal may have written it",
        )
    if set(document) != set(_MEMBERS):
        raise MalformedError(f"{_WHAT} does not have the members it should have")
    brokers, version = document["brokers"], document["version"]
    if not isinstance(brokers, list) or not 0 < len(brokers) <= MAX_BROKERS:
        raise MalformedError(f"{_WHAT} does not name 1 to {MAX_BROKERS} brokers")
    if len({address(one) for one in brokers}) != len(brokers):
        raise MalformedError(f"{_WHAT} names a broker twice")
    if not isinstance(document["key"], str) or not protocol.KEY.fullmatch(document["key"]):
        raise MalformedError(f"{_WHAT} names no key in the form tenant/project/name")
    if type(version) is not int or not 1 <= version <= protocol.MAX_VERSION:
        raise MalformedError(f"{_WHAT} has a version that is none")
    fingerprint, wrapped = document["fingerprint"], document["wrapped"]
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise MalformedError(f"{_WHAT} has a fingerprint that is none")
    if not isinstance(wrapped, str) or not 0 < len(wrapped) <= _MAX_WRAPPED * 4 // 3:
        raise MalformedError(f"{_WHAT} has no wrapped key, or one over {_MAX_WRAPPED} bytes")
    return Packet(tuple(brokers), document["key"], version, fingerprint, b64.decode(wrapped, _WHAT))


def address(value: object) -> str:
    """A broker's address, if it is one in canonical form; raises MalformedError.

    ``https``, lower case, without user, query, fragment, slash at the end or default port; plain
    ``http`` for a loopback address alone.
    """
    if not isinstance(value, str) or len(value) > _MAX_ADDRESS:
        raise MalformedError(f"{_WHAT} has an address that is none")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise MalformedError(f"{_WHAT} has an address that is none") from None
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    default = _DEFAULT_PORT.get(parts.scheme)
    netloc = host if port is None else f"{host}:{port}"
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if (
        not is_safe
        or not _HOST.fullmatch(host)
        or not _PATH.fullmatch(parts.path)
        or port in (0, default)
        or value != f"{parts.scheme}://{netloc}{parts.path}"
    ):
        raise MalformedError(f"{_WHAT} has an address that is none in canonical form")
    return value


def describe_packet(raw: bytes) -> list[WrappedKey]:
    """Which key opens it, as far as it says."""
    packet = parse(raw)
    how = "HPKE X-Wing" if packet.is_hybrid else "JWE"
    named = f"{packet.key}@{packet.version}"
    return [WrappedKey(SCHEME, f"{how}, released by {', '.join(hosts(packet))}", named)]


def hosts(packet: Packet) -> tuple[str, ...]:
    """Hosts and ports of a packet's brokers, for people; a few of them."""
    return tuple(one.partition("://")[2] for one in packet.brokers[:_MAX_NAMED])
