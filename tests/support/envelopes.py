"""EnvelopedData in every shape: as others write it, and as nobody should."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from boltseal._io import der
from boltseal.keywrap.pkcs7 import certificates
from boltseal.keywrap.pkcs7.keys import Pkcs7Identity, Pkcs7Recipient
from support.certificates import named, private_key

if TYPE_CHECKING:
    from cryptography import x509

SECRET = json.dumps({"symkey": "A" * 44, "digest": "sha256:" + "0" * 64}).encode()
KEY, OTHER = private_key("rsa2048", 0), private_key("rsa2048", 1)
AES = {  # object identifiers below 2.16.840.1.101.3.4.1, and the lengths of keys
    ("cbc", 16): 0x02,
    ("cbc", 32): 0x2A,
    ("gcm", 16): 0x06,
    ("gcm", 32): 0x2E,
}


def recipient(key: Any, serial: int = 5, issuer: x509.Name | None = None) -> Pkcs7Recipient:
    name = (issuer or named("authority")).public_bytes()
    return Pkcs7Recipient(
        key.public_key(), certificates.Subject(name, serial), f"CN={serial}", f"thumb{serial}"
    )


def object_id(digits: str) -> bytes:
    return der.encode(der.OBJECT_ID, bytes.fromhex(digits))


def sequence(*parts: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *parts)


def forge(
    *,
    cipher: tuple[str, int] = ("gcm", 16),
    parameters: str = "peers",
    content: str = "primitive",
    plain: bytes = SECRET,
    content_key: bytes | None = None,
    encrypted_key: bytes | None = None,
    damage: int | None = None,
) -> bytes:
    """A packet for KEY in any shape; ``damage`` flips one byte of the content."""
    mode, size = cipher
    key = content_key or os.urandom(size)
    iv = os.urandom(12 if mode == "gcm" else 16)
    if mode == "gcm":
        sealed = AESGCM(key[:size]).encrypt(iv, plain, None)
        standard = [der.encode(der.OCTET_STRING, iv), der.integer(16)]
        shapes = {
            "peers": der.encode(0x10, sequence(der.encode(0x84, iv), der.integer(16))),
            "constructed": sequence(sequence(der.encode(0x84, iv), der.integer(16))),
            "RFC 5084": sequence(*standard),
            "tag 4 alone": sequence(der.encode(0x84, iv), der.integer(16)),
            "short tag": sequence(standard[0], der.integer(12)),
            "no tag length": sequence(standard[0]),
            "short nonce": sequence(der.encode(der.OCTET_STRING, iv[:8]), der.integer(16)),
            "nothing": sequence(),
            "three": sequence(*standard, der.integer(1)),
            "set": der.encode(der.SET, *standard),
            "junk": der.encode(0x10, b"\x30\x55"),
        }
    else:
        padder = block_padding.PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES(key[:size]), modes.CBC(iv)).encryptor()
        padded = padder.update(plain) + padder.finalize()
        sealed = encryptor.update(padded) + encryptor.finalize()
        shapes = {"peers": der.encode(der.OCTET_STRING, iv), "short": b"\x04\x01x"}
    if damage is not None:
        changed = bytearray(sealed)
        changed[damage] ^= 1
        sealed = bytes(changed)
    half = len(sealed) // 2
    contents = {
        "primitive": der.encode(0x80, sealed),
        "constructed": der.encode(0xA0, der.encode(der.OCTET_STRING, sealed)),
        "in parts": der.encode(
            0xA0, der.encode(4, sealed[:half]), der.encode(4, sealed[half:]), der.encode(4)
        ),
        "cut": der.encode(0x80, sealed[:15]),
        "empty": der.encode(0xA0),
        "other tag": der.encode(0x81, sealed),
        "not octets": der.encode(0xA0, der.integer(1)),
    }
    wrapped = encrypted_key or KEY.public_key().encrypt(key, padding.PKCS1v15())
    info = sequence(
        der.integer(0),
        sequence(named("authority").public_bytes(), der.integer(5)),
        sequence(object_id("2a864886f70d010101"), der.encode(der.NULL)),
        der.encode(der.OCTET_STRING, wrapped),
    )
    algorithm = sequence(
        object_id("60864801650304 01".replace(" ", "") + f"{AES[cipher]:02x}"), shapes[parameters]
    )
    return sequence(
        object_id("2a864886f70d010703"),
        der.encode(
            0xA0,
            sequence(
                der.integer(0),
                der.encode(der.SET, info),
                sequence(object_id("2a864886f70d010701"), algorithm, contents[content]),
            ),
        ),
    )


def open_it(data: bytes, key: Any = KEY) -> bytes:
    return Pkcs7Identity(key, "key.pem").unwrap("pkcs7", data)
