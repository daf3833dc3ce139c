"""Looking into a layer: what is seen counts only when everything was right, and has bounds."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import (
    AuthenticationError,
    DigestMismatchError,
    IntegrityError,
    LimitExceededError,
)
from boltseal.keywrap.keyring import Keyring
from boltseal.keywrap.parse import parse_identity, parse_recipient
from boltseal.layer import look
from boltseal.layer.decrypt import unlock_layer
from boltseal.layer.encrypt import encrypt_layer
from boltseal.layer.globs import Glob
from boltseal.layer.look import find_paths
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from support.images import GZIP, TAR, compress, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

GLOBS = (Glob.parse("*.pem"), Glob.parse("/nothing"), Glob.parse("srv/app"))
FILES = tar_bytes({"srv/app/key.pem": b"k" * 3000, "usr/bin/x": b"x" * 2_500_000})


class Reader(io.BytesIO):
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return super().readinto(buffer[:1000])  # short reads


class Writer(io.BytesIO):
    def commit(self, digest: Digest) -> None:
        pass

    def abort(self) -> None:
        pass


def stored(blob: bytes, kind: str = TAR) -> Descriptor:
    return Descriptor(kind, Digest.of(blob), len(blob))


@pytest.mark.parametrize("kind", [TAR, GZIP])
def test_which_globs_match(kind: str) -> None:
    blob = compress(FILES, kind)
    ticks: list[int] = []
    found = find_paths(
        stored(blob), None, Reader(blob), GLOBS, diff_id=Digest.of(FILES), tick=ticks.append
    )
    assert found == {0, 2}
    assert sum(ticks) == len(blob)


def test_an_empty_layer_holds_nothing() -> None:
    for tar in (b"", tar_bytes({}), b"\0" * 1024):
        for blob in (tar, gzip.compress(tar)):
            assert find_paths(stored(blob), None, Reader(blob), GLOBS) == frozenset()


def test_what_is_behind_the_end_of_the_archive_counts_for_the_diff_id() -> None:
    tail = FILES + b"\0" * 9000 + b"salt"
    assert find_paths(stored(tail), None, Reader(tail), GLOBS, diff_id=Digest.of(tail)) == {0, 2}
    with pytest.raises(DigestMismatchError, match="not believed"):
        find_paths(stored(tail), None, Reader(tail), GLOBS, diff_id=Digest.of(FILES))


def sealed(keys: Path, tar: bytes) -> tuple[Descriptor, bytes]:
    plain = stored(tar)
    writer = Writer()
    who = [parse_recipient(f"jwe:{keys}/p256.pub.pem")]
    change = encrypt_layer(plain, Reader(tar), writer, who)
    assert change.media_type
    assert change.digest
    layer = Descriptor(change.media_type, change.digest, len(tar), change.set_annotations)
    return layer, writer.getvalue()


def test_an_encrypted_layer_is_opened_and_authenticated(keys: Path) -> None:
    layer, blob = sealed(keys, FILES)
    unlocked = unlock_layer(layer, Keyring([parse_identity(str(keys / "p256.pem"))]))
    diff_id = Digest.of(FILES)
    assert find_paths(layer, unlocked, Reader(blob), GLOBS, diff_id=diff_id) == {0, 2}
    # somebody made another blob of it, and a manifest that names that one
    other = bytes([blob[0] ^ 1]) + blob[1:]
    forged = Descriptor(layer.media_type, Digest.of(other), len(other), layer.annotations)
    with pytest.raises(AuthenticationError):
        find_paths(forged, unlocked, Reader(other), GLOBS, diff_id=diff_id)


def test_what_is_wrong_with_the_blob_is_told_first() -> None:
    """A byte that was changed on the way breaks the archive; that is not what went wrong."""
    blob = FILES[:100] + b"\1" + FILES[101:]
    with pytest.raises(DigestMismatchError, match="the blob's digest is"):
        find_paths(stored(FILES), None, Reader(blob), GLOBS)
    with pytest.raises(IntegrityError, match="damaged"):
        find_paths(stored(blob), None, Reader(blob), GLOBS)


def test_names_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tar_bytes({f"srv/{number:03}": b"" for number in range(100)})
    monkeypatch.setattr(look, "MAX_NAMES_BYTES", 700)
    assert find_paths(stored(tar), None, Reader(tar), GLOBS) == frozenset()
    monkeypatch.setattr(look, "MAX_NAMES_BYTES", 699)
    with pytest.raises(LimitExceededError, match="limit of 699"):
        find_paths(stored(tar), None, Reader(tar), GLOBS)


def test_content_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = gzip.compress(FILES)
    monkeypatch.setattr(look, "MAX_BLOB_BYTES", len(FILES) - 1)
    with pytest.raises(LimitExceededError, match="decompresses to more"):
        find_paths(stored(blob), None, Reader(blob), GLOBS)
