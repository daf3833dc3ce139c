"""One layer gets a new key in memory: nothing of the old one is left, and the verdict is first."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import pipeline
from boltseal._io.pipeline import CHUNK_SIZE
from boltseal.blockcipher.options import PrivateOptions, PublicOptions
from boltseal.errors import AuthenticationError, IntegrityError
from boltseal.keywrap.jwe import JweIdentity, JweRecipient
from boltseal.keywrap.keyfiles import load_private, load_public
from boltseal.keywrap.keyring import Keyring
from boltseal.layer import rewrap
from boltseal.layer.decrypt import UnlockedLayer, decrypt_layer, unlock_layer
from boltseal.layer.encrypt import encrypt_layer
from boltseal.layer.rotate import rotate_layer
from boltseal.spec.annotations import KEYS, PUBLIC_OPTIONS
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

TAR = "application/vnd.oci.image.layer.v1.tar"


class Memory:
    """A blob in memory, as reader and writer; it remembers whether it was committed."""

    def __init__(self, data: bytes = b"") -> None:
        self._stream = io.BytesIO(data)
        self.written = bytearray()
        self.committed: Digest | None = None

    def readinto(self, buffer: memoryview) -> int:
        return self._stream.readinto(buffer)

    def close(self) -> None:
        pass

    def write(self, data: memoryview) -> None:
        self.written += data

    def commit(self, digest: Digest) -> None:
        self.committed = digest

    def abort(self) -> None:
        pass


class Person:
    """A recipient and its key."""

    def __init__(self, keys: Path, name: str) -> None:
        file = keys / f"{name}.pem"
        self.recipient = JweRecipient(load_public((keys / f"{name}.pub.pem").read_bytes(), name))
        self.identity = JweIdentity(load_private(file.read_bytes(), name, lambda: None))

    def unlock(self, layer: Descriptor) -> UnlockedLayer:
        return unlock_layer(layer, Keyring((self.identity,)))


@pytest.fixture(scope="module")
def alice(keys: Path) -> Person:
    return Person(keys, "p256")


@pytest.fixture(scope="module")
def bob(keys: Path) -> Person:
    return Person(keys, "p384")


def seal(plain: bytes, person: Person) -> tuple[Descriptor, bytes]:
    layer, target = Descriptor(TAR, Digest.of(plain), len(plain)), Memory()
    edit = encrypt_layer(layer, Memory(plain), target, [person.recipient])
    assert edit.digest
    media_type = edit.media_type or ""
    annotations = {**edit.set_annotations, "org.example": "kept"}
    return Descriptor(media_type, edit.digest, len(plain), annotations), bytes(target.written)


def rotate(
    layer: Descriptor, blob: bytes, old: Person, new: Person, **options: object
) -> tuple[Descriptor, bytes]:
    target = Memory()
    rotated = rotate_layer(
        layer, old.unlock(layer), Memory(blob), target, [new.recipient], **options  # type: ignore[arg-type]
    )  # fmt: skip
    assert target.committed == rotated.digest == Digest.of(bytes(target.written))
    edit = rotated.edit(layer)
    assert edit.digest == rotated.digest
    after = replace(layer, digest=edit.digest, annotations=rewrap.edited(layer, edit))
    return after, bytes(target.written)


def opened(layer: Descriptor, blob: bytes, unlocked: UnlockedLayer) -> bytes:
    target = Memory()
    decrypt_layer(layer, unlocked, Memory(blob), target)
    return bytes(target.written)


@pytest.mark.parametrize(
    "length",
    [0, 1, 15, 16, 17, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 9 * CHUNK_SIZE + 7],
)
def test_lengths_around_the_edges(length: int, alice: Person, bob: Person) -> None:
    plain = (b"0123456789abcdef" * (length // 16 + 1))[:length]
    layer, blob = seal(plain, alice)
    after, new = rotate(layer, blob, alice, bob)
    assert opened(after, new, bob.unlock(after)) == plain
    assert len(new) == length
    if length > 16:
        assert new != blob
        assert new != plain


@given(st.binary(max_size=200), st.integers(1, 64))
def test_any_content_over_any_chunks(alice: Person, bob: Person, plain: bytes, size: int) -> None:
    layer, blob = seal(plain, alice)

    def run(read_into: object, stages: object, **_: object) -> int:
        return whole(read_into, stages, size=None, chunk_size=size)  # type: ignore[arg-type]

    whole = pipeline.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run", run)
        after, new = rotate(layer, blob, alice, bob)
    assert opened(after, new, bob.unlock(after)) == plain


def test_nothing_of_the_old_key_is_left(alice: Person, bob: Person) -> None:
    plain = b"what nobody else may read" * 99
    layer, blob = seal(plain, alice)
    layer = replace(layer, annotations={**layer.annotations, f"{KEYS}provider.old": "AAAA"})
    old = unlock_layer(layer, Keyring((alice.identity,)))
    after, new = rotate(layer, blob, alice, bob)
    assert after.annotations.keys() == {f"{KEYS}jwe", PUBLIC_OPTIONS, "org.example"}
    fresh = bob.unlock(after)
    assert old.private.symkey != fresh.private.symkey
    assert old.private.nonce != fresh.private.nonce
    assert old.public.hmac != fresh.public.hmac
    assert old.private.digest == fresh.private.digest == str(Digest.of(plain))
    # the old private options, with whichever HMAC, open nothing of the new blob
    for public in (old.public, fresh.public):
        with pytest.raises(AuthenticationError):
            opened(after, new, replace(old, public=public))
    mixed = replace(fresh.private, symkey=old.private.symkey)
    with pytest.raises(AuthenticationError):
        opened(after, new, replace(fresh, private=mixed))
    assert plain[:25] not in new


def test_two_rotations_have_nothing_in_common(alice: Person, bob: Person) -> None:
    layer, blob = seal(b"x" * 4096, alice)
    made = [rotate(layer, blob, alice, bob) for _ in range(2)]
    assert len({hashlib.sha256(new).hexdigest() for _, new in made}) == 2
    secrets = [bob.unlock(after).private for after, _ in made]
    assert secrets[0].symkey != secrets[1].symkey


def broken(kind: str, layer: Descriptor, blob: bytes) -> tuple[Descriptor, bytes]:
    flipped = bytes([blob[0] ^ 1]) + blob[1:]
    if kind == "content":
        return layer, flipped
    if kind == "content and digest":
        return replace(layer, digest=Digest.of(flipped)), flipped
    if kind == "shorter":
        return layer, blob[:-1]
    if kind == "longer":
        return layer, blob + b"x"
    options = PublicOptions.parse(layer.annotations[PUBLIC_OPTIONS])
    wrong = replace(options, hmac=bytes(32)).annotation()
    return replace(layer, annotations={**layer.annotations, PUBLIC_OPTIONS: wrong}), blob


@pytest.mark.parametrize("kind", ["content", "content and digest", "shorter", "longer", "hmac"])
@pytest.mark.parametrize("length", [64, 2 * CHUNK_SIZE])
def test_what_is_not_right_is_never_committed(
    alice: Person, bob: Person, kind: str, length: int
) -> None:
    layer, blob = broken(kind, *seal(b"y" * length, alice))
    target = Memory()
    with pytest.raises(IntegrityError):
        rotate_layer(layer, alice.unlock(layer), Memory(blob), target, [bob.recipient])
    assert target.committed is None


@pytest.mark.parametrize("right", [True, False])
def test_content_is_compared_where_that_is_asked_for(
    alice: Person, bob: Person, right: bool
) -> None:
    tar = b"t" * 3000
    layer, blob = seal(gzip.compress(tar, mtime=0), alice)
    target, diff_id = Memory(), Digest.of(tar if right else b"another")

    def run() -> None:
        rotate_layer(
            layer, alice.unlock(layer), Memory(blob), target, [bob.recipient], diff_id=diff_id
        )

    if right:
        run()
    else:
        with pytest.raises(IntegrityError, match="diff id"):
            run()
    assert (target.committed is not None) == right


def test_the_embedded_copy_is_the_new_one(alice: Person, bob: Person) -> None:
    layer, blob = seal(b"small", alice)
    rotated = rotate_layer(
        layer, alice.unlock(layer), Memory(blob), Memory(), [bob.recipient], embed=True
    )
    assert rotated.data is not None
    assert Digest.of(rotated.data) == rotated.digest
    assert rotated.edit(layer).data == rotated.data


def test_a_digest_that_is_none_is_not_handed_on(alice: Person, bob: Person) -> None:
    """It is the first writer's word, at any length."""
    layer, blob = seal(b"plain", alice)
    before = alice.unlock(layer)
    lying = replace(before, private=replace(before.private, digest="sha256:" + "z" * 9000))
    rotated = rotate_layer(layer, lying, Memory(blob), Memory(), [bob.recipient])
    after = replace(layer, digest=rotated.digest, annotations=rotated.annotations)
    secret = Keyring((bob.identity,)).unwrap(after.annotations).secret
    assert json.loads(secret)["digest"] == ""
    assert PrivateOptions.parse(secret).digest == ""
