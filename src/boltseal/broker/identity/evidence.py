"""The seam for attestation: what a verifier of one kind of evidence has to offer.

The broker comes with none. Whoever starts it hands over the verifiers that it is to have; a kind
without one is refused, so that nobody mistakes a document that nobody read for an attested one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from boltseal.broker.model import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.model import Presented

MAX_DOCUMENTS = 4  # of one request
MAX_BYTES = 128 * 1024  # of one document
MIN_NONCE = 16  # bytes


class EvidenceError(Exception):
    """A verifier does not accept a document; the text is for operators, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What hardware says. ``labels`` count as a trust's do, and may not contradict those."""

    claims: Mapping[str, str | int | bool | tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class EvidenceVerifier(Protocol):
    """Verifies one kind of evidence, for example the report of one maker's processors."""

    def verify(self, document: bytes, nonce: bytes, now: int) -> Attested:
        """What the document attests.

        It has to be signed, and to contain ``nonce`` (the request's, single use) under the
        signature: else anybody could send a document that was made for somebody else. ``now`` is in
        seconds since 1970. Raises EvidenceError.
        """


def attest(
    presented: Presented, now: int, verifiers: Mapping[str, EvidenceVerifier]
) -> list[tuple[str, Attested]]:
    """What each document attests, with its kind; raises RefusedError."""
    documents = presented.evidence
    if not documents:
        return []
    if len(documents) > MAX_DOCUMENTS:
        raise RefusedError("malformed", f"over {MAX_DOCUMENTS} documents of evidence")
    if len(presented.nonce) < MIN_NONCE:
        raise RefusedError("unauthenticated", "evidence without a nonce that it could be bound to")
    if len({kind for kind, _ in documents}) != len(documents):
        raise RefusedError("malformed", "two documents of evidence of one kind")
    found = []
    for kind, document in documents:
        verifier = verifiers.get(kind)
        if verifier is None:
            raise RefusedError("unauthenticated", f"no verifier for evidence of kind {kind[:40]!a}")
        if len(document) > MAX_BYTES:
            raise RefusedError("too-large", f"evidence of over {MAX_BYTES} bytes")
        try:
            found.append((kind, verifier.verify(document, presented.nonce, now)))
        except EvidenceError as error:
            raise RefusedError("unauthenticated", f"evidence {kind}: {error}") from None
        except Exception as error:  # noqa: BLE001  a verifier that fails has verified nothing
            name = type(error).__name__
            raise RefusedError("unauthenticated", f"evidence {kind}: {name}") from None
    return found
