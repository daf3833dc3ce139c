"""Root keys: in files, in a token, in Vault, as a key pair."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.keys import root
from boltseal.broker.keys.root import FileRoot, check_root, create_file, open_root
from boltseal.errors import (
    BoltsealError,
    KeyFileError,
    KeyServiceError,
    NotFoundError,
    StorageError,
    UsageError,
)
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.generate import generate_key
from boltseal.keywrap.options import KeyOptions
from support.kms_http import running
from support.kms_vault import Vault
from support.softhsm import SoftHsm

if TYPE_CHECKING:
    from pathlib import Path

SECRET = bytes(range(36))


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    create_file(str(path))
    assert path.stat().st_size == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = open_root(f"file:{path}")
    check_root(found)
    wrapped = found.wrap(SECRET)
    assert found.wrap(SECRET) != wrapped
    assert open_root(f"file:{path}").unwrap(wrapped) == SECRET
    assert SECRET not in wrapped
    assert path.read_bytes().hex() not in repr(found) + found.label
    with pytest.raises(StorageError, match="exists"):
        create_file(str(path))


def test_a_file_that_was_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    create_file(str(path))
    found = open_root(f"file:{path}")
    assert found.again() is None
    assert isinstance(found, FileRoot)
    assert FileRoot(found.key).again() is None  # of no file
    create_file(str(tmp_path / "new"), like=str(path))
    (tmp_path / "new").replace(path)
    other = found.again()
    assert other is not None
    assert other.label != found.label
    assert other.again() is None
    path.chmod(0o644)
    assert found.again() is None  # nobody takes a key that others can read


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_a_new_file_is_for_whom_the_one_before_was(tmp_path: Path) -> None:
    path, new = tmp_path / "root.key", tmp_path / "root.key.new"
    create_file(str(path))
    os.chown(path, 65532, 65533)
    path.chmod(0o400)
    create_file(str(new), like=str(path))
    found = new.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65532, 65533, 0o400)


def test_another_file_opens_nothing(tmp_path: Path) -> None:
    one, other = FileRoot(os.urandom(32)), FileRoot(os.urandom(32))
    assert one.label != other.label
    wrapped = bytearray(one.wrap(SECRET))
    for opener, packet in ((other, bytes(wrapped)), (one, b""), (one, b"x" * 12)):
        with pytest.raises(NotMyKeyError):
            opener.unwrap(packet)
    wrapped[-1] ^= 1
    with pytest.raises(NotMyKeyError):
        one.unwrap(bytes(wrapped))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o620, 0o644, 0o610])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "root.key"
    create_file(str(path))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="read by others") as caught:
        open_root(f"file:{path}")
    assert caught.value.hint == f"run: chmod 600 {path}"


def test_whose_file_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(mode: int, owner: int, *, we: int) -> bool:
        monkeypatch.setattr(os, "geteuid", lambda: we)
        return root._is_private(os.stat_result((0o100000 | mode, 1, 1, 1, owner, 5, 32, 0, 0, 0)))

    assert found(0o600, 7, we=7)
    assert found(0o400, 7, we=7)
    assert found(0o600, 0, we=0)
    assert found(0o400, 0, we=7)
    assert not found(0o600, 8, we=7)  # somebody else can write to it
    assert not found(0o600, 8, we=0)
    assert found(0o440, 0, we=7)  # a pod's secret with an fsGroup
    assert not found(0o440, 7, we=7)
    assert not found(0o440, 0, we=0)
    assert not found(0o460, 0, we=7)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "root.key"
    path.write_bytes(b"k" * size)
    path.chmod(0o600)
    with pytest.raises(BoltsealError, match=r"32 bytes|over the limit"):
        open_root(f"file:{path}")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no root key"):
        open_root(f"file:{tmp_path}/nothing")
    with pytest.raises(BoltsealError):
        open_root(f"file:{tmp_path}")
    link = tmp_path / "link"
    create_file(str(tmp_path / "root.key"))
    link.symlink_to("root.key")
    assert open_root(f"file:{link}") == open_root(f"file:{tmp_path}/root.key")


def test_a_key_pair(tmp_path: Path) -> None:
    pair = generate_key(str(tmp_path / "root.pem"), "p256")
    found = open_root(pair.private_file, recipient=f"jwe:{pair.public_file}")
    check_root(found)
    assert found.unwrap(found.wrap(SECRET)) == SECRET
    assert found.label.startswith("key:")
    assert len(found.label) <= 80


def test_halves_of_two_pairs_are_found_out(tmp_path: Path) -> None:
    one = generate_key(str(tmp_path / "one.pem"), "p256")
    other = generate_key(str(tmp_path / "other.pem"), "p256")
    with pytest.raises(KeyServiceError, match="does not open what was wrapped"):
        check_root(open_root(one.private_file, recipient=f"jwe:{other.public_file}"))


def test_spellings_that_make_no_sense(tmp_path: Path) -> None:
    pair = generate_key(str(tmp_path / "root.pem"), "p256")
    create_file(str(tmp_path / "root.key"))
    with pytest.raises(UsageError, match="public half is not named"):
        open_root(pair.private_file)
    with pytest.raises(UsageError, match="no recipient beside it"):
        open_root(f"file:{tmp_path}/root.key", recipient=f"jwe:{pair.public_file}")


def test_vault() -> None:
    with running(Vault()) as server:
        server.make("root")
        options = KeyOptions(environment={"VAULT_ADDR": server.url, "VAULT_TOKEN": "root"})
        found = open_root("hashivault://root", options)
        check_root(found)
        wrapped = found.wrap(SECRET)
        assert open_root("hashivault://root", options).unwrap(wrapped) == SECRET
        assert SECRET not in wrapped


def test_a_token(tmp_path: Path, data: Path) -> None:
    hsm = SoftHsm(tmp_path)
    hsm.init("broker")
    hsm.add("broker", data / "keys" / "rsa2048.pem", "root", 1)
    found = open_root(f"pkcs11:{hsm.yaml('root.yaml', 'token=broker;object=root;id=%01')}")
    check_root(found)
    assert found.unwrap(found.wrap(SECRET)) == SECRET
