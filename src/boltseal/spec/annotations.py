"""The annotations of an encrypted layer, and how several wrapped keys share one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal._io import b64
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.spec.limits import MAX_PACKETS

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "org.opencontainers.image.enc."
PUBLIC_OPTIONS = PREFIX + "pubopts"
KEYS = PREFIX + "keys."
REF_NAME = "org.opencontainers.image.ref.name"
ATTESTATION_TYPE = "vnd.docker.reference.type"
ATTESTATION_DIGEST = "vnd.docker.reference.digest"
_MAX_SHOWN = 120  # characters of a scheme in a message

QUANTUM_SAFE = "provider.boltseal-pq"  # the one scheme whose packets withstand quantum computers
KEY_SERVICE = "provider.boltseal-kms"
BROKER = "provider.boltseal-broker"

# A layer whose annotations were `{}` or `null` gets them back exactly: this keeps that text while
# the layer is encrypted.
EMPTY_MARK = "org.boltseal.annotations"


def is_encryption(key: str) -> bool:
    """Whether an annotation is there only because the layer is encrypted."""
    return key in (PUBLIC_OPTIONS, EMPTY_MARK) or key.startswith(KEYS)


def encryption_keys(annotations: Mapping[str, str]) -> frozenset[str]:
    """The annotations that decrypting removes."""
    return frozenset(key for key in annotations if is_encryption(key))


def schemes(annotations: Mapping[str, str]) -> dict[str, str]:
    """Scheme (``jwe``, ``pgp``, ``provider.name`` …) to the annotation's value."""
    return {
        key.removeprefix(KEYS): value
        for key, value in annotations.items()
        if key.startswith(KEYS) and len(key) > len(KEYS)
    }


def split_packets(scheme: str, value: str) -> list[bytes]:
    """The packets of one annotation, which are base64 texts joined by commas."""
    parts = value.split(",")
    what = f"annotation {KEYS}{scheme[:_MAX_SHOWN]}"  # the image chose it, at any length
    if len(parts) > MAX_PACKETS:
        raise LimitExceededError(
            f"{what} has {len(parts)} packets, over the limit of {MAX_PACKETS}"
        )
    if not value:
        raise MalformedError(f"{what} is empty")
    return [b64.decode(part, what) for part in parts]


def join_packets(packets: list[bytes]) -> str:
    """The value of a ``keys`` annotation that holds these packets."""
    return ",".join(b64.encode(packet) for packet in packets)
