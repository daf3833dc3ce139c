"""SoftHSM: real tokens in a folder, through its own program and module."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from support.peers import missing, require

if TYPE_CHECKING:
    from pathlib import Path

PIN = "1234"
SO_PIN = "12345678"
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
)


class SoftHsm:
    """Tokens below one folder; nothing outside of it is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = next((one for one in _MODULES if os.path.exists(one)), "") or missing(
            "SoftHSM's module is not installed (apt-get install softhsm2)"
        )
        self.program = require("softhsm2-util")
        self.conf = folder / "softhsm2.conf"
        tokens = folder / "tokens"
        tokens.mkdir()
        self.conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
        self.environment = {"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(self.conf)}

    def init(self, label: str) -> None:
        """A new token with the PIN above."""
        self._util("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN)

    def add(self, token: str, key: Path, label: str, number: int) -> None:
        """A private key (PKCS#8) and its public half."""
        where = ("--token", token, "--label", label, "--id", f"{number:02x}", "--pin", PIN)
        self._util("--import", str(key), *where)

    def script(self, token: str, code: str, *arguments: str) -> None:
        """Python with ``session``, logged in, and ``pkcs11``; for objects that are out of line."""
        before = (
            "import sys, pkcs11\n"
            "from pkcs11 import *\n"
            f"token = pkcs11.lib({self.module!r}).get_token(token_label={token!r})\n"
            f"session = token.open(rw=True, user_pin={PIN!r})\n"
        )
        command = [sys.executable, "-c", before + code, *arguments]
        subprocess.run(command, env=self.environment, check=True, timeout=60)

    def yaml(self, name: str, attributes: str, query: str | None = None) -> Path:
        """A key file; ``query`` is what follows the module, the PIN if nothing is said."""
        path = self.folder / name
        more = f"&pin-value={PIN}" if query is None else query
        path.write_text(
            f"pkcs11:\n  uri: pkcs11:{attributes}?module-path={self.module}{more}\n"
            f"module:\n  env:\n    SOFTHSM2_CONF: {self.conf}\n"
        )
        return path

    def _util(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
