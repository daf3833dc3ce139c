"""OpenPGP with the real GnuPG: whom a name means, what is written, and what is opened."""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import (
    KeyFileError,
    KeyServiceError,
    LimitExceededError,
    MalformedError,
    UsageError,
)
from boltseal.keywrap import keyring, secrets
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_identity, parse_recipient
from boltseal.keywrap.pgp import gnupg, packet
from boltseal.keywrap.pgp.child import Bounds
from boltseal.keywrap.pgp.keys import PgpRecipient
from support.cli import boltseal
from support.gnupg import PASSPHRASE, Home, gnupg_home
from support.images import simple_image
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b'{"symkey":"AAAA"}'
RSA = "C7394832A408CA1550ECC27911ADA1BCAE4857B5"
RSA_SUBKEY = "5C8576E6B496A768"
PAST = "20200101T000000!"


class Crowd:
    """A home with a key for every case, and their fingerprints by the first part of the address."""

    def __init__(self, home: Home, data: Path) -> None:
        self.home = home
        home.load(*(data / "keys" / f"pgp-{one}.sec.gpg" for one in ("rsa", "locked", "curve")))
        self.keys = {
            name: home.generate(f"{name.title()} Person <{name}@example.org>")
            for name in ("notbob", "revoked", "disabled", "renewed", "subrevoked")
        }
        self.keys["twin1"] = home.generate("Twin <twin@example.org>")
        self.keys["twin2"] = home.generate("Twin (the other) <twin@example.org>")
        self.keys["signer"] = home.generate("signer@example.org", encryption=False)
        for name in ("expired", "renewed"):
            self.keys[f"{name}-old"] = home.generate(
                f"{name.title()} Person <{name}@example.org>", expires="1y", at=PAST
            )
        self.keys["subexpired"] = home.generate(
            "subexpired@example.org", subkey_expires="1y", at=PAST
        )
        home.revoke(self.keys["revoked"])
        home.edit(self.keys["disabled"], "disable")
        home.edit(self.keys["subrevoked"], "key 1", "revkey", "y", "0", "", "y")


@pytest.fixture(scope="module")
def crowd(data: Path) -> Iterator[Crowd]:
    with gnupg_home() as home:
        yield Crowd(home, data)


@pytest.fixture
def options(crowd: Crowd) -> KeyOptions:
    return crowd.home.options()


def subkeys(recipients: list[PgpRecipient]) -> set[str]:
    return {one.key_id for one in recipients}


@pytest.mark.parametrize(
    "who",
    [
        "rsa@example.org",
        "RSA@EXAMPLE.ORG",
        "<rsa@example.org>",
        "Rsa Recipient",
        "rsa recipient",
        "Rsa Recipient <rsa@example.org>",
        RSA,
        RSA.lower(),
        "0x" + RSA,
        "C739 4832 A408 CA15 50EC  C279 11AD A1BC AE48 57B5",
        RSA[-16:],
        "0x" + RSA[-16:],
        RSA[-8:],
        "0x" + RSA[-8:].lower(),
        RSA_SUBKEY,
        RSA_SUBKEY + "!",
        "BDC37992C09E0CB0BD655BF85C8576E6B496A768",
    ],
)
def test_every_way_to_name_a_key(options: KeyOptions, who: str) -> None:
    found = parse_recipient(f"pgp:{who}", options)
    assert isinstance(found, PgpRecipient)
    assert (found.fingerprint, found.key_id) == (RSA, RSA_SUBKEY)
    assert found.describe() == f"pgp Rsa Recipient <rsa@example.org> {RSA} (key {RSA_SUBKEY})"


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("bob@example.org", "no key for bob@example.org; import it first"),
        ("example.org", "no key for example.org; similar ones are: "),
        ("@example.org", "no key for @example.org"),
        ("Rsa", f"no key for Rsa; similar ones are: {RSA}"),
        ("*", "no key for"),
        ("--output", "no key for --output"),
        ("-r", "no key for -r"),
        ("0x12345678", "no key for 0x12345678"),
        ("=x", "no key for =x"),
        ("twin@example.org", "fits several keys: "),
        ("Twin", "fits several keys: "),
        ("expired@example.org", "expired on 2020-12-31"),
        ("revoked@example.org", "is revoked"),
        ("disabled@example.org", "is disabled"),
        ("signer@example.org", "has no encryption subkey; add one"),
        ("subexpired@example.org", "has an encryption subkey that expired on 2020-12-31"),
        ("subrevoked@example.org", "has an encryption subkey that is revoked"),
        (RSA[-16:] + "!!", "no key for"),
    ],
)
def test_who_cannot_be_a_recipient(options: KeyOptions, who: str, words: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_recipient(f"pgp:{who}", options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_candidates_are_listed_with_fingerprints(options: KeyOptions, crowd: Crowd) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_recipient("pgp:twin@example.org", options)
    for name, user in (("twin1", "Twin <twin@"), ("twin2", "Twin (the other) <twin@")):
        assert f"{crowd.keys[name]} ({user}example.org>)" in str(caught.value)
    assert parse_recipient(f"pgp:{crowd.keys['twin2']}", options)


@pytest.mark.parametrize("who", ["renewed@example.org", "Renewed Person"])
def test_a_key_that_has_expired_makes_no_room_for_another(
    options: KeyOptions, crowd: Crowd, who: str
) -> None:
    """Whoever made the other one, its owner or somebody else: nobody but the user can say."""
    old, new = crowd.keys["renewed-old"], crowd.keys["renewed"]
    name = "(Renewed Person <renewed@example.org>)"
    with pytest.raises(KeyFileError, match="fits several keys") as caught:
        parse_recipient(f"pgp:{who}", options)
    assert f"{old} {name}, which expired on 2020-12-31" in caught.value.message
    assert f"{new} {name}" in caught.value.message
    assert f"{new} {name}, which" not in caught.value.message
    assert caught.value.hint == "name one of them by its fingerprint"
    found = parse_recipient(f"pgp:{new}", options)
    assert isinstance(found, PgpRecipient)
    assert found.fingerprint == new
    with pytest.raises(KeyFileError, match="expired on 2020-12-31"):
        parse_recipient(f"pgp:{old}", options)


@pytest.mark.parametrize(
    ("state", "words"),
    [("revoked", "is revoked"), ("disabled", "is disabled"), ("no subkey", "has no encryption")],
)
def test_nor_does_one_in_another_state(state: str, words: str) -> None:
    with gnupg_home() as home:
        right = home.generate("Bob <bob@example.org>", encryption=state != "no subkey")
        other = home.generate("Mallory as Bob <bob@example.org>")
        if state == "revoked":
            home.revoke(right)
        elif state == "disabled":
            home.edit(right, "disable")
        with pytest.raises(KeyFileError, match="fits several keys") as caught:
            parse_recipient("pgp:bob@example.org", home.options())
        assert f"{right} (Bob <bob@example.org>), which {words}" in caught.value.message
        assert other in caught.value.message
        assert parse_recipient(f"pgp:{other}", home.options())


def test_a_name_that_its_owner_took_back_is_free(data: Path) -> None:
    with gnupg_home() as home:
        former = home.generate("Bob <bob@example.org>")
        home.gpg("--pinentry-mode", "loopback", "--quick-add-uid", former, "Bob <bob@example.com>")
        home.gpg("--quick-revoke-uid", former, "Bob <bob@example.org>")
        present = home.generate("Bob the Second <bob@example.org>")
        found = parse_recipient("pgp:bob@example.org", home.options())
        assert isinstance(found, PgpRecipient)
        assert found.fingerprint == present


@pytest.mark.parametrize("who", [" ", "a\0b", "a\x1bb", "x" * 501])
def test_what_is_no_name(options: KeyOptions, who: str) -> None:
    with pytest.raises(UsageError):
        parse_recipient(f"pgp:{who}", options)


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


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ('set -- "$@" --recipient curve@example.org', "encrypted for others than"),
        ('set -- "$@" --armor', "not made of OpenPGP packets"),
        ('set -- "$@" --throw-keyids', "encrypted for others than"),
        ("echo junk; cat > /dev/null; exit 0", "not made of OpenPGP packets"),
        ("cat; exit 0", "not made of OpenPGP packets"),
        ("cat > /dev/null; exit 0", "no encrypted data"),
        ("head -c 2000000 /dev/zero; exit 0", "more than the limit"),
        ("echo no idea >&2; exit 5", "GnuPG does not encrypt: no idea"),
    ],
)
def test_what_gpg_writes_is_looked_at(crowd: Crowd, tmp_path: Path, lie: str, words: str) -> None:
    """A program that does something else is noticed, and nothing of it is used."""
    fake = in_front(tmp_path, f'case " $* " in *" --encrypt "*) {lie};; esac')
    recipient = parse_recipient("pgp:rsa@example.org", fake(crowd.home))
    with pytest.raises(KeyServiceError, match=words):
        keyring.wrap([recipient], SECRET)


def in_front(folder: Path, script: str) -> Callable[[Home], KeyOptions]:
    """Options with which a script is asked before the real gpg."""
    program = folder / "gpg"
    program.write_text(f'#!/bin/sh\n{script}\nexec {require("gpg")} "$@"\n')
    program.chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return lambda home: KeyOptions(gnupg_home=str(home.path), environment=path)


def test_a_program_that_hangs_is_stopped(
    crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltseal.keywrap.pgp.opening._BOUNDS", Bounds(0.3, output=100))
    script = f'case " $* " in *" --decrypt "*) echo $$ > {tmp_path}/pid; exec sleep 300;; esac'
    identity = parse_identity("pgp:", in_front(tmp_path, script)(crowd.home))
    recipient = parse_recipient("pgp:curve@example.org", crowd.home.options())
    [message] = keyring.wrap([recipient], SECRET)["pgp"]
    with pytest.raises(KeyServiceError, match="did not end within"):
        identity.unwrap("pgp", message)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_program_that_only_talks(crowd: Crowd, tmp_path: Path) -> None:
    """Plaintext without a verdict is not believed, whatever the exit code."""
    recipient = parse_recipient("pgp:curve@example.org", crowd.home.options())
    [message] = keyring.wrap([recipient], SECRET)["pgp"]
    script = 'case " $* " in *" --decrypt "*) echo plain; cat > /dev/null; exit 0;; esac'
    identity = parse_identity("pgp:", in_front(tmp_path, script)(crowd.home))
    with pytest.raises(KeyServiceError, match="GnuPG does not decrypt"):
        identity.unwrap("pgp", message)


def test_a_program_that_cannot_be_run(crowd: Crowd, tmp_path: Path) -> None:
    (tmp_path / "gpg").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "gpg").chmod(0o755)
    broken = KeyOptions(gnupg_home=str(crowd.home.path), environment={"PATH": f"{tmp_path}"})
    with pytest.raises(KeyServiceError, match="cannot be run: no such file"):
        parse_identity("pgp:", broken)


def test_pinentry_learns_the_terminal_when_somebody_can_be_asked(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.ttyname", lambda number: f"/dev/pts/{number}")
    kinds = crowd.home.options()
    assert "GPG_TTY" not in dict(gnupg.find(kinds).environment)
    kinds = replace(kinds, ask=lambda what: None, environment={"LC_ALL": "de_DE.UTF-8"})
    found = dict(gnupg.find(kinds).environment)
    assert found["GPG_TTY"] == "/dev/pts/0"
    assert (found["LC_CTYPE"], found["LC_MESSAGES"]) == ("de_DE.UTF-8", "C")
    assert "LC_ALL" not in found
    kinds = replace(kinds, environment={"GPG_TTY": "/dev/tty7"})
    assert dict(gnupg.find(kinds).environment)["GPG_TTY"] == "/dev/tty7"


def test_gnupg_does_not_get_the_secret_of_a_key() -> None:
    variables = {"PINENTRY_USER_DATA": "secret", "TERM": "xterm", "VAULT_TOKEN": "secret"}
    kinds = KeyOptions(environment={**variables, "PATH": os.environ["PATH"]})
    secrets.reader("env=PINENTRY_USER_DATA", kinds)
    found = dict(gnupg.find(kinds).environment)
    assert (found.get("TERM"), "secret" in found.values()) == ("xterm", False)


def test_newer_gnupg_is_kept_from_its_own_form(data: Path, tmp_path: Path, crowd: Crowd) -> None:
    """GnuPG 2.3 and newer write OCB packets unless a recipient cannot read them."""
    script = """case " $* " in
        *" --recipient-file"*) ;;
        *" --encrypt "*) cat > /dev/null; printf '\\324\\001x'; exit 0;;
    esac"""
    options = in_front(tmp_path, script)(crowd.home)
    names = ("rsa@example.org", "curve@example.org")
    recipients = [parse_recipient(f"pgp:{one}", options) for one in names]
    [message] = keyring.wrap(recipients, SECRET)["pgp"]
    found = [one.key_id for one in packet.parse(message).keys]
    assert found == [RSA_SUBKEY, crowd.home.subkey("curve@example.org")]
    for name in names:
        assert parse_identity(f"pgp:{name}", crowd.home.options()).unwrap("pgp", message) == SECRET


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


def test_without_gnupg_one_line_says_what_to_install(tmp_path: Path) -> None:
    bare = KeyOptions(environment={"PATH": str(tmp_path)})
    for make, text in ((parse_recipient, "pgp:x"), (parse_identity, "pgp:")):
        with pytest.raises(KeyServiceError, match="no program gpg on the PATH; install it: apt"):
            make(text, bare)
    with pytest.raises(KeyFileError, match="is not a folder"):
        parse_identity("pgp:", KeyOptions(gnupg_home=f"{tmp_path}/none"))


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


def test_a_passphrase_that_nobody_can_type(options: KeyOptions, crowd: Crowd) -> None:
    """The agent cannot ask here: it says so, and does not hang."""
    recipient = parse_recipient("pgp:locked@example.org", options)
    [message] = keyring.wrap([recipient], SECRET)["pgp"]
    with pytest.raises(KeyServiceError) as caught:
        parse_identity("pgp:", options).unwrap("pgp", message)
    assert "GnuPG does not decrypt: " in str(caught.value)
    assert "pinentry" in str(caught.value)


def test_pinentry_is_asked(data: Path, tmp_path: Path) -> None:
    """What a human would see: right, wrong and cancelled."""
    with gnupg_home() as home:
        pinentry = home.path / "pinentry"
        (home.path / "gpg-agent.conf").write_text(f"pinentry-program {pinentry}\nmax-cache-ttl 0\n")
        home.load(data / "keys" / "pgp-locked.sec.gpg")
        options = home.options()
        [message] = keyring.wrap([parse_recipient("pgp:locked@example.org", options)], SECRET)[
            "pgp"
        ]
        for answer, expected in (
            (f"D {PASSPHRASE}\\nOK", SECRET),
            ("D wrong\\nOK", "passphrase or PIN is wrong"),
            ("ERR 83886179 cancelled", "was cancelled"),
        ):
            pinentry.write_text(
                "#!/bin/sh\necho OK\nwhile read -r word rest; do case $word in\n"
                f"GETPIN) printf '{answer}\\n';; BYE) echo OK; exit;; *) echo OK;; esac; done\n"
            )
            pinentry.chmod(0o755)
            subprocess.run(["gpgconf", "--homedir", home.path, "--reload"], check=True)
            identity = parse_identity("pgp:", options)
            if isinstance(expected, bytes):
                assert identity.unwrap("pgp", message) == expected
            else:
                with pytest.raises(KeyServiceError, match=expected):
                    identity.unwrap("pgp", message)


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
