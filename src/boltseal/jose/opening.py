"""Open one recipient's part of a JWE with ``cryptography`` alone (RFC 7516 section 5.2).

jwcrypto does the same, and takes as long to load as all else that a node needs for a layer. Only
what writers of images use is here: RSA-OAEP and ECDH-ES with key wrapping, around AES-GCM.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from boltseal._io import b64
from boltseal.jose import algorithms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from boltseal.jose.jwk import PyCaKey

# Bytes of the content key (RFC 7518 section 5.3) and of what wraps it (section 4.6).
_CONTENT_KEY_BYTES = {"A128GCM": 16, "A192GCM": 24, "A256GCM": 32}
_WRAPPING_KEY_BYTES = {"ECDH-ES+A128KW": 16, "ECDH-ES+A192KW": 24, "ECDH-ES+A256KW": 32}
_IV_BYTES, _TAG_BYTES = 12, 16
_MAX_PARTY_BYTES = 1024  # of apu and apv each


def handles(algorithm: str, encryption: str) -> bool:
    """Whether :func:`decrypt` knows both."""
    is_known = algorithm in algorithms.RSA_ALGORITHMS or algorithm in _WRAPPING_KEY_BYTES
    return is_known and encryption in _CONTENT_KEY_BYTES


def decrypt(
    header: Mapping[str, Any], shared: Mapping[str, Any], encrypted_key: str, key: PyCaKey
) -> bytes:
    """The content. ``header`` is the merged one, ``shared`` what all recipients have.

    Raises whatever goes wrong, which says nothing that may be passed on.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    wrapped = b64.decode_url(encrypted_key, "the encrypted key")
    algorithm: Any = header["alg"]
    open_key: Any = _by_rsa if algorithm in algorithms.RSA_ALGORITHMS else _by_ec
    content_key = open_key(header, wrapped, key)
    iv, tag = (b64.decode_url(shared[name], name) for name in ("iv", "tag"))
    right = (_CONTENT_KEY_BYTES[header["enc"]], _IV_BYTES, _TAG_BYTES)
    if (len(content_key), len(iv), len(tag)) != right:
        raise ValueError("a part of the wrong length")
    # what is authenticated is the text as it came (RFC 7516 section 5.1, step 14)
    known = shared.get("protected", "")
    if "aad" in shared:
        known += "." + shared["aad"]
    sealed = b64.decode_url(shared["ciphertext"], "the ciphertext") + tag
    return AESGCM(content_key).decrypt(iv, sealed, known.encode("ascii"))


def _by_rsa(header: Mapping[str, Any], wrapped: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """RFC 7518 section 4.3."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP

    digest = hashes.SHA1 if header["alg"] == algorithms.RSA_OAEP else hashes.SHA256
    return key.decrypt(wrapped, OAEP(MGF1(digest()), digest(), None))


def _by_ec(header: Mapping[str, Any], wrapped: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """RFC 7518 section 4.6."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDH
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
    from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

    size = _WRAPPING_KEY_BYTES[header["alg"]]
    told = b"".join(
        struct.pack(">I", len(part)) + part
        for part in (header["alg"].encode("ascii"), _party(header, "apu"), _party(header, "apv"))
    )
    secret = key.exchange(ECDH(), _ephemeral(header["epk"], key))
    kdf = ConcatKDFHash(SHA256(), size, told + struct.pack(">I", 8 * size))
    return aes_key_unwrap(kdf.derive(secret), wrapped)


def _ephemeral(epk: Any, key: ec.EllipticCurvePrivateKey) -> ec.EllipticCurvePublicKey:
    """The sender's key; the library refuses a point that is not on the curve of our own key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers

    if epk["kty"] != "EC" or epk["crv"] != algorithms.CURVE_NAMES[key.curve.name]:
        raise ValueError("a key of another kind")
    size = (key.curve.key_size + 7) // 8
    place = [b64.decode_url(epk[name], name) for name in ("x", "y")]
    if any(len(one) != size for one in place):  # RFC 7518 section 6.2.1.2
        raise ValueError("a coordinate of the wrong length")
    x, y = (int.from_bytes(one, "big") for one in place)
    return EllipticCurvePublicNumbers(x, y, key.curve).public_key()


def _party(header: Mapping[str, Any], name: str) -> bytes:
    found = b64.decode_url(header.get(name, ""), name)
    if len(found) > _MAX_PARTY_BYTES:
        raise ValueError("a name that is too long")
    return found
