"""OpenPGP with the real GnuPG: what is written, what is opened, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyFileError, KeyServiceError, LimitExceededError, MalformedError
from boltseal.keywrap import keyring
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_identity, parse_recipient
from boltseal.keywrap.pgp import packet
from support.cli import boltseal
from support.gnupg import PASSPHRASE, RSA, RSA_SUBKEY, Crowd, Home, gnupg_home
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b'{"symkey":"AAAA"}'


def test_one_message_for_all(options: KeyOptions, crowd: Crowd, tmp_path: Path) -> None:
    names = ("rsa@example.org", "curve@example.org", "notbob@example.org", "locked@example.org")
    recipients = [parse_recipient(f"pgp:{one}", options) for one in names]
    wrapped = keyring.wrap(recipients, SECRET)
    assert list(wrapped) == ["pgp"]
    [message] = wrapped["pgp"]
    keys = packet.parse(message).keys
    assert [key.algorithm for key in keys] == [1, 18, 18, 1]
    assert [key.key_id for key in keys] == [one.key_id for one in recipients]  # type: ignore[attr-defined]
    shown = crowd.home.gpg("--list-packets", given=message).decode()
    assert "mdc_method: 2" in shown
    assert ":literal data packet:\n\tmode b" in shown
    assert "compressed" not in shown
    assert "signature" not in shown
    for name in names[:3]:  # GnuPG itself opens it, with one key after another
        identity = parse_identity(f"pgp:{name}", options)
        assert identity.unwrap("pgp", message) == SECRET
    (tmp_path / "m").write_bytes(message)
    assert crowd.home.gpg("--decrypt", tmp_path / "m") == SECRET


def test_many_layers_at_the_same_time(crowd: Crowd) -> None:
    names = ("rsa@example.org", "curve@example.org")
    recipients = [parse_recipient(f"pgp:{one}", crowd.home.options()) for one in names]
    secrets = [b"secret %d" % number for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        wrapped = list(pool.map(lambda one: keyring.wrap(recipients, one)["pgp"][0], secrets))
        identity = parse_identity("pgp:curve@example.org", crowd.home.options())
        assert list(pool.map(lambda one: identity.unwrap("pgp", one), wrapped)) == secrets


def test_a_machine_without_a_keyring(tmp_path: Path) -> None:
    """GnuPG was never used here, and nothing is made by looking."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    kinds = KeyOptions(environment=environment)
    with pytest.raises(KeyFileError, match=r"has no key for bob@.*import it first"):
        parse_recipient("pgp:bob@example.org", kinds)
    assert parse_identity("pgp:", kinds).describe() == "pgp: (GnuPG's keys)"
    assert not list(tmp_path.iterdir())


def test_gpg_conf_changes_nothing(data: Path, tmp_path: Path) -> None:
    with gnupg_home() as home:
        home.load(*(data / "keys" / f"pgp-{one}.pub.gpg" for one in ("rsa", "curve")))
        (home.path / "gpg.conf").write_text(
            "armor\nthrow-keyids\nencrypt-to curve@example.org\ncipher-algo CAST5\n"
            f"output {tmp_path}/stray\ncompress-algo bzip2\nlog-file {tmp_path}/log\n"
        )
        options = home.options()
        recipient = parse_recipient("pgp:rsa@example.org", options)
        [message] = keyring.wrap([recipient], SECRET)["pgp"]
        assert [one.key_id for one in packet.parse(message).keys] == [RSA_SUBKEY]
        assert not list(tmp_path.iterdir())


def test_a_recipient_who_is_lost_meanwhile_is_an_error(data: Path) -> None:
    with gnupg_home() as home:
        home.load(data / "keys" / "pgp-rsa.pub.gpg")
        own = home.generate("gone@example.org")
        options = home.options()
        recipients = [parse_recipient(f"pgp:{one}", options) for one in (RSA, own)]
        home.revoke(own)
        with pytest.raises(KeyServiceError, match=f"does not encrypt for pgp gone@.*{own}"):
            keyring.wrap(recipients, SECRET)


def test_identities(options: KeyOptions, crowd: Crowd) -> None:
    recipients = [parse_recipient(f"pgp:{one}@example.org", options) for one in ("curve", "rsa")]
    [message] = keyring.wrap(recipients, SECRET)["pgp"]
    everything = parse_identity("pgp:", options)
    assert everything.handles("pgp")
    assert not everything.handles("jwe")
    assert everything.unwrap("pgp", message) == SECRET
    assert everything.describe() == "pgp: (GnuPG's keys)"
    only = parse_identity("pgp:curve@example.org", options)
    assert "Curve Recipient <curve@example.org>" in only.describe()
    assert only.unwrap("pgp", message) == SECRET
    with pytest.raises(NotMyKeyError, match="other OpenPGP keys"):
        parse_identity("pgp:notbob@example.org", options).unwrap("pgp", message)


def test_old_keys_still_open(crowd: Crowd, options: KeyOptions) -> None:
    """A key that is revoked opens what was encrypted before; a recipient it cannot be."""
    with gnupg_home() as other:
        key = other.generate("old@example.org")
        mine = other.options()
        [message] = keyring.wrap([parse_recipient("pgp:old@example.org", mine)], SECRET)["pgp"]
        other.revoke(key)
        for who in ("", "old@example.org", key):
            assert parse_identity(f"pgp:{who}", mine).unwrap("pgp", message) == SECRET


def test_hidden_recipients(options: KeyOptions, crowd: Crowd) -> None:
    message = crowd.home.gpg(
        *("--trust-model", "always", "--throw-keyids", "-r", "curve@example.org", "-r", RSA),
        "--encrypt",
        given=SECRET,
    )
    assert [one.recipient for one in packet.describe_packet(message)] == ["hidden"] * 2
    for who in ("curve@example.org", "rsa@example.org"):
        assert parse_identity(f"pgp:{who}", options).unwrap("pgp", message) == SECRET
    with pytest.raises(NotMyKeyError):
        parse_identity("pgp:notbob@example.org", options).unwrap("pgp", message)


def test_no_such_secret_key(options: KeyOptions, data: Path) -> None:
    with pytest.raises(KeyFileError, match="no secret key for nobody@example"):
        parse_identity("pgp:nobody@example.org", options)
    with gnupg_home() as home:
        home.load(data / "keys" / "pgp-rsa.pub.gpg")
        public = home.options()
        with pytest.raises(KeyFileError, match="no secret key for rsa@"):
            parse_identity("pgp:rsa@example.org", public)
        [message] = keyring.wrap([parse_recipient(f"pgp:{RSA}", public)], SECRET)["pgp"]
        with pytest.raises(NotMyKeyError, match="GnuPG holds no secret key"):
            parse_identity("pgp:", public).unwrap("pgp", message)


def signed_and_plain(home: Home) -> dict[str, bytes]:
    """What ``gpg --decrypt`` would put out without complaint."""
    sign = ("--local-user", "notbob@example.org")
    loop = ("--pinentry-mode", "loopback", "--passphrase", PASSPHRASE)
    return {
        "stored": home.gpg("--store", given=SECRET),
        "signed": home.gpg(*sign, "--sign", given=SECRET),
        "clearsigned": home.gpg(*sign, "--clearsign", given=SECRET),
        "symmetric": home.gpg(*loop, "--symmetric", given=SECRET),
        "both": home.gpg(
            *(*loop, "--trust-model", "always", "--symmetric", "--encrypt", "-r", RSA), given=SECRET
        ),
        "nothing": b"",
    }


def test_what_was_not_encrypted_is_refused(options: KeyOptions, crowd: Crowd) -> None:
    identity = parse_identity("pgp:", options)
    for name, message in signed_and_plain(crowd.home).items():
        with pytest.raises(MalformedError):
            pytest.fail(f"{name}: {identity.unwrap('pgp', message)!r}")


def encrypted(home: Home, *arguments: str, given: bytes) -> bytes:
    how = ("--trust-model", "always", "--recipient", "curve@example.org")
    return home.gpg(*how, *arguments, given=given)


def test_hostile_messages(options: KeyOptions, crowd: Crowd) -> None:
    home, identity = crowd.home, parse_identity("pgp:", options)
    good = encrypted(home, "--encrypt", given=SECRET)
    assert identity.unwrap("pgp", good) == SECRET
    with pytest.raises(MalformedError, match="goes on"):
        identity.unwrap("pgp", good + good)
    bomb = encrypted(home, "--compress-algo", "zlib", "--encrypt", given=bytes(50 << 20))
    assert len(bomb) < 100_000
    with pytest.raises((LimitExceededError, MalformedError)):
        identity.unwrap("pgp", bomb)
    changed = bytearray(good)
    changed[-30] ^= 1
    with pytest.raises(MalformedError, match="was changed"):
        identity.unwrap("pgp", bytes(changed))
    message = packet.parse(good)
    cut = message.encrypted[2:-5]
    short = message.only(message.keys)[: -len(message.encrypted)]
    with pytest.raises(MalformedError, match="was changed"):
        identity.unwrap("pgp", short + bytes((0xD2, len(cut))) + cut)
    key = message.keys[0]
    body = bytearray(key.body)
    body[-3] ^= 1
    wrong = packet.SessionKey(key.key_id, key.algorithm, bytes(body))
    with pytest.raises(NotMyKeyError):
        identity.unwrap("pgp", message.only([wrong]))


@pytest.mark.parametrize("inner", ["signed", "nested", "empty", "two"])
def test_surprises_inside(options: KeyOptions, crowd: Crowd, inner: str, tmp_path: Path) -> None:
    """Encrypted, but not around one piece of data."""
    home, identity = crowd.home, parse_identity("pgp:", options)
    if inner == "signed":  # a signature says nothing here, and does no harm
        message = encrypted(
            home, "--local-user", "notbob@example.org", "--sign", "--encrypt", given=SECRET
        )
        assert identity.unwrap("pgp", message) == SECRET
        return
    if inner == "empty":
        message = encrypted(home, "--encrypt", given=b"")
        assert identity.unwrap("pgp", message) == b""  # the layer's options are not JSON then
        return
    literal = b"\xcb" + bytes((6 + len(SECRET),)) + b"b\0\0\0\0\0" + SECRET
    inside = encrypted(home, "--encrypt", given=SECRET) if inner == "nested" else literal * 2
    message = wrapped_as_is(home, options, inside, tmp_path)
    with pytest.raises((MalformedError, KeyServiceError)):
        pytest.fail(f"{identity.unwrap('pgp', message)!r}")


def wrapped_as_is(home: Home, options: KeyOptions, inside: bytes, folder: Path) -> bytes:
    """An encrypted packet (RFC 4880 section 5.13) around others, with a session key of gpg's."""
    import hashlib
    import os

    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    outer = encrypted(home, "--cipher-algo", "AES256", "--encrypt", given=b"x")
    (folder / "outer").write_bytes(outer)
    done = subprocess.run(
        ["gpg", "--homedir", home.path, "--batch", "--show-session-key", "-d", folder / "outer"],
        capture_output=True,
        check=True,
    )
    match = re.search(rb"session key: '9:([0-9A-F]{64})'", done.stderr)
    assert match
    key = bytes.fromhex(match[1].decode())
    prefix = os.urandom(16)
    plain = prefix + prefix[-2:] + inside + b"\xd3\x14"
    plain += hashlib.sha1(plain).digest()
    cipher = Cipher(algorithms.AES(key), CFB(bytes(16))).encryptor()
    body = b"\x01" + cipher.update(plain) + cipher.finalize()
    message = packet.parse(outer)
    start = message.only(message.keys)[: -len(message.encrypted)]
    return start + b"\xd2\xff" + len(body).to_bytes(4) + body


def test_as_is_is_right(options: KeyOptions, crowd: Crowd, tmp_path: Path) -> None:
    """The tool of the test above makes messages that open, so that refusals mean something."""
    literal = b"\xcb" + bytes((6 + len(SECRET),)) + b"b\0\0\0\0\0" + SECRET
    message = wrapped_as_is(crowd.home, options, literal, tmp_path)
    assert parse_identity("pgp:", options).unwrap("pgp", message) == SECRET


def test_images_end_to_end(crowd: Crowd, tmp_path: Path) -> None:
    """The commands, with today's default keys in the same keyring."""
    source = simple_image(tmp_path / "src")
    sealed, home = f"oci:{tmp_path}/enc:v1", str(crowd.home.path)
    run = boltseal(
        *("encrypt", source.reference(), sealed, "--gnupg-home", home),
        *("-r", "pgp:curve@example.org", "-r", f"pgp:{RSA}", "-r", "pgp:rsa@example.org"),
    )
    assert run.code == 0, run.err
    shown = boltseal("inspect", sealed).out
    assert RSA_SUBKEY in shown
    assert crowd.home.subkey("curve@example.org") in shown
    out = f"oci:{tmp_path}/out:v1"
    run = boltseal("decrypt", sealed, out, "-k", "pgp:", "--gnupg-home", home, "--check-content")
    assert run.code == 0, run.err
    root = boltseal("digest", out).out
    assert root == boltseal("digest", source.reference()).out
    run = boltseal(
        *("decrypt", sealed, f"oci:{tmp_path}/no:v1", "--gnupg-home", home),
        *("-k", "pgp:notbob@example.org"),
    )
    assert run.code == 3
    assert "wrapped for other OpenPGP keys" in run.err
    assert not (tmp_path / "no").exists()
