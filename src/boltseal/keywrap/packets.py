"""What wrapped keys tell about their recipients without any key.

This looks at the outermost shape of each scheme's packet only; opening one is another matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal._io import der, strictjson
from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keywrap import jwe
from boltseal.keywrap.base import WrappedKey
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PKESK = 1  # RFC 4880 section 5.1
_PGP_ALGORITHMS = {1: "RSA", 2: "RSA", 16: "ElGamal", 18: "ECDH", 25: "X25519"}
_COMMON_NAME = b"\x55\x04\x03"
_CMS = "the PKCS#7 packet"
_MAX_PACKET_BYTES = 384 * 1024
_MAX_NAME = 120  # characters of an algorithm or a recipient
MAX_KEYS = 2_000  # wrapped keys of one layer that are told


def describe(annotations: Mapping[str, str]) -> tuple[tuple[WrappedKey, ...], tuple[str, ...]]:
    """The wrapped keys of a layer, and what was wrong with packets that could not be read."""
    keys: list[WrappedKey] = []
    problems: list[str] = []
    for scheme, value in names.schemes(annotations).items():
        try:
            for packet in names.split_packets(scheme, value):
                keys += map(_shortened, _describe(scheme, packet))
                if len(keys) > MAX_KEYS:
                    raise LimitExceededError(f"more than the limit of {MAX_KEYS} wrapped keys")
        except IntegrityError as error:
            problems.append(error.message)
    return tuple(keys), tuple(problems)


def _shortened(key: WrappedKey) -> WrappedKey:
    """Names are for people: one that would fill a screen is cut."""
    return WrappedKey(key.scheme[:_MAX_NAME], _cut(key.algorithm), _cut(key.recipient))


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"


def _describe(scheme: str, packet: bytes) -> list[WrappedKey]:
    readers: dict[str, Callable[[bytes], list[WrappedKey]]] = {
        "jwe": jwe.describe_packet,
        "pgp": _pgp,
        "pkcs7": _pkcs7,
        "pkcs11": _pkcs11,
    }
    reader = readers.get(scheme)
    return reader(packet) if reader is not None else [WrappedKey(scheme)]


def _pgp(packet: bytes) -> list[WrappedKey]:
    """Public-key encrypted session key packets, version 3: key id and algorithm."""
    found: list[WrappedKey] = []
    position = 0
    while position + 2 <= len(packet):
        tag, start, length = _pgp_header(packet, position)
        if tag != _PKESK:
            break
        body = packet[start : start + length]
        if len(body) < 10 or body[0] != 3:
            raise MalformedError("the OpenPGP packet has a session key of an unknown version")
        algorithm = _PGP_ALGORITHMS.get(body[9], f"algorithm {body[9]}")
        found.append(WrappedKey("pgp", algorithm, body[1:9].hex().upper()))
        position = start + length
    if not found:
        raise MalformedError("the OpenPGP packet names no recipient")
    return found


def _pgp_header(packet: bytes, position: int) -> tuple[int, int, int]:
    """Tag, start of the body and its length (RFC 4880 section 4.2), for packets of fixed length."""
    first, second = packet[position], packet[position + 1]
    if not first & 0x80:
        raise MalformedError("the OpenPGP packet has no valid header")
    if first & 0x40:
        tag, at = first & 0x3F, position + 2
        if second < 192:
            return tag, at, second
        if second < 224:
            return tag, at + 1, ((second - 192) << 8) + int.from_bytes(packet[at : at + 1]) + 192
        if second == 255:
            return tag, at + 4, int.from_bytes(packet[at : at + 4])
        return tag, at, 0  # partial length: the encrypted data, which ends the list
    size = 1 << (first & 3)
    at = position + 1
    return (first >> 2) & 0x0F, at + size, int.from_bytes(packet[at : at + size])


def _pkcs7(packet: bytes) -> list[WrappedKey]:
    """Recipients of EnvelopedData (RFC 5652 section 6.1): issuer's common name and serial."""
    outer = list(der.read(packet, _CMS))
    content = der.children(_at(outer, 0), der.SEQUENCE, _CMS)
    enveloped = list(der.read(_at(content, 1).value, _CMS))
    fields = der.children(_at(enveloped, 0), der.SEQUENCE, _CMS)
    found: list[WrappedKey] = []
    for info in der.children(_at(fields, 1), der.SET, _CMS):
        parts = der.children(info, der.SEQUENCE, _CMS)
        name, serial = _pair(der.children(_at(parts, 1), der.SEQUENCE, _CMS))
        number = int.from_bytes(serial.value, signed=True)
        found.append(WrappedKey("pkcs7", "RSA", f"serial {number:x}, issuer {_common_name(name)}"))
    if not found:
        raise MalformedError(f"{_CMS} names no recipient")
    return found


def _common_name(name: der.Element) -> str:
    for relative in der.children(name, der.SEQUENCE, _CMS):
        for attribute in der.children(relative, der.SET, _CMS):
            kind, value = _pair(der.children(attribute, der.SEQUENCE, _CMS))
            if kind.tag == der.OBJECT_ID and kind.value == _COMMON_NAME:
                return f"CN={value.value.decode('utf-8', 'replace')[:120]}"
    return "without a common name"


def _pair(elements: list[der.Element]) -> tuple[der.Element, der.Element]:
    return _at(elements, 0), _at(elements, 1)


def _at(elements: list[der.Element], index: int) -> der.Element:
    if index >= len(elements):
        raise MalformedError(f"{_CMS} is not EnvelopedData")
    return elements[index]


def _pkcs11(packet: bytes) -> list[WrappedKey]:
    """The JSON of the format: one blob a recipient, which does not say whose it is."""
    document = strictjson.load_object(packet, "the PKCS#11 packet", max_bytes=_MAX_PACKET_BYTES)
    recipients = document.get("recipients")
    if not isinstance(recipients, list) or not all(isinstance(one, dict) for one in recipients):
        raise MalformedError("the PKCS#11 packet has no list of recipients")
    return [WrappedKey("pkcs11", f"RSA-OAEP {one.get('hash') or 'sha256'}") for one in recipients]
