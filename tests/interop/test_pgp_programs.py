"""The program gpg: one that lies, hangs or is not there, what it gets, and how it asks."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyFileError, KeyServiceError
from boltseal.keywrap import keyring, secrets
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_identity, parse_recipient
from boltseal.keywrap.pgp import gnupg, packet
from boltseal.keywrap.pgp.child import Bounds
from support.gnupg import PASSPHRASE, RSA_SUBKEY, Crowd, Home, gnupg_home
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b'{"symkey":"AAAA"}'


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


def test_without_gnupg_one_line_says_what_to_install(tmp_path: Path) -> None:
    bare = KeyOptions(environment={"PATH": str(tmp_path)})
    for make, text in ((parse_recipient, "pgp:x"), (parse_identity, "pgp:")):
        with pytest.raises(KeyServiceError, match="no program gpg on the PATH; install it: apt"):
            make(text, bare)
    with pytest.raises(KeyFileError, match="is not a folder"):
        parse_identity("pgp:", KeyOptions(gnupg_home=f"{tmp_path}/none"))


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
