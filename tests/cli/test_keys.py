"""Keys on the command line: the table of reasons, folders, passphrases, `key show` and `keygen`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509

from boltseal.cli import argv
from support.cli import boltseal, command
from support.images import simple_image

SECRET = "correct-horse-battery"


@pytest.fixture
def sealed(tmp_path: Path, data: Path) -> str:
    source = simple_image(tmp_path / "src")
    image = f"oci:{tmp_path}/sealed:v1"
    run = boltseal(
        "encrypt", source.reference(), image,
        "-r", f"jwe:{data}/keys/rsa2048.pub.pem", "-r", f"pkcs7:{data}/keys/rsa3072.crt.pem",
    )  # fmt: skip
    assert run.code == 0, run.err
    return image


def test_a_failure_is_a_table(
    tmp_path: Path, sealed: str, keys: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    arguments = ("decrypt", sealed, f"oci:{tmp_path}/out")
    run = boltseal(*arguments, "-k", keys / "other.pem", "-k", data / "keys/rsa4096.pem")
    assert run.code == 3
    lines = [re.sub(r" {2,}", "|", line.strip()) for line in run.err.splitlines()]
    assert lines[0].startswith("error: ")
    assert "no key given opens it (wrapped by jwe, pkcs7)" in lines[0]
    assert lines[1] == "LAYER|PROTOCOL|RECIPIENT|KEY|REASON"
    table = [line.split("|") for line in lines[2:-1]]
    assert [row[:2] for row in table] == [["linux/amd64 0, 1", "jwe"]] * 2 + [
        ["linux/amd64 0, 1", "pkcs7"]
    ]
    assert "CN=" in table[2][2]
    assert table[0][4] == "RSA-OAEP takes another kind of key"
    assert table[2][4] == "no recipient has an RSA key of 4096 bits"
    assert lines[-1] == f"hint:|see who can open it with: boltseal recipients list {sealed}"
    # where a table is too wide there are blocks
    monkeypatch.setenv("COLUMNS", "80")
    blocks = boltseal(*arguments, "-k", data / "keys/rsa4096.pem").err.splitlines()
    assert re.fullmatch(r"  .*rsa4096.pem \(RSA 4096, [A-Za-z0-9_-]{12}…\)", blocks[1])
    assert re.fullmatch(r"    linux/amd64 0, 1, jwe [A-Za-z0-9_-]{12}…: it does .*", blocks[2])
    assert "pkcs7 serial" in blocks[3]
    as_json = boltseal(*arguments, "-k", keys / "other.pem", "--json")
    attempts = json.loads(as_json.out)["error"]["attempts"]
    assert [one["layer"] for one in attempts] == ["linux/amd64 0", "linux/amd64 1"]


@pytest.mark.parametrize("arguments", [["-r", "-" + "a" * 42], ["--recipient", "-" + "b" * 42]])
def test_a_thumbprint_that_begins_with_a_dash(sealed: str, arguments: list[str]) -> None:
    run = boltseal("recipients", "remove", sealed, *arguments)
    assert run.code == 1
    assert f"{arguments[1]} is not named in the image" in run.err


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me", "Ed25519 keys sign and cannot decrypt"),
        (b"ssh-rsa AAAAB3NzaC1yc2E me", "ssh-keygen -e -m PKCS8"),
        (b"\x30\x82\x09\x00\x02\x01\x03\x30\x82", "openssl pkcs12"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "then write pgp:WHO"),
        (b"pkcs11:\n  uri: pkcs11:token=x", "write pkcs11:"),
    ],
)
def test_hints_for_files_of_another_kind(tmp_path: Path, content: bytes, hint: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    image = simple_image(tmp_path / "src").reference()
    run = boltseal("encrypt", image, f"oci:{tmp_path}/o:v1", "-r", f"jwe:{file}")
    assert run.code == 1
    assert hint in run.err


def test_a_folder_is_a_keyring(tmp_path: Path, sealed: str, keys: Path, data: Path) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    shutil.copy(keys / "other.pem", folder / "a.pem")
    shutil.copy(data / "keys/rsa3072.pem", folder / "b.pem")
    (folder / "note.txt").write_text("hello")
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", folder)
    assert run.code == 0, run.err
    assert "note.txt was skipped" in run.err


@pytest.mark.parametrize("how", ["pass={}", "{}", "file={file}", "fd={fd}", "env=BOLTSEAL_TEST"])
def test_every_way_to_name_a_passphrase(
    tmp_path: Path, sealed: str, data: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = tmp_path / "passphrase"
    file.write_text("s3cret\n")
    monkeypatch.setenv("BOLTSEAL_TEST", "s3cret")
    with file.open() as opened:
        text = how.format("s3cret", file=file, fd=opened.fileno())
        key = f"{data}/keys/rsa2048.enc-pkcs8.pem:{text}"
        run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", key)
    assert run.code == 0, run.err


@pytest.mark.parametrize("how", ["pass=" + SECRET, SECRET, "env=BOLTSEAL_NOT_THERE"])
def test_a_wrong_passphrase_is_not_shown(tmp_path: Path, sealed: str, data: Path, how: str) -> None:
    key = f"{data}/keys/rsa2048.enc-pkcs8.pem:{how}"
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", key)
    assert run.code in (1, 2)
    assert SECRET not in run.err + run.out
    assert "error: " in run.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["-k", "KEY:pass=" + SECRET],
        ["-k", "KEY:" + SECRET],
        ["-kKEY:" + SECRET],
        ["-qkKEY:" + SECRET],
        ["-qk", "KEY:" + SECRET],
        ["--key=KEY:pass=" + SECRET],
        ["-k", "KEY", "--creds", "alice:" + SECRET],
        ["-k", "KEY", "-k", f"pkcs11:token=none?pin-value={SECRET}&module-path=/none"],
        # where it does not belong, it is still a secret
        ["-k", "KEY", "--authfile", "x:pass=" + SECRET],
        ["-k", "KEY", f"--authfile=pkcs11:token=none?pin-value={SECRET}"],
    ],
)
def test_secrets_do_not_stay_in_the_process_list(
    tmp_path: Path, data: Path, arguments: list[str]
) -> None:
    key = f"{data}/keys/rsa2048.pem"
    words = command("decrypt", "oci-archive:-", f"oci:{tmp_path}/out:v1")
    words += [one.replace("KEY", key) for one in arguments]
    reading, writing = os.pipe()
    process = subprocess.Popen(words, stdin=reading, stderr=subprocess.PIPE)
    try:
        shown = listing_without_secret(process.pid, "decrypt")
        assert key.encode() in shown
    finally:
        os.close(writing)
        os.close(reading)
        process.communicate(timeout=60)


def listing_without_secret(process: int, command: str) -> bytes:
    """What the process list has, as soon as the secret is not in it any more."""
    listing = Path(f"/proc/{process}/cmdline")
    # the interpreter has to come up first; it then waits for what it is to read
    for _ in range(600):
        shown = listing.read_bytes()
        if command.encode() in shown and SECRET.encode() not in shown:
            break
        time.sleep(0.05)
    assert command.encode() in shown
    assert SECRET.encode() not in shown
    return shown


@pytest.mark.parametrize(
    ("arguments", "stays"),
    [
        (["key", "show", "FIFO:pass=" + SECRET], "FIFO:pass=x"),
        (["key", "show", "--json", "FIFO:" + SECRET], "FIFO:x"),
        (["key", "show", "--image", "oci:app:v1", "FIFO:" + SECRET], "oci:app:v1"),
        (["key", "show", "FIFO:file=" + "x" * 9], "FIFO:file=" + "x" * 9),
        (["recipients", "add", "oci:app:v1", "-k", "FIFO", "-r", "K:pass=" + SECRET], "K:pass=x"),
        (["recipients", "add", "oci:app:v1", "-k", "FIFO", "-rK:" + SECRET], "-rK:x"),
        (
            ["recipients", "add", "oci:app:v1", "-k", "FIFO", f"--encryption-key=K:{SECRET}"],
            "--encryption-key=K:x",
        ),
        (
            ["keyprovider", "serve", "--listen", "unix:/x", "-k", "FIFO", "-r", "t=K:" + SECRET],
            "t=K:x",
        ),
        (
            [
                *("keyprovider", "serve", "--listen", "unix:/x", "-k", "FIFO", "-r"),
                f"team=pkcs11:token=t;object=a:b?pin-value={SECRET}&module-path=/none",
            ],
            "team=pkcs11:token=t;object=a:b?pin-value=x",
        ),
        (
            ["encrypt", "oci:in:v1", "oci:x", f"-rpkcs7:b:{SECRET}", "-r", "jwe:/a/b.pem"],
            "x\0-r\0jwe:/a/b.pem",
        ),
    ],
)
def test_whom_secrets_are_given_to_does_not_matter(arguments: list[str], stays: str) -> None:
    """The words as the process list has them, with what is to be overwritten."""
    words = ["python", "-m", "boltseal", *(one.replace("FIFO", "/k/prod.pem") for one in arguments)]
    raw = bytearray(b"\0".join(map(os.fsencode, words)) + b"\0")
    for at, length in argv.secrets_in(bytes(raw)):
        raw[at : at + length] = b"x" * length
    assert SECRET.encode() not in raw
    assert stays.replace("FIFO", "/k/prod.pem").encode() in raw


def test_key_show_hides_its_positional(tmp_path: Path) -> None:
    """The process itself, which waits for somebody to write the key."""
    os.mkfifo(tmp_path / "key")
    reading, writing = os.pipe()
    words = command("key", "show", f"{tmp_path}/key:{SECRET}")
    process = subprocess.Popen(words, stdin=reading, stderr=subprocess.PIPE)
    try:
        assert f"{tmp_path}/key".encode() in listing_without_secret(process.pid, "show")
    finally:
        process.kill()
        process.communicate(timeout=60)
        os.close(writing)
        os.close(reading)


def test_key_show(tmp_path: Path, sealed: str, keys: Path, data: Path) -> None:
    run = boltseal("key", "show", data / "keys/rsa2048.pem", "--image", sealed, "--json")
    assert run.code == 0, run.err
    report = json.loads(run.out)
    assert (report["kind"], report["private"]) == ("RSA 2048", True)
    assert report["opens"] == ["jwe", "pkcs7"]
    (platform,) = report["image"]
    assert (platform["encrypted"], platform["named"], platform["opened"]) == (2, 2, 2)

    certificate = data / "keys/rsa3072.crt.pem"
    shown = json.loads(boltseal("key", "show", certificate, "--image", sealed, "--json").out)
    assert shown["recipients"][-1] == f"pkcs7:{certificate}"
    assert shown["certificates"][0]["problem"] is None
    assert (shown["image"][0]["named"], shown["image"][0]["opened"]) == (2, None)

    other = boltseal("key", "show", keys / "other.pub.pem", "--image", sealed)
    assert other.code == 3
    assert "0 of 2" in other.out
    assert boltseal("key", "show", tmp_path / "none").code == 1
    junk = tmp_path / "junk"
    junk.write_text("no key")
    run = boltseal("key", "show", junk)
    assert run.code == 1
    assert "holds no private key" in run.err


def test_what_a_folder_skipped_is_in_the_table(
    tmp_path: Path, sealed: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    folder = tmp_path / "ring"
    folder.mkdir()
    shutil.copy(data / "keys/rsa4096.pem", folder / "a.pem")
    shutil.copy(data / "keys/rsa2048.enc-pkcs8.pem", folder / "locked.pem")
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", folder)
    assert run.code == 3
    assert re.search(r"ring/locked.pem\s+skipped: it is encrypted", run.err)


def test_a_certificate_alone_opens_nothing(tmp_path: Path, sealed: str, data: Path) -> None:
    certificate, key = data / "keys/rsa3072.crt.pem", data / "keys/rsa3072.pem"
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", certificate)
    assert run.code == 1
    assert "holds a certificate, not a private key" in run.err
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", certificate, "-k", key)
    assert run.code == 0, run.err


def test_key_show_of_other_kinds(tmp_path: Path, data: Path) -> None:
    image, keys = f"oci:{data}/images/all", data / "keys"
    shown = boltseal("key", "show", keys / "pgp-rsa.sec.gpg", "--image", image, "--json")
    report = json.loads(shown.out)
    assert report["opens"] == ["pgp"]
    assert "5C8576E6B496A768" in report["thumbprint"]
    assert (report["image"][0]["named"], report["image"][0]["opened"]) == (3, 3)
    run = boltseal("key", "show", keys / "pgp-curve.pub.gpg")
    assert run.code == 1
    assert "holds an OpenPGP public key, not a secret key" in run.err
    assert boltseal("keygen", tmp_path / "pq.pem", "-a", "xwing").code == 0
    shown = boltseal("key", "show", tmp_path / "pq.pub.pem")
    assert f"-r pq:{tmp_path}/pq.pub.pem" in shown.out
    assert "opens       pq" in boltseal("key", "show", tmp_path / "pq.pem").out


def test_keygen_makes_a_certificate(tmp_path: Path) -> None:
    file = tmp_path / "alice.pem"
    run = boltseal("keygen", file, "--certificate", "alice", "--days", "30")
    assert run.code == 0, run.err
    made = x509.load_pem_x509_certificate((tmp_path / "alice.crt.pem").read_bytes())
    assert made.subject.rfc4514_string() == "CN=alice"
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 30
    source, image = simple_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    who = f"pkcs7:{tmp_path}/alice.crt.pem"
    assert boltseal("encrypt", source.reference(), image, "-r", who).code == 0
    assert boltseal("decrypt", image, f"oci:{tmp_path}/out", "-k", file).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "p256", "--certificate", "x"], "RSA keys"),
        (["--certificate", "x" * 65], "1 to 64 characters"),
        (["--certificate", "x", "--days", "0"], "1 to 3650 days"),
        (["-a", "xwing", "--passphrase", "pass=x"], "cannot be encrypted"),
    ],
)
def test_keygen_refuses(tmp_path: Path, arguments: list[str], message: str) -> None:
    run = boltseal("keygen", tmp_path / "key.pem", *arguments)
    assert run.code == 2
    assert message in run.err
    assert list(tmp_path.iterdir()) == []


def test_keygen_leaves_nothing_when_a_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "key.crt.pem").write_text("mine")
    run = boltseal("keygen", tmp_path / "key.pem", "--certificate", "x")
    assert run.code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key.crt.pem"]
    assert (tmp_path / "key.crt.pem").read_text() == "mine"
