"""Which private key a file holds, seen before a library reads it: how, and what that may cost.

A file of some kilobytes can keep OpenSSL busy for hours, in one call that no signal interrupts: by
the rounds of a passphrase, or by a key of a kind that is of no use here anyway.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from boltseal._io import der
from boltseal.errors import IntegrityError, KeyFileError, MalformedError
from boltseal.jose.jwk import WANTED

MAX_ROUNDS = 10_000_000  # of a passphrase's derivation; usual are 2,048 to 1,300,000
MAX_SCRYPT_BYTES = 512 << 20  # that scrypt fills: 128·N·r·p (RFC 7914 section 2)
MAX_ENCRYPTED_BYTES = 16 * 1024  # a key of 16,384 bits takes 9,300; what is inside is not known
_MAX_KEY_LENGTH = 64  # bytes that are derived; the ciphers take 32 at most

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,50}PRIVATE KEY)-----")
_HEADED = (b"RSA PRIVATE KEY", b"EC PRIVATE KEY")  # whose encryption is in headers (RFC 1421)
_RSA = (
    bytes.fromhex("2a864886f70d010101"),  # rsaEncryption
    bytes.fromhex("2a864886f70d01010a"),  # id-RSASSA-PSS
)
_EC = bytes.fromhex("2a8648ce3d0201")  # id-ecPublicKey
_PBES2 = bytes.fromhex("2a864886f70d01050d")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_PKCS1_ELEMENTS = 9  # RFC 8017 appendix A.1.2


@dataclass(frozen=True, slots=True)
class PrivateForm:
    """The one key of a file, to be handed to a library: DER, or PEM with headers."""

    content: bytes = field(repr=False)
    is_pem: bool = False
    is_encrypted: bool = False


def find(raw: bytes, label: str) -> PrivateForm | None:
    """The first private key of a PEM file, or the one of a DER file; None for neither.

    Raises KeyFileError for one that is of another kind than RSA and EC, or that costs too much.
    """
    try:
        if b"-----BEGIN" in raw:
            return _pem(raw, label)
        return PrivateForm(raw, is_encrypted=_is_encrypted(raw, label))
    except (IntegrityError, ValueError, IndexError):  # of base64, and where elements are missing
        return None


def _pem(raw: bytes, label: str) -> PrivateForm | None:
    begin = _LABEL.search(raw)
    if begin is None:
        return None
    mark = b"-----END " + begin[1] + b"-----"
    end = raw.find(mark, begin.end())
    if end < 0:
        return None
    headers, body = _split(raw[begin.end() : end])
    if b"ENCRYPTED" in headers:
        if begin[1] not in _HEADED:
            raise other_kind(label)
        _check_size(len(body), label)
        return PrivateForm(raw[begin.start() : end] + mark + b"\n", is_pem=True, is_encrypted=True)
    content = base64.b64decode(b"".join(body.split()), validate=True)
    return PrivateForm(content, is_encrypted=_is_encrypted(content, label))


def _split(inside: bytes) -> tuple[bytes, bytes]:
    """Headers and body (RFC 1421 section 4.4); most files have no headers."""
    lines = inside.strip().splitlines()
    if not lines or b":" not in lines[0]:
        return b"", inside
    blank = next((at for at, one in enumerate(lines) if not one.strip()), len(lines))
    return b"\n".join(lines[:blank]), b"\n".join(lines[blank:])


def _is_encrypted(content: bytes, label: str) -> bool:
    """Whether it is an encrypted PKCS#8 key; IntegrityError or ValueError for what is no key."""
    (outer,) = der.read(content, label)
    inside = der.children(outer, der.SEQUENCE, label)
    match [one.tag for one in inside]:
        case [der.SEQUENCE, der.OCTET_STRING]:  # RFC 5958 section 3
            _check_size(len(content), label)
            _check_derivation(inside[0], label)
            return True
        case [der.INTEGER, der.SEQUENCE, der.OCTET_STRING, *_]:  # RFC 5958 section 2
            kind = der.children(inside[1], der.SEQUENCE, label)[0]
            if kind.value not in (*_RSA, _EC):
                raise other_kind(label)
        case [der.INTEGER, der.OCTET_STRING, *_]:  # RFC 5915 section 3
            pass
        case [der.INTEGER, der.INTEGER, *_]:
            if len(inside) < _PKCS1_ELEMENTS:  # DSA's six
                raise other_kind(label)
        case _:
            raise MalformedError(f"{label} has the structure of no private key")
    return False


def _check_size(size: int, label: str) -> None:
    if size > MAX_ENCRYPTED_BYTES:
        raise KeyFileError(
            f"{label} holds an encrypted key of over {MAX_ENCRYPTED_BYTES} bytes", hint=WANTED
        )


def _check_derivation(algorithm: der.Element, label: str) -> None:
    """What making a key of the passphrase takes (RFC 8018 appendices A.2 to A.4, RFC 7914)."""
    scheme, parameters = der.children(algorithm, der.SEQUENCE, label)[:2]
    function = scheme
    if scheme.value == _PBES2:
        derivation = der.children(parameters, der.SEQUENCE, label)[0]
        function, parameters = der.children(derivation, der.SEQUENCE, label)[:2]
    fields = der.children(parameters, der.SEQUENCE, label)
    numbers = [int.from_bytes(one.value, signed=True) for one in fields if one.tag == der.INTEGER]
    if function.value == _SCRYPT:
        cost, size, lanes, *length = numbers
        is_dear = min(cost, size, lanes) < 1 or 128 * cost * size * lanes > MAX_SCRYPT_BYTES
    elif scheme.value != _PBES2 or function.value == _PBKDF2:
        rounds, *length = numbers
        is_dear = rounds > MAX_ROUNDS
    else:
        raise not_supported(label)
    if is_dear or any(one > _MAX_KEY_LENGTH for one in length):
        raise KeyFileError(
            f"{label}: making a key of its passphrase would take too long (over {MAX_ROUNDS} "
            f"rounds, or {MAX_SCRYPT_BYTES >> 20} MiB of scrypt)",
            hint="write a copy with fewer: openssl pkcs8 -topk8 -iter 600000 -in FILE -out COPY",
        )


def not_supported(label: str) -> KeyFileError:
    """The error for an encryption that nothing here reads."""
    return KeyFileError(
        f"{label} is encrypted in a way, or holds a kind of key, that is not supported",
        hint="an X-Wing key has to be in a file without a passphrase",
    )


def other_kind(label: str) -> KeyFileError:
    """The error for a key that is neither RSA nor EC."""
    return KeyFileError(f"{label}: this kind of key is not supported", hint=WANTED)
