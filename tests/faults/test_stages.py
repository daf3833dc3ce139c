"""A layer whose reading or writing fails at every step: the right error, no thread and no file."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from typing import TYPE_CHECKING

import pytest

from boltseal._io import pipeline
from boltseal.errors import BoltsealError, StorageError
from boltseal.keywrap.jwe import JweIdentity, JweRecipient
from boltseal.keywrap.keyfiles import load_private, load_public
from boltseal.keywrap.keyring import Keyring
from boltseal.layer.decrypt import decrypt_layer, unlock_layer
from boltseal.layer.encrypt import encrypt_layer
from boltseal.layer.rotate import rotate_layer
from boltseal.layer.verify import verify_layer
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.transports.oci_layout import LayoutDestination
from boltseal.transports.parse import parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boltseal.spec.blobs import BlobWriter

TAR = "application/vnd.oci.image.layer.v1.tar"
CHUNK = 16
PLAIN = bytes(range(5 * CHUNK + 3))
PIECES = 6

Who = tuple[JweRecipient, JweIdentity]


@pytest.fixture(scope="module")
def who(keys: Path) -> Who:
    public = load_public((keys / "p256.pub.pem").read_bytes(), "p256")
    private = load_private((keys / "p256.pem").read_bytes(), "p256", lambda: None)
    return JweRecipient(public), JweIdentity(private)


@pytest.fixture(params=[1, 2, 8], ids="workers-{}".format)
def _workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    defaults = pipeline.Defaults(workers=request.param, chunk_size=CHUNK)
    monkeypatch.setattr(pipeline, "defaults", defaults)
    yield
    deadline = time.monotonic() + 30
    while [one for one in threading.enumerate() if one.name.startswith("boltseal-stage")]:
        assert time.monotonic() < deadline, "a thread was left"


class Failing:
    """A blob to read; read number ``at`` fails."""

    def __init__(self, data: bytes, at: int = -1, *, blocks: bool = False) -> None:
        self._stream, self._at, self.blocks = io.BytesIO(data), at, blocks

    def readinto(self, buffer: memoryview) -> int:
        self._at -= 1
        if self._at == -1:
            raise StorageError("the disk is gone")
        return self._stream.readinto(buffer)

    def close(self) -> None:
        pass


class Full:
    """A writer of which write number ``at`` fails."""

    def __init__(self, writer: BlobWriter, at: int) -> None:
        self._writer, self._at = writer, at
        self.commit, self.abort = writer.commit, writer.abort

    def write(self, data: memoryview) -> None:
        self._at -= 1
        if self._at == -1:
            raise StorageError("no space left")
        self._writer.write(data)


def sealed(who: Who) -> tuple[Descriptor, bytes]:
    kept = bytearray()

    class Memory:
        def write(self, data: memoryview) -> None:
            kept.extend(data)

        def commit(self, digest: Digest) -> None:
            pass

        def abort(self) -> None:
            pass

    plain = Descriptor(TAR, Digest.of(PLAIN), len(PLAIN))
    edit = encrypt_layer(plain, Failing(PLAIN), Memory(), [who[0]])
    assert edit.media_type is not None
    assert edit.digest is not None
    layer = Descriptor(edit.media_type, edit.digest, len(PLAIN), dict(edit.set_annotations))
    return layer, bytes(kept)


def works(who: Who) -> dict[str, tuple[bytes, Callable[[Failing, BlobWriter], object]]]:
    plain = Descriptor(TAR, Digest.of(PLAIN), len(PLAIN))
    layer, data = sealed(who)
    unlocked = unlock_layer(layer, Keyring((who[1],)))
    diff_id = Digest.of(PLAIN)
    return {
        "encrypt": (PLAIN, lambda source, to: encrypt_layer(plain, source, to, [who[0]])),
        "decrypt": (
            data,
            lambda source, to: decrypt_layer(layer, unlocked, source, to, diff_id=diff_id),
        ),
        "rotate": (
            data,
            lambda source, to: rotate_layer(layer, unlocked, source, to, [who[0]], diff_id=diff_id),
        ),
    }


def attempt(
    folder: Path, source: Failing, work: Callable[[Failing, BlobWriter], object], fails_at: int
) -> None:
    """Work on a layer for a layout that is never committed, so that nothing of it may be left."""
    with LayoutDestination(parse_reference(f"oci:{folder}/layout:v1")) as destination:
        writer = destination.create(len(PLAIN))
        try:
            work(source, Full(writer, fails_at))
        finally:
            writer.abort()


@pytest.mark.usefixtures("_workers")
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("kind", ["encrypt", "decrypt", "rotate"])
def test_reading_and_writing_fail_at_every_step(
    tmp_path: Path, who: Who, kind: str, blocks: bool
) -> None:
    data, work = works(who)[kind]
    for at in range(PIECES + 1):
        with pytest.raises(StorageError, match="the disk is gone"):
            attempt(tmp_path, Failing(data, at, blocks=blocks), work, -1)
        assert list(tmp_path.iterdir()) == []
    for at in range(PIECES):
        with pytest.raises(StorageError, match="no space left"):
            attempt(tmp_path, Failing(data, blocks=blocks), work, at)
        assert list(tmp_path.iterdir()) == []
    attempt(tmp_path, Failing(data, blocks=blocks), work, -1)  # and nothing but that failed
    assert list(tmp_path.iterdir()) == [], "what was not committed is not left either"


@pytest.mark.usefixtures("_workers")
@pytest.mark.parametrize("blocks", [False, True])
def test_one_wrong_byte_anywhere_commits_nothing(tmp_path: Path, who: Who, blocks: bool) -> None:
    data, work = works(who)["decrypt"]
    layer, _ = sealed(who)
    for at in range(0, len(data), 5):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(BoltsealError, match="digest"):
            attempt(tmp_path, Failing(changed, blocks=blocks), work, -1)
        assert list(tmp_path.iterdir()) == []
    assert verify_layer(layer, None, Failing(data, blocks=blocks)).problems


@pytest.mark.usefixtures("_workers")
@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK, 8 * CHUNK + 1])
def test_lengths_around_the_edges_of_chunks(who: Who, length: int) -> None:
    """Against AES-CTR and SHA-256 over the whole: what the pipeline cuts is put together right."""
    plain = hashlib.shake_128(b"layer").digest(length)
    for blocks in (False, True):
        got = bytearray()

        class Memory:
            def write(self, data: memoryview, got: bytearray = got) -> None:
                got.extend(data)

            def commit(self, digest: Digest, got: bytearray = got) -> None:
                assert digest == Digest.of(bytes(got))

            def abort(self) -> None:
                pass

        descriptor = Descriptor(TAR, Digest.of(plain), length)
        edit = encrypt_layer(descriptor, Failing(plain, blocks=blocks), Memory(), [who[0]])
        assert edit.media_type is not None
        assert edit.digest is not None
        layer = Descriptor(edit.media_type, edit.digest, length, dict(edit.set_annotations))
        unlocked = unlock_layer(layer, Keyring((who[1],)))
        cipher = bytes(got)
        assert cipher == whole(unlocked.private.symkey, unlocked.private.nonce, plain)
        got.clear()
        decrypt_layer(
            layer,
            unlocked,
            Failing(cipher, blocks=blocks),
            Memory(),
            diff_id=Digest.of(plain),
        )
        assert bytes(got) == plain


def whole(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    return Cipher(AES(key), CTR(nonce)).encryptor().update(plain)
