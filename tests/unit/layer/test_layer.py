"""One layer through memory: lengths, verdict before commit, and the check of what is inside."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import TYPE_CHECKING

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io.pipeline import CHUNK_SIZE
from boltseal.blockcipher.options import PrivateOptions
from boltseal.errors import (
    AuthenticationError,
    DigestMismatchError,
    IntegrityError,
    MalformedError,
    SizeMismatchError,
)
from boltseal.keywrap.jwe import JweIdentity, JweRecipient
from boltseal.keywrap.keyfiles import load_private, load_public
from boltseal.keywrap.keyring import Keyring
from boltseal.layer.content import ContentCheck
from boltseal.layer.decrypt import decrypt_layer, unlock_layer
from boltseal.layer.encrypt import encrypt_layer
from boltseal.layer.rewrap import add_recipients
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.spec.edit import DescriptorEdit

TAR = "application/vnd.oci.image.layer.v1.tar"


class Memory:
    """A blob in memory, as reader and writer."""

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


@pytest.fixture(scope="module")
def who(keys: Path) -> tuple[JweRecipient, JweIdentity]:
    public = load_public((keys / "p256.pub.pem").read_bytes(), "p256")
    private = load_private((keys / "p256.pem").read_bytes(), "p256", lambda: None)
    return JweRecipient(public), JweIdentity(private)


def described(data: bytes, media_type: str = TAR) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))


def after(layer: Descriptor, edit: DescriptorEdit) -> Descriptor:
    assert edit.media_type
    assert edit.digest
    assert edit.size is not None
    return Descriptor(edit.media_type, edit.digest, edit.size, dict(edit.set_annotations))


@pytest.mark.parametrize(
    "length",
    [
        0,
        1,
        15,
        16,
        17,
        CHUNK_SIZE - 1,
        CHUNK_SIZE,
        CHUNK_SIZE + 1,
        9 * CHUNK_SIZE,
        9 * CHUNK_SIZE + 7,
    ],
)
def test_lengths_around_the_edges(length: int, who: tuple[JweRecipient, JweIdentity]) -> None:
    recipient, identity = who
    plain = bytes(range(256)) * (length // 256) + bytes(length % 256)
    layer, target = described(plain), Memory()
    sealed = after(layer, encrypt_layer(layer, Memory(plain), target, [recipient]))
    assert target.committed == sealed.digest == Digest.of(bytes(target.written))
    assert sealed.size == length
    opened = Memory()
    unlocked = unlock_layer(sealed, Keyring((identity,)))
    edit = decrypt_layer(sealed, unlocked, Memory(bytes(target.written)), opened)
    assert bytes(opened.written) == plain
    assert (edit.digest, edit.media_type) == (layer.digest, TAR)
    assert unlocked.private.digest == str(layer.digest)


@pytest.mark.parametrize("length", [0, 1, 63, 65, 2 * CHUNK_SIZE])
def test_a_source_of_another_length_or_content_is_never_committed(
    length: int, who: tuple[JweRecipient, JweIdentity]
) -> None:
    stated = described(b"x" * 64)
    target = Memory()
    with pytest.raises(SizeMismatchError):
        encrypt_layer(stated, Memory(b"x" * length), target, [who[0]])
    with pytest.raises(DigestMismatchError):
        encrypt_layer(stated, Memory(b"y" * 64), target, [who[0]])
    assert target.committed is None


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_a_changed_bit_is_never_committed(
    place: int, who: tuple[JweRecipient, JweIdentity]
) -> None:
    recipient, identity = who
    layer, target = described(b"x" * 64), Memory()
    sealed = after(layer, encrypt_layer(layer, Memory(b"x" * 64), target, [recipient]))
    target.written[place] ^= 1
    changed = bytes(target.written)
    forged = Descriptor(sealed.media_type, Digest.of(changed), 64, sealed.annotations)
    opened = Memory()
    with pytest.raises(AuthenticationError):
        decrypt_layer(forged, unlock_layer(forged, Keyring((identity,))), Memory(changed), opened)
    assert opened.committed is None


def test_recipients_are_added_beside_the_old_ones(
    keys: Path, who: tuple[JweRecipient, JweIdentity]
) -> None:
    recipient, identity = who
    layer, target = described(b"x"), Memory()
    sealed = after(layer, encrypt_layer(layer, Memory(b"x"), target, [recipient]))
    other = JweIdentity(load_private((keys / "other.pem").read_bytes(), "other", lambda: None))
    new = JweRecipient(load_public((keys / "other.pub.pem").read_bytes(), "other"))
    edit = add_recipients(sealed, unlock_layer(sealed, Keyring((identity,))), [new], print)
    shared = Descriptor(
        sealed.media_type, sealed.digest, 1, {**sealed.annotations, **edit.set_annotations}
    )
    secrets = {
        json.dumps(str(unlock_layer(shared, Keyring((one,))).private.symkey))
        for one in (identity, other)
    }
    assert len(secrets) == 1
    assert isinstance(unlock_layer(shared, Keyring((other,))).private, PrivateOptions)


CONTENT = b"a layer's tar archive " * 3000


def verdict(blob: bytes, step: int, expected: bytes = CONTENT) -> None:
    check = ContentCheck(Digest.of(expected))
    for at in range(0, len(blob), step):
        check.update(memoryview(blob)[at : at + step])
    check.finish()


GZIP = gzip.compress(CONTENT)
ZSTD = zstd.compress(CONTENT)
HALF = len(CONTENT) // 2
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
FORMS = {
    "plain": CONTENT,
    "gzip": GZIP,
    "gzip of two members": gzip.compress(CONTENT[:HALF]) + gzip.compress(CONTENT[HALF:]),
    "gzip with an empty member": GZIP + gzip.compress(b""),
    "gzip with padding": GZIP + bytes(512),
    "zstd": ZSTD,
    "zstd of two frames": zstd.compress(CONTENT[:HALF]) + zstd.compress(CONTENT[HALF:]),
    "zstd after a skippable frame": SKIPPABLE + ZSTD,
    "zstd before a skippable frame": ZSTD + SKIPPABLE,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_content_in_every_form_and_split(form: str, step: int) -> None:
    verdict(FORMS[form], step)
    with pytest.raises(DigestMismatchError, match="another image"):
        verdict(FORMS[form], step, CONTENT + b"x")


@pytest.mark.parametrize("short", [b"", b"a", b"abc", b"\x1f\x8b", b"\x28\xb5"])
def test_content_too_short_to_tell(short: bytes) -> None:
    verdict(short, 1, short)


BROKEN = {
    "cut gzip": GZIP[:-1],
    "cut in the gzip header": GZIP[:6],
    "gzip with a wrong checksum": GZIP[:-8] + bytes(8),
    "gzip with something behind it": GZIP + b"more",
    "gzip with something behind padding": GZIP + bytes(9) + b"more",
    "zlib data with gzip's magic": GZIP[:10] + zlib.compress(CONTENT),
    "cut zstd": ZSTD[:-1],
    "zstd with something behind it": ZSTD + b"more",
    "zstd with a broken block": ZSTD[:20] + b"\xff" * 20 + ZSTD[40:],
}


@pytest.mark.parametrize("form", BROKEN)
@pytest.mark.parametrize("step", [1, 1000])
def test_broken_compression(form: str, step: int) -> None:
    with pytest.raises((MalformedError, DigestMismatchError)):
        verdict(BROKEN[form], step)


def test_a_bomb_takes_no_memory() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    import tracemalloc

    tracemalloc.start()
    verdict(bomb, 1 << 20, bytes(64 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (64 << 20) + (8 << 20), "the expected content is most of it"


@given(st.binary(max_size=60))
def test_noise_never_fails_otherwise(data: bytes) -> None:
    try:
        verdict(data, 13, data)
    except IntegrityError:
        assert data[:2] in (b"\x1f\x8b", b"\x28\xb5") or data[1:4] == b"\x2a\x4d\x18"
