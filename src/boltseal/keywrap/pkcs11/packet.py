"""The JSON packet of the ``pkcs11`` scheme."""

from __future__ import annotations

from boltseal._io import strictjson
from boltseal.errors import MalformedError
from boltseal.keywrap.base import WrappedKey

_MAX_PACKET_BYTES = 384 * 1024


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """The JSON of the format: one blob a recipient, which does not say whose it is."""
    document = strictjson.load_object(packet, "the PKCS#11 packet", max_bytes=_MAX_PACKET_BYTES)
    recipients = document.get("recipients")
    if not isinstance(recipients, list) or not all(isinstance(one, dict) for one in recipients):
        raise MalformedError("the PKCS#11 packet has no list of recipients")
    return [WrappedKey("pkcs11", f"RSA-OAEP {one.get('hash') or 'sha256'}") for one in recipients]
