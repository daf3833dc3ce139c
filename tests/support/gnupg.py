"""Homes of GnuPG's for tests: under a short path because of the agent's socket, and cleaned up."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.options import KeyOptions
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSPHRASE = "s3cret"
RSA = "C7394832A408CA1550ECC27911ADA1BCAE4857B5"  # of the vectors
RSA_SUBKEY = "5C8576E6B496A768"
PAST = "20200101T000000!"


class Home:
    """One home, with the real gpg in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def gpg(self, *arguments: str | Path, given: bytes = b"", check: bool = True) -> bytes:
        """Standard output of gpg."""
        command = ["gpg", "--homedir", self.path, "--batch", "--no-tty", "--quiet", *arguments]
        done = subprocess.run(
            [os.fspath(part) for part in command],
            input=given,
            capture_output=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode:
            pytest.fail(f"gpg {arguments} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def options(self) -> KeyOptions:
        """Boltseal's options to use this home, and the gpg that these tests use."""
        return KeyOptions(gnupg_home=str(self.path), environment={"PATH": os.environ["PATH"]})

    def load(self, *files: Path) -> None:
        """Import exported keys."""
        self.gpg("--import", *files)

    def generate(
        self,
        user: str,
        *,
        encryption: bool = True,
        expires: str = "never",
        subkey_expires: str | None = None,
        passphrase: str = "",
        at: str | None = None,
        algorithms: tuple[str, str] = ("ed25519", "cv25519"),
    ) -> str:
        """A new key with today's default algorithms; its fingerprint."""
        how = ["--yes", "--pinentry-mode", "loopback", "--passphrase", passphrase]
        how += ["--faked-system-time", at] if at else []
        before = set(self.fingerprints())
        self.gpg(*how, "--quick-gen-key", user, algorithms[0], "sign", expires)
        (fingerprint,) = set(self.fingerprints()) - before
        if encryption:
            until = subkey_expires or expires
            self.gpg(*how, "--quick-add-key", fingerprint, algorithms[1], "encr", until)
        return fingerprint

    def fingerprints(self) -> list[str]:
        """Of all primary keys."""
        found, primary = [], False
        for line in self.gpg("--with-colons", "--list-keys").decode().splitlines():
            fields = line.split(":")
            if fields[0] == "fpr" and primary:
                found.append(fields[9])
            primary = fields[0] == "pub"
        return found

    def subkey(self, fingerprint: str) -> str:
        """The key id of the newest encryption subkey, or of the key itself without one."""
        lines = self.gpg("--with-colons", "--list-keys", fingerprint).decode().splitlines()
        fields = [line.split(":") for line in lines]
        return [one[4] for one in fields if one[0] in ("pub", "sub") and "e" in one[11]][-1]

    def revoke(self, fingerprint: str) -> None:
        """With the certificate that gpg made beforehand."""
        text = (self.path / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.gpg("--import", given=text[text.index(":-----BEGIN") + 1 :].encode())

    def edit(self, fingerprint: str, *commands: str) -> None:
        """Commands of ``--edit-key``, in order."""
        given = "".join(f"{one}\n" for one in (*commands, "save"))
        self.gpg(*("--command-fd", "0", "--edit-key", fingerprint), given=given.encode())

    def export_secret(self, who: str, *options: str, passphrase: str = "") -> bytes:
        """Of a key whose passphrase is known."""
        how = ("--pinentry-mode", "loopback", "--passphrase", passphrase)
        return self.gpg(*how, *options, "--export-secret-keys", who)


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


@contextmanager
def gnupg_home() -> Iterator[Home]:
    """An empty home, whose agent ends with it."""
    require("gpg")
    path = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    try:
        yield Home(path)
    finally:
        subprocess.run(
            ["gpgconf", "--homedir", path, "--kill", "all"], check=False, capture_output=True
        )
        shutil.rmtree(path, ignore_errors=True)
