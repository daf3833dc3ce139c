"""A ciphertext made again under its own key tells whether its plaintext is the one at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io.pipeline import CHUNK_SIZE
from boltseal.blockcipher.options import PublicOptions
from boltseal.errors import DigestMismatchError
from boltseal.keywrap.parse import parse_keyring, parse_recipient
from boltseal.layer.encrypt import encrypt_layer
from boltseal.layer.same import is_made_of, take_over
from boltseal.layer.unlock import unlock_layer
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.transports.base import MemoryReader
from support.images import TAR

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.layer.unlock import UnlockedLayer


class _Nowhere:
    def write(self, data: memoryview) -> None:
        pass

    def commit(self, digest: Digest) -> None:
        pass

    def abort(self) -> None:
        pass


def described(raw: bytes) -> Descriptor:
    return Descriptor(TAR, Digest.of(raw), len(raw))


def sealed(raw: bytes, keys: Path) -> tuple[Descriptor, UnlockedLayer]:
    who = [parse_recipient(f"jwe:{keys}/p256.pub.pem")]
    edit = encrypt_layer(described(raw), MemoryReader(raw), _Nowhere(), who)
    assert edit.media_type
    assert edit.digest
    layer = Descriptor(edit.media_type, edit.digest, len(raw), edit.set_annotations)
    return layer, unlock_layer(layer, parse_keyring([keys / "p256.pem"]))


@given(raw=st.binary(max_size=200), other=st.binary(max_size=200))
def test_of_the_same_bytes_alone(keys: Path, raw: bytes, other: bytes) -> None:
    layer, unlocked = sealed(raw, keys)
    assert is_made_of(layer, unlocked, described(raw), MemoryReader(raw))
    found = is_made_of(layer, unlocked, described(other), MemoryReader(other))
    assert found == (raw == other)


@pytest.mark.parametrize("length", [CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_over_several_chunks(keys: Path, length: int) -> None:
    raw = bytes(range(251)) * (length // 251 + 1)
    raw = raw[:length]
    layer, unlocked = sealed(raw, keys)
    counted: list[int] = []
    assert is_made_of(layer, unlocked, described(raw), MemoryReader(raw), counted.append)
    assert sum(counted) == length
    changed = raw[:-1] + bytes([raw[-1] ^ 1])
    assert not is_made_of(layer, unlocked, described(changed), MemoryReader(changed))


def test_another_hmac_or_key_or_nonce(keys: Path) -> None:
    raw = b"content" * 40
    layer, unlocked = sealed(raw, keys)
    private = unlocked.private
    for wrong in (
        replace(unlocked, public=PublicOptions(unlocked.public.cipher, b"h" * 32)),
        replace(unlocked, private=replace(private, nonce=b"n" * 16)),
        replace(unlocked, private=replace(private, symkey=b"k" * 32)),
    ):
        assert not is_made_of(layer, wrong, described(raw), MemoryReader(raw))


def test_a_plain_layer_that_is_not_what_names_it(keys: Path) -> None:
    raw = b"content" * 40
    layer, unlocked = sealed(raw, keys)
    lie = replace(described(raw), digest=Digest.of(b"other"))
    with pytest.raises(DigestMismatchError):
        is_made_of(layer, unlocked, lie, MemoryReader(raw))


def test_nothing_of_the_old_annotations_comes_along(keys: Path) -> None:
    layer, unlocked = sealed(b"content", keys)
    noted = replace(layer, annotations={**layer.annotations, "theirs": "x"})
    who = [parse_recipient(f"jwe:{keys}/p384.pub.pem")]
    edit = take_over(noted, unlocked, who, f"{TAR}+encrypted")
    assert set(edit.set_annotations) == set(layer.annotations)
    assert edit.digest == layer.digest
    taken = replace(layer, annotations=edit.set_annotations)
    ring = parse_keyring([keys / "p384.pem"])
    assert unlock_layer(taken, ring).private == unlocked.private
