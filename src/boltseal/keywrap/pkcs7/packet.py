"""EnvelopedData (RFC 5652 section 6.1) in the shapes that other implementations write.

AES-GCM in it is not what RFC 5084 says: the parameters are a sequence inside a sequence whose tag
says it is primitive, the nonce in them carries the context tag 4, and the tag of 16 bytes stands at
the end of the content. Parameters in the form of RFC 5084 section 3.2 are read, too. The content
itself is a context tag 0 of either form. What we write has the form of the others' newest versions,
byte for byte, which their old ones read as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io import der
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

WHAT = "the PKCS#7 packet"
MAX_RECIPIENTS = 256  # of one packet
GCM_TAG_BYTES = 16
GCM_NONCE_BYTES = 12
_MAX_NAME = 120  # characters of an issuer's name

_DATA = bytes.fromhex("2a864886f70d010701")  # 1.2.840.113549.1.7.1
_ENVELOPED = bytes.fromhex("2a864886f70d010703")  # 1.2.840.113549.1.7.3
_RSA = bytes.fromhex("2a864886f70d010101")  # 1.2.840.113549.1.1.1, PKCS#1 v1.5
_AES = bytes.fromhex("6086480165030401")  # 2.16.840.1.101.3.4.1
_AES_128_GCM = _AES + b"\x06"
_CIPHERS = {
    _AES + b"\x02": ("cbc", 16),
    _AES + b"\x2a": ("cbc", 32),
    _AES_128_GCM: ("gcm", 16),
    _AES + b"\x2e": ("gcm", 32),
}
_COMMON_NAME = der.Element(der.OBJECT_ID, b"\x55\x04\x03")  # 2.5.4.3
_ORGANISATION = der.Element(der.OBJECT_ID, b"\x55\x04\x0a")  # 2.5.4.10
_BMP_STRING = 0x1E
_CBC_BLOCK = 16
_PRIMITIVE_SEQUENCE = 0x10
_CONTEXT_0 = 0x80
_CONTEXT_4 = 0x84
_CONSTRUCTED_0 = 0xA0


@dataclass(frozen=True, slots=True)
class RecipientInfo:
    """One recipient: DER of the issuer's name, the serial number, and the encrypted key."""

    issuer: bytes
    serial: int
    encrypted_key: bytes
    is_supported: bool = True


@dataclass(frozen=True, slots=True)
class Enveloped:
    """What is in a packet. ``mode`` is ``gcm`` or ``cbc``, ``iv`` its nonce or first block."""

    recipients: tuple[RecipientInfo, ...]
    mode: str
    key_bytes: int
    iv: bytes
    content: bytes


def parse(packet: bytes) -> Enveloped:
    """Read a packet. Raises MalformedError or LimitExceededError."""
    outer = list(der.read(packet, WHAT))
    if len(outer) != 1:
        raise MalformedError(f"{WHAT} is not one DER element")
    kind, wrapped = _fields(outer[0], 2)
    _expect(kind, _ENVELOPED)
    if wrapped.tag != _CONSTRUCTED_0:
        raise _unknown()
    fields = der.children(_only(wrapped), der.SEQUENCE, WHAT)
    if len(fields) != 3 or fields[0] != der.Element(der.INTEGER, b"\x00"):
        raise MalformedError(f"{WHAT} is not EnvelopedData version 0")
    infos = der.children(fields[1], der.SET, WHAT)
    if not infos:
        raise MalformedError(f"{WHAT} names no recipient")
    if len(infos) > MAX_RECIPIENTS:
        raise LimitExceededError(f"{WHAT} has over {MAX_RECIPIENTS} recipients")
    mode, key_bytes, iv, content = _content(fields[2])
    return Enveloped(tuple(map(_recipient, infos)), mode, key_bytes, iv, content)


def without(packet: bytes, places: Collection[int]) -> bytes:
    """The packet without the recipients at ``places``; one at least stays, byte for byte."""
    parse(packet)
    kind, wrapped = _fields(next(der.read(packet, WHAT)), 2)
    version, infos, content = der.children(_only(wrapped), der.SEQUENCE, WHAT)
    left = [
        der.encode(one.tag, one.value)
        for place, one in enumerate(der.children(infos, der.SET, WHAT))
        if place not in places
    ]
    enveloped = der.encode(
        der.SEQUENCE,
        der.encode(version.tag, version.value),
        der.encode(der.SET, *left),
        der.encode(content.tag, content.value),
    )
    return der.encode(
        der.SEQUENCE,
        der.encode(kind.tag, kind.value),
        der.encode(_CONSTRUCTED_0, enveloped),
    )


def build(recipients: Sequence[RecipientInfo], nonce: bytes, content: bytes) -> bytes:
    """A packet with AES-128-GCM; ``content`` is ciphertext and tag."""
    parameters = der.encode(
        der.SEQUENCE,
        der.encode(_CONTEXT_4, nonce),
        der.integer(GCM_TAG_BYTES),
    )
    encrypted = der.encode(
        der.SEQUENCE,
        der.encode(der.OBJECT_ID, _DATA),
        der.encode(
            der.SEQUENCE,
            der.encode(der.OBJECT_ID, _AES_128_GCM),
            der.encode(_PRIMITIVE_SEQUENCE, parameters),
        ),
        der.encode(_CONTEXT_0, content),
    )
    infos = sorted(_encode(one) for one in recipients)  # a SET OF is in order (X.690 section 11.6)
    enveloped = der.encode(der.SEQUENCE, der.integer(0), der.encode(der.SET, *infos), encrypted)
    return der.encode(
        der.SEQUENCE,
        der.encode(der.OBJECT_ID, _ENVELOPED),
        der.encode(_CONSTRUCTED_0, enveloped),
    )


def exact_name(one: RecipientInfo) -> str:
    """Tells certificates apart: the issuer's whole name in DER, hexadecimal, and the number."""
    return f"{one.issuer.hex()}:{one.serial:x}"


def common_name(issuer: bytes) -> str:
    """``CN=…`` of a distinguished name, for people; ``O=…`` when it has none."""
    found: dict[str, str] = {}
    for name in der.read(issuer, WHAT):
        for relative in der.children(name, der.SEQUENCE, WHAT):
            for attribute in der.children(relative, der.SET, WHAT):
                kind, value = _fields(attribute, 2)
                if kind == _COMMON_NAME:
                    found["CN"] = _text(value)
                elif kind == _ORGANISATION:
                    found["O"] = _text(value)
    for kind_of in ("CN", "O"):
        if kind_of in found:
            return f"{kind_of}={found[kind_of]}"
    return "without a common name"


def _text(value: der.Element) -> str:
    """A directory string, in whatever encoding it says it is (RFC 5280 section 4.1.2.4)."""
    encoding = "utf-16-be" if value.tag == _BMP_STRING else "utf-8"
    return value.value[: 4 * _MAX_NAME].decode(encoding, "replace")[:_MAX_NAME]


def _encode(one: RecipientInfo) -> bytes:
    return der.encode(
        der.SEQUENCE,
        der.integer(0),
        der.encode(der.SEQUENCE, one.issuer, der.integer(one.serial)),
        # without the NULL that RFC 3370 section 4.2.1 wants: so do the others
        der.encode(der.SEQUENCE, der.encode(der.OBJECT_ID, _RSA)),
        der.encode(der.OCTET_STRING, one.encrypted_key),
    )


def _recipient(info: der.Element) -> RecipientInfo:
    version, name, algorithm, key = _fields(info, 4)
    issuer, serial = _fields(name, 2)
    if version.tag != der.INTEGER or serial.tag != der.INTEGER or key.tag != der.OCTET_STRING:
        raise _unknown()
    kind = der.children(algorithm, der.SEQUENCE, WHAT)
    return RecipientInfo(
        issuer=der.encode(issuer.tag, issuer.value),
        serial=int.from_bytes(serial.value, signed=True),
        encrypted_key=key.value,
        is_supported=bool(kind) and kind[0] == der.Element(der.OBJECT_ID, _RSA),
    )


def _content(element: der.Element) -> tuple[str, int, bytes, bytes]:
    kind, algorithm, body = _fields(element, 3)
    _expect(kind, _DATA)
    cipher, parameters = _fields(algorithm, 2)
    if cipher.tag != der.OBJECT_ID or cipher.value not in _CIPHERS:
        raise MalformedError(f"{WHAT} uses a content encryption that is not allowed")
    mode, key_bytes = _CIPHERS[cipher.value]
    content = _octets(body)
    if mode == "gcm":
        if len(content) <= GCM_TAG_BYTES:
            raise MalformedError(f"{WHAT} has no content")
        return mode, key_bytes, _gcm_nonce(parameters), content
    if parameters.tag != der.OCTET_STRING or len(parameters.value) != _CBC_BLOCK:
        raise MalformedError(f"{WHAT} has an AES-CBC vector that is not {_CBC_BLOCK} bytes")
    if not content or len(content) % _CBC_BLOCK:
        raise MalformedError(f"{WHAT} has content that is not whole AES-CBC blocks")
    return mode, key_bytes, parameters.value, content


def _gcm_nonce(parameters: der.Element) -> bytes:
    if parameters.tag not in (der.SEQUENCE, _PRIMITIVE_SEQUENCE):
        raise _unknown()
    fields = list(der.read(parameters.value, WHAT))
    if len(fields) == 1 and fields[0].tag == der.SEQUENCE:  # as peers write it
        fields = list(der.read(fields[0].value, WHAT))
    if not fields or fields[0].tag not in (der.OCTET_STRING, _CONTEXT_4):
        raise _unknown()
    if len(fields[0].value) != GCM_NONCE_BYTES:
        raise MalformedError(f"{WHAT} has an AES-GCM nonce that is not {GCM_NONCE_BYTES} bytes")
    # the standard's default would be a tag of 12 bytes (RFC 5084 section 3.2), which nobody writes
    if fields[1:] != [der.Element(der.INTEGER, bytes((GCM_TAG_BYTES,)))]:
        raise MalformedError(f"{WHAT} has an AES-GCM tag that is not {GCM_TAG_BYTES} bytes")
    return fields[0].value


def _octets(body: der.Element) -> bytes:
    if body.tag == _CONTEXT_0:
        return body.value
    if body.tag != _CONSTRUCTED_0:
        raise _unknown()
    parts = list(der.read(body.value, WHAT))
    if not all(part.tag == der.OCTET_STRING for part in parts):
        raise _unknown()
    return b"".join(part.value for part in parts)


def _fields(element: der.Element, count: int) -> list[der.Element]:
    fields = der.children(element, der.SEQUENCE, WHAT)
    if len(fields) != count:
        raise _unknown()
    return fields


def _only(element: der.Element) -> der.Element:
    inside = list(der.read(element.value, WHAT))
    if len(inside) != 1:
        raise _unknown()
    return inside[0]


def _expect(element: der.Element, object_id: bytes) -> None:
    if element != der.Element(der.OBJECT_ID, object_id):
        raise _unknown()


def _unknown() -> MalformedError:
    return MalformedError(f"{WHAT} does not have the structure of EnvelopedData")
