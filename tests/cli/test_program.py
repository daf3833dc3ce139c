"""The program itself: help, versions, keys, completions, wrong usage."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import boltseal as package
from boltseal.cli.main import COMMANDS
from boltseal.cli.options import join_dash_values
from boltseal.cli.output import printable, size
from support.cli import boltseal, spawn
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path


def test_version() -> None:
    run = boltseal("--version")
    assert (run.code, run.out) == (0, f"boltseal {package.__version__}\n")


def test_no_command_shows_help_and_fails() -> None:
    run = boltseal()
    assert run.code == 2
    assert run.out == ""
    assert "usage: boltseal" in run.err
    assert "exit codes:" in run.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    run = boltseal(command, "--help")
    assert run.code == 0
    assert f"usage: boltseal {command}" in run.out
    assert f"examples:\n  boltseal {command}" in run.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("encrypt",),
        ("encrypt", "oci:a:v1"),
        ("inspect", "oci:a:v1", "--frobnicate"),
        ("inspect", "oci:a:v1", "--js"),
        ("keygen", "k.pem", "-a", "dsa"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    run = boltseal(*arguments)
    assert run.code == 2
    assert run.err.startswith("error: ")
    assert "hint:  " in run.err
    assert "see boltseal " in run.err
    assert run.out == ""


@pytest.mark.parametrize(
    ("recipient", "code", "message"),
    [
        (None, 2, "no recipient to encrypt for"),
        ("{keys}/p256.pub.pem", 2, "names no protocol"),
        ("jwe:", 2, "names nobody"),
        ("rsa:{keys}/p256.pub.pem", 2, "names no protocol"),
        ("{keys}/p256.pub.pem", 2, "it is a public key: write jwe:"),
        ("pkcs7:{keys}/p256.pem", 1, "it is a private key; take its public half"),
        ("awskms://alias/images", 2, "three slashes: awskms:///"),
        ("arn:aws:kms:eu-west-1:1:key/x", 2, "write awskms:///arn:aws"),
        ("provider:acme", 2, "--keyprovider-config"),
        ("pkcs7:{keys}/p256.pub.pem", 1, "holds no certificate"),
        ("pq:{keys}/p256.pub.pem", 1, "holds no X-Wing public key"),
        ("pq:{keys}/p256.pem", 1, "holds a private key, and recipients are public keys"),
        ("jwe:{keys}/nobody.pem", 1, "does not exist"),
        ("jwe:{keys}/p256.pem", 1, "holds a private key, and recipients are public keys"),
        ("jwe:{keys}", 1, "is a folder"),
        ("jwe:/etc/hostname", 1, "holds no RSA or EC public key"),
    ],
)
def test_recipients_that_are_none(
    tmp_path: Path, keys: Path, recipient: str | None, code: int, message: str
) -> None:
    source = simple_image(tmp_path / "src")
    who = ["-r", recipient.format(keys=keys)] if recipient is not None else []
    run = boltseal("encrypt", source.reference(), f"oci:{tmp_path}/out:v1", *who)
    assert run.code == code
    assert message in run.err
    assert not (tmp_path / "out").exists()


def test_keygen(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = boltseal("keygen", tmp_path / "prod.pem", "-a", "p256")
    finally:
        os.umask(before)
    assert run.code == 0
    assert "EC P-256, thumbprint " in run.out
    assert (tmp_path / "prod.pem").stat().st_mode & 0o777 == 0o600
    assert b"BEGIN PRIVATE KEY" in (tmp_path / "prod.pem").read_bytes()
    assert b"BEGIN PUBLIC KEY" in (tmp_path / "prod.pub.pem").read_bytes()


def test_keygen_defaults_to_rsa_3072(tmp_path: Path) -> None:
    shown = json.loads(boltseal("keygen", tmp_path / "k", "--json").out)
    assert shown["kind"] == "RSA 3072"
    assert shown["public_file"] == f"{tmp_path}/k.pub"


@pytest.mark.parametrize("existing", ["k.pem", "k.pub.pem"])
def test_keygen_never_writes_over_a_file(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    run = boltseal("keygen", tmp_path / "k.pem", "-a", "p256")
    assert run.code == 1
    assert f"{existing} is there already" in run.err
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_keygen_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "k.pem").symlink_to(tmp_path / "elsewhere")
    assert boltseal("keygen", tmp_path / "k.pem", "-a", "p256").code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.pem"]


def test_encrypted_keys_and_every_way_to_give_the_passphrase(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse: battery\n")
    key = tmp_path / "k.pem"
    assert boltseal("keygen", key, "-a", "p256", "--passphrase", f"file={secret}").code == 0
    assert b"ENCRYPTED" in key.read_bytes()
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    assert boltseal("encrypt", source.reference(), enc, "-r", f"jwe:{tmp_path}/k.pub.pem").code == 0

    def decrypt(spelling: str, *, code: int = 0) -> str:
        run = boltseal("decrypt", enc, f"oci:{tmp_path}/out:v1", "-k", f"{key}{spelling}")
        assert run.code == code, run.err
        return run.err

    reader, writer = os.pipe()
    os.write(writer, b"correct horse: battery\n")
    os.close(writer)
    decrypt(f":fd={reader}")
    os.close(reader)
    decrypt(f":file={secret}")
    decrypt(":pass=correct horse: battery")
    decrypt(":correct horse: battery")
    wrong = decrypt(":pass=wrong-SECRET", code=1)
    assert "does not open with the passphrase given" in wrong
    assert "SECRET" not in wrong
    assert "is encrypted" in decrypt("", code=1)
    assert "does not exist" in decrypt(":file=/nowhere", code=1)
    decrypt(":fd=x", code=2)
    decrypt(":fd=9999", code=1)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("{keys}/p256.pub.pem", "holds a public key, not a private key"),
        ("{keys}/none.pem", "does not exist"),
        ("/etc/hostname", "holds no private key that can be read"),
        ("provider:vault", "vault"),
        ("jwe:x.pem", "private keys are named without jwe:"),
        (":pass=x", "a key needs a file name"),
    ],
)
def test_keys_that_are_none(tmp_path: Path, keys: Path, key: str, message: str) -> None:
    source = simple_image(tmp_path / "src")
    run = boltseal(
        "decrypt", source.reference(), f"oci:{tmp_path}/out:v1", "-k", key.format(keys=keys)
    )
    assert run.code in (1, 2)
    assert message in run.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str) -> None:
    run = boltseal("completion", shell)
    assert run.code == 0
    for word in (*COMMANDS, "check-content"):
        assert word in run.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=run.out, text=True, check=True)


def test_a_bug_is_reported_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong inside, the user gets one line."""
    from boltseal.cli import main
    from support.cli import Run, contextlib, io

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("boltseal.image.inspect.inspect", fail)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        run = Run(main.main(["inspect", "oci:x"]), "", err.getvalue())
    assert run.code == 1
    assert run.err.startswith("error: unexpected ZeroDivisionError; this is a bug in Boltseal\n")


def test_as_a_process() -> None:
    run = spawn("--version")
    assert (run.code, run.err) == (0, "")
    run = spawn("inspect", "oci:/nowhere:v1")
    assert run.code == 1
    error, hint = run.err.splitlines()
    assert error == "error: oci:/nowhere:v1: there is no layout at /nowhere"
    assert hint.startswith("hint:  ")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_printable_escapes_what_terminals_obey() -> None:
    assert printable("plain – text") == "plain – text"
    assert printable("a\x1b[2Jb\n\u202ec") == "a\\x1b[2Jb\\n\\u202ec"


def test_values_that_begin_with_a_dash() -> None:
    joined = join_dash_values(["a", "--layer", "-2..", "--encrypt-layer", "-1", "-k", "-1"])
    assert joined == ["a", "--layer=-2..", "--encrypt-layer=-1", "-k", "-1"]
    assert join_dash_values(["--layer", "--quiet"]) == ["--layer", "--quiet"]
