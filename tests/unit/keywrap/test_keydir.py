"""Folders of keys: Kubernetes' links, links that lead out, loops, what is no key, and limits."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyFileError, LimitExceededError
from boltseal.keywrap import keydir
from boltseal.keywrap.parse import parse_keyring
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.mkdir()
    return made


def described(folder: Path, suffix: str = "") -> list[str]:
    ring = parse_keyring([f"{folder}{suffix}"])
    return [one.describe().partition(" ")[0].removeprefix(f"{folder}/") for one in ring.identities]


def test_every_key_below_in_the_order_of_names(folder: Path, keys: Path) -> None:
    (folder / "b").mkdir()
    for name in ("z.pem", "a.pem", "b/m.pem"):
        shutil.copy(keys / "p256.pem", folder / name)
    assert described(folder) == ["a.pem", "b/m.pem", "z.pem"]


def test_kubernetes_secrets(folder: Path, keys: Path) -> None:
    data = folder / "..2026_11_24"
    data.mkdir()
    for name in ("one.pem", "two.pem"):
        shutil.copy(keys / "p256.pem", data / name)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(data.name)
    ring = parse_keyring([folder])
    assert described(folder) == ["one.pem", "two.pem"]
    assert ring.notes == ()  # the same files under their other names are passed over in silence


def test_links_that_lead_out_are_not_followed(folder: Path, keys: Path, tmp_path: Path) -> None:
    shutil.copy(keys / "p256.pem", folder / "mine.pem")
    (folder / "file.pem").symlink_to(keys / "rsa2048.pem")
    (folder / "out").symlink_to(keys)
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to(".")
    (folder / "nowhere").symlink_to("missing")
    ring = parse_keyring([folder])
    assert described(folder) == ["mine.pem"]
    notes = "\n".join(ring.notes)
    for name in ("file.pem", "out", "up"):
        assert f"{folder}/{name} was skipped: it is a link to a place outside" in notes
    assert f"{folder}/nowhere was skipped: no such file or directory" in notes


def test_what_is_no_key_is_skipped_with_a_note(folder: Path, keys: Path) -> None:
    shutil.copy(keys / "p256.pem", folder / "key.pem")
    shutil.copy(keys / "p256.pub.pem", folder / "public.pem")
    (folder / "README").write_text("these are keys")
    (folder / "empty").write_bytes(b"")
    (folder / "large").write_bytes(b"x" * (MAX_KEY_FILE_BYTES + 1))
    os.mkfifo(folder / "pipe")
    ring = parse_keyring([folder])
    assert len(ring.identities) == 1
    skipped = {note.partition(" was skipped")[0].rpartition("/")[2] for note in ring.notes}
    assert skipped == {"public.pem", "README", "empty", "large", "pipe"}


def test_one_passphrase_for_all_keys(folder: Path, data: Path) -> None:
    shutil.copy(data / "keys" / "rsa2048.enc-pkcs8.pem", folder / "locked.pem")
    assert described(folder, ":pass=s3cret") == ["locked.pem"]
    with pytest.raises(KeyFileError, match="no key that can be used") as failed:
        parse_keyring([folder])
    assert "is encrypted" in str(failed.value)
    assert "s3cret" not in str(failed.value)


def test_certificates_are_put_beside_their_keys(folder: Path, data: Path) -> None:
    for name in ("rsa2048.pem", "rsa2048.crt.pem", "rsa3072.crt.pem"):
        shutil.copy(data / "keys" / name, folder / name)
    ring = parse_keyring([folder])
    (identity,) = ring.identities
    assert [len(member.subjects) for member in identity.members[1:]] == [1]  # type: ignore[attr-defined]


def test_a_folder_without_keys_is_an_error(folder: Path) -> None:
    with pytest.raises(KeyFileError, match="there is no key"):
        parse_keyring([folder])


def test_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keydir, "MAX_FILES", 3)
    for name in "abcd":
        (folder / name).write_bytes(b"x")
    with pytest.raises(LimitExceededError, match="limit of 3 files"):
        list(keydir.walk(str(folder)))
    deep = folder / "/".join("x" * 20)
    deep.mkdir(parents=True)
    monkeypatch.setattr(keydir, "MAX_FILES", 1000)
    with pytest.raises(LimitExceededError, match="16 folders"):
        list(keydir.walk(str(folder)))
