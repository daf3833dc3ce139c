"""The layer cipher against a computation of its own, and its option documents."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io.pipeline import Chunk
from boltseal.blockcipher.aes_ctr_hmac import Decryptor, Encryptor
from boltseal.blockcipher.options import PrivateOptions, PublicOptions
from boltseal.errors import AuthenticationError, IntegrityError, MalformedError

NAME = "AES_256_CTR_HMAC_SHA256"


def chunked(data: bytes, step: int) -> list[Chunk]:
    chunks = []
    for at in range(0, len(data), step):
        chunk = Chunk(step)
        piece = data[at : at + step]
        chunk.room[: len(piece)] = piece
        chunk.length = len(piece)
        chunks.append(chunk)
    return chunks


def counter_mode(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """CTR from single blocks (NIST SP 800-38A section 6.5)."""
    block = Cipher(AES(key), ECB()).encryptor()
    out = bytearray()
    for number, at in enumerate(range(0, len(data), 16)):
        counter = (int.from_bytes(nonce) + number) % (1 << 128)
        pad = block.update(counter.to_bytes(16))
        out += bytes(one ^ two for one, two in zip(data[at : at + 16], pad, strict=False))
    return bytes(out)


@given(st.binary(max_size=300), st.integers(1, 70), st.integers(1, 70))
def test_the_construction(data: bytes, step: int, other: int) -> None:
    encryptor = Encryptor("sha256:x")
    ciphertext = b""
    for chunk in chunked(data, step):
        encryptor.update(chunk)
        ciphertext += bytes(chunk.out)
    public, private = encryptor.finish(), encryptor.private
    assert ciphertext == counter_mode(private.symkey, private.nonce, data)
    assert public.hmac == hmac.digest(private.symkey, ciphertext, hashlib.sha256)

    decryptor = Decryptor(public, private)
    plain = b""
    for chunk in chunked(ciphertext, other):
        decryptor.authenticate(chunk)
        decryptor.update(chunk)
        plain += bytes(chunk.out)
    decryptor.verify()
    assert plain == data


def test_the_counter_wraps_at_128_bits() -> None:
    private = PrivateOptions(bytes(32), b"\xff" * 16, "")
    decryptor = Decryptor(PublicOptions(NAME, bytes(32)), private)
    [chunk] = chunked(bytes(48), 64)
    decryptor.update(chunk)
    assert bytes(chunk.out) == counter_mode(bytes(32), b"\xff" * 16, bytes(48))


def test_a_wrong_hmac() -> None:
    decryptor = Decryptor(PublicOptions(NAME, bytes(32)), PrivateOptions(bytes(32), bytes(16), ""))
    with pytest.raises(AuthenticationError, match="HMAC"):
        decryptor.verify()


def test_keys_are_fresh_and_not_shown() -> None:
    first, second = Encryptor("d").private, Encryptor("d").private
    assert first.symkey != second.symkey
    assert first.nonce != second.nonce
    assert base64.b64encode(first.symkey).decode() not in repr(first)
    assert "symkey" not in repr(first)


def test_the_documents_are_the_formats() -> None:
    public = PublicOptions(NAME, b"h" * 32)
    text = json.loads(base64.b64decode(public.annotation()))
    assert text == {
        "cipher": NAME,
        "hmac": base64.b64encode(b"h" * 32).decode(),
        "cipheroptions": {},
    }
    assert PublicOptions.parse(public.annotation()) == public
    private = PrivateOptions(b"k" * 32, b"n" * 16, "sha256:x")
    assert set(json.loads(private.secret())) == {"symkey", "digest", "cipheroptions"}
    assert PrivateOptions.parse(private.secret()) == private


def annotation(**change: Any) -> str:
    document = {"cipher": NAME, "hmac": base64.b64encode(bytes(32)).decode(), **change}
    return base64.b64encode(
        json.dumps({key: value for key, value in document.items() if value != "-"}).encode()
    ).decode()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "!",
        base64.b64encode(b"[]").decode(),
        annotation(cipher="-"),
        annotation(cipher="AES_256_GCM"),
        annotation(cipher=["x"]),
        annotation(hmac="-"),
        annotation(hmac=""),
        annotation(hmac=None),
        annotation(hmac=7),
        annotation(hmac=base64.b64encode(bytes(31)).decode()),
        annotation(hmac=base64.b64encode(bytes(33)).decode()),
        annotation(hmac="!!"),
        annotation(cipheroptions={"nonce": "AAAA"}),
        annotation(cipheroptions={"other": 1}),
        annotation(cipheroptions=[1]),
    ],
)
def test_public_options_that_are_refused(value: str | None) -> None:
    with pytest.raises(IntegrityError):
        PublicOptions.parse(value)


@pytest.mark.parametrize("value", ["-", None, {}])
def test_empty_cipher_options_are_common(value: Any) -> None:
    assert PublicOptions.parse(annotation(cipheroptions=value)).hmac == bytes(32)


KEY = base64.b64encode(b"k" * 32).decode()
NONCE = {"nonce": base64.b64encode(b"n" * 16).decode()}


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"symkey": KEY},
        {"symkey": KEY, "cipheroptions": {}},
        {"symkey": KEY, "cipheroptions": {"nonce": "AAAA"}},
        {"symkey": KEY, "cipheroptions": {"nonce": "!"}},
        {"symkey": KEY[:20], "cipheroptions": NONCE},
        {"symkey": 1, "cipheroptions": NONCE},
        {"symkey": "\N{SNOWMAN}", "cipheroptions": NONCE},
    ],
)
def test_private_options_that_are_refused(document: Any) -> None:
    with pytest.raises(MalformedError) as refused:
        PrivateOptions.parse(json.dumps(document).encode())
    assert KEY[:10] not in str(refused.value)
