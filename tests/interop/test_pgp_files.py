"""Exported OpenPGP keys: every form opens, nothing is told, and no home or agent is left behind."""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyFileError, KeyServiceError, StorageError
from boltseal.keywrap import keyring
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_identity, parse_recipient
from boltseal.keywrap.pgp import files
from support.cli import boltseal, command
from support.gnupg import PASSPHRASE, Home, gnupg_home
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = b'{"symkey":"AAAA"}'
LOGGING = """#!/bin/sh
{ printf '%s\\n' "$@"; env; } >> LOG
exec GPG "$@"
"""
HANGING = """#!/bin/sh
case " $* " in *" --decrypt "*) touch MARK; exec sleep 300;; esac
exec GPG "$@"
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's own in memory, in which temporary homes are."""
    path = Path(tempfile.mkdtemp(prefix="bs-run-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    left, running = list(path.iterdir()), agents(path)
    shutil.rmtree(path)
    assert not left
    assert not running


def agents(folder: Path) -> list[str]:
    """Processes that were started for a home in this folder, once they had time to end."""
    for _ in range(100):
        found = [line for line in command_lines() if f"{folder}/" in line]
        if not found:
            break
        time.sleep(0.05)
    return found


def command_lines() -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def home(data: Path) -> Iterator[Home]:
    with gnupg_home() as made:
        made.load(*(data / "keys" / f"pgp-{one}.sec.gpg" for one in ("rsa", "locked", "curve")))
        yield made


def wrapped(home: Home, *names: str) -> bytes:
    recipients = [parse_recipient(f"pgp:{name}@example.org", home.options()) for name in names]
    [message] = keyring.wrap(recipients, SECRET)["pgp"]
    return message


def options() -> KeyOptions:
    return KeyOptions.from_environ(os.environ)


def decrypt(data: Path, image: str, out: Path, *arguments: object) -> str:
    run = boltseal(
        *("decrypt", f"oci:{data}/images/{image}", f"oci:{out}:v1", "--check-content"), *arguments
    )
    assert run.code == 0, run.err
    assert PASSPHRASE not in run.err + run.out
    plain = boltseal("digest", f"oci:{out}:v1").out
    shutil.rmtree(out)
    return plain


@pytest.mark.parametrize("armor", [False, True], ids=["binary", "armored"])
@pytest.mark.parametrize("image", ["pgp-rsa", "pgp-multi", "all"])
def test_vectors_open_with_exported_keys(
    data: Path, tmp_path: Path, runtime: Path, image: str, armor: bool
) -> None:
    raw = (data / "keys" / "pgp-rsa.sec.gpg").read_bytes()
    key = tmp_path / "key"
    key.write_bytes(armored(raw) if armor else raw)
    assert decrypt(data, image, tmp_path / "out", "-k", key)


def armored(raw: bytes) -> bytes:
    """As ``gpg --armor`` writes it."""
    require("gpg")
    body = base64.encodebytes(raw)
    return (
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n"
        + body
        + b"-----END PGP PRIVATE KEY BLOCK-----\n"
    )


@pytest.mark.parametrize("form", ["pass=", "", "file=", "fd=", "env="])
def test_a_passphrase_in_every_form(
    data: Path, tmp_path: Path, runtime: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").write_text(f"{PASSPHRASE}\n")
    monkeypatch.setenv("KEY_WORD", PASSPHRASE)
    reading = os.open(tmp_path / "p", os.O_RDONLY)
    values = {"file=": tmp_path / "p", "fd=": reading, "env=": "KEY_WORD"}
    key = f"{data}/keys/pgp-locked.sec.gpg:{form}{values.get(form, PASSPHRASE)}"
    try:
        assert decrypt(data, "pgp-multi", tmp_path / "out", "-k", key)
    finally:
        os.close(reading)


@pytest.mark.parametrize("image", ["pgp-rsa", "pgp-multi", "all"])
@pytest.mark.parametrize("who", ["", "rsa@example.org"])
def test_vectors_open_through_gnupg(
    data: Path, tmp_path: Path, home: Home, image: str, who: str
) -> None:
    """An Ed25519 key in the keyring does not matter."""
    key = ("-k", f"pgp:{who}", "--gnupg-home", home.path)
    assert decrypt(data, image, tmp_path / "out", *key)


def test_a_folder_of_keys(data: Path, tmp_path: Path, runtime: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("pgp-curve.sec.gpg", "pgp-rsa.sec.gpg", "pgp-rsa.pub.gpg", "ec-p256.jwk.json"):
        shutil.copy(data / "keys" / name, folder)
    assert decrypt(data, "pgp-rsa", tmp_path / "out", "-k", folder)


def test_cv25519_opens_what_we_write(home: Home, data: Path, runtime: Path) -> None:
    identity = parse_identity(f"{data}/keys/pgp-curve.sec.gpg", options())
    assert identity.describe().endswith(
        "(OpenPGP, Curve Recipient <curve@example.org>, C35AF0CAB33052F3)"
    )
    assert identity.unwrap("pgp", wrapped(home, "rsa", "curve")) == SECRET
    assert identity.unwrap("pgp", wrapped(home, "curve")) == SECRET
    assert len(list(runtime.iterdir())) == 1  # one home for the run
    with pytest.raises(NotMyKeyError):
        identity.unwrap("pgp", wrapped(home, "rsa"))


def test_keys_that_are_over_or_in_part(runtime: Path) -> None:
    """Expired and revoked keys open; so does a key whose primary part was left out."""
    with gnupg_home() as made:
        key = made.generate("over@example.org", expires="1y")
        message = wrapped(made, "over")
        subkeys = made.export_secret(key, "--armor").replace(b"\n", b"\r\n")
        parts = made.gpg("--export-secret-subkeys", key)
        made.revoke(key)
        revoked = made.export_secret(key)
    for raw in (subkeys, parts, revoked):
        identity = files.identity(raw, "k", lambda: None, options())
        assert identity.unwrap("pgp", message) == SECRET


def test_nothing_is_started_and_nobody_asked_for_others_messages(
    home: Home, data: Path, runtime: Path
) -> None:
    asked: list[bool] = []
    raw = (data / "keys" / "pgp-locked.sec.gpg").read_bytes()
    identity = files.identity(raw, "k", lambda: asked.append(True) or None, options())  # type: ignore[func-returns-value]
    with pytest.raises(NotMyKeyError):
        identity.unwrap("pgp", wrapped(home, "rsa", "curve"))
    assert not asked
    assert not list(runtime.iterdir())


def test_the_passphrase_is_asked_once(home: Home, data: Path, runtime: Path) -> None:
    asked: list[bytes] = []

    def ask() -> bytes:
        asked.append(PASSPHRASE.encode())
        return asked[-1]

    raw = (data / "keys" / "pgp-locked.sec.gpg").read_bytes()
    identity = files.identity(raw, "k", ask, options())
    for _ in range(3):
        assert identity.unwrap("pgp", wrapped(home, "locked", "rsa")) == SECRET
    assert len(asked) == 1
    assert PASSPHRASE not in repr(identity)


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"wrong", "does not open with the passphrase given"), (None, "is encrypted; add its pass")],
)
def test_a_wrong_or_missing_passphrase(
    home: Home, data: Path, runtime: Path, answer: bytes | None, words: str
) -> None:
    asked: list[bytes | None] = []

    def ask() -> bytes | None:
        asked.append(answer)
        return answer

    raw = (data / "keys" / "pgp-locked.sec.gpg").read_bytes()
    identity = files.identity(raw, "locked.gpg", ask, options())
    for _ in range(3):  # layers
        with pytest.raises(KeyFileError, match=f"locked.gpg {words}"):
            identity.unwrap("pgp", wrapped(home, "locked"))
    assert len(asked) == 1
    assert not list(runtime.iterdir())


def test_a_wrong_passphrase_is_one_line(data: Path, tmp_path: Path, runtime: Path) -> None:
    run = boltseal(
        *("decrypt", f"oci:{data}/images/pgp-multi", f"oci:{tmp_path}/out:v1"),
        *("-k", f"{data}/keys/pgp-locked.sec.gpg:pass=wrong-word"),
    )
    assert run.code == 1
    assert run.err.count("error:") == 1
    assert "does not open with the passphrase given" in run.err
    assert "wrong-word" not in run.err
    assert not (tmp_path / "out").exists()


def test_a_damaged_key_is_a_clear_error(home: Home, data: Path, runtime: Path) -> None:
    raw = bytearray((data / "keys" / "pgp-curve.sec.gpg").read_bytes())
    place = raw.index(b"curve@example.org")
    raw[place] ^= 1  # the name is no longer what was signed
    identity = files.identity(bytes(raw), "k.gpg", lambda: None, options())
    with pytest.raises(KeyFileError, match=r"k\.gpg: GnuPG does not take the key: "):
        identity.unwrap("pgp", wrapped(home, "curve"))


def test_without_gnupg(data: Path, tmp_path: Path) -> None:
    raw = (data / "keys" / "pgp-rsa.sec.gpg").read_bytes()
    with pytest.raises(KeyServiceError, match="there is no program gpg on the PATH; install it"):
        files.identity(raw, "k", lambda: None, KeyOptions(environment={"PATH": str(tmp_path)}))


def test_no_arguments_and_no_variables_hold_the_passphrase(
    home: Home, data: Path, tmp_path: Path, runtime: Path
) -> None:
    log = program(tmp_path, LOGGING, "LOG")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "KEY_WORD": PASSPHRASE,
        "AWS_SECRET_ACCESS_KEY": "not-for-gpg",
    }
    kinds = KeyOptions.from_environ(environment)
    identity = parse_identity(f"{data}/keys/pgp-locked.sec.gpg:env=KEY_WORD", kinds)
    assert identity.unwrap("pgp", wrapped(home, "locked")) == SECRET
    told = log.read_text()
    assert "--decrypt" in told
    assert "--passphrase-fd" in told
    assert PASSPHRASE not in told
    assert "not-for-gpg" not in told
    assert PASSPHRASE not in "".join(command_lines())


def program(folder: Path, text: str, name: str) -> Path:
    """A ``gpg`` in front of the real one; the file that it writes."""
    target = folder / name.lower()
    script = folder / "gpg"
    script.write_text(text.replace(name, str(target)).replace("GPG", require("gpg")))
    script.chmod(0o755)
    (folder / "gpgconf").symlink_to(require("gpgconf"))
    return target


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle(data: Path, tmp_path: Path, runtime: Path, number: int) -> None:
    mark = program(tmp_path, HANGING, "MARK")
    process = subprocess.Popen(
        command(
            *("decrypt", f"oci:{data}/images/pgp-rsa", f"oci:{tmp_path}/out:v1"),
            *("-k", f"{data}/keys/pgp-rsa.sec.gpg"),
        ),
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    assert [path.stat().st_mode & 0o777 for path in runtime.iterdir()] == [0o700]
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert not list(runtime.iterdir())
    assert not (tmp_path / "out").exists()


def test_what_a_killed_run_left_is_removed(home: Home, data: Path, runtime: Path) -> None:
    dead, alive = runtime / "boltseal-gpg-dead", runtime / "boltseal-gpg-alive"
    for path in (dead, alive):
        (path / "private-keys-v1.d").mkdir(parents=True)
        (path / "private-keys-v1.d" / "key").write_text("secret")
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    identity = parse_identity(f"{data}/keys/pgp-curve.sec.gpg", options())
    assert identity.unwrap("pgp", wrapped(home, "curve")) == SECRET
    assert not dead.exists()
    assert (alive / "private-keys-v1.d" / "key").exists()
    os.close(lock)
    shutil.rmtree(alive)


def test_a_fork_does_not_take_the_home_away(home: Home, data: Path, runtime: Path) -> None:
    code = (
        "import os, sys\n"
        "from boltseal import KeyOptions, parse_identity\n"
        "key, message = sys.argv[1], open(sys.argv[2], 'rb').read()\n"
        "identity = parse_identity(key, KeyOptions.from_environ(os.environ))\n"
        "identity.unwrap('pgp', message)\n"
        "if os.fork() == 0:\n"
        "    sys.exit()\n"
        "os.wait()\n"
        "sys.stdout.buffer.write(identity.unwrap('pgp', message))\n"
    )
    (runtime / "message").write_bytes(wrapped(home, "curve"))
    done = subprocess.run(
        [sys.executable, "-c", code, data / "keys" / "pgp-curve.sec.gpg", runtime / "message"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == SECRET, done.stderr
    (runtime / "message").unlink()


def test_no_folder_for_a_home(
    data: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltseal.keywrap.pgp.home._is_safe", lambda path: False)
    identity = parse_identity(f"{data}/keys/pgp-curve.sec.gpg", options())
    with pytest.raises(StorageError, match="set TMPDIR"):
        identity.unwrap("pgp", wrapped(home, "curve"))
