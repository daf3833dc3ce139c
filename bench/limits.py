"""The machine's limit: what OpenSSL says all cores do, if they did nothing but a layer's passes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from bench.case import LeftOut

MIB = 1 << 20
SHA_PASSES = 3  # digest of the source, HMAC, digest of the result
AES_PASSES = 1


@dataclass(frozen=True)
class Speeds:
    """MiB a second, of all cores together."""

    sha256: float
    aes_256_ctr: float

    @property
    def layer(self) -> float:
        """MiB a second of a layer's passes, spread over the cores."""
        return 1 / (SHA_PASSES / self.sha256 + AES_PASSES / self.aes_256_ctr)


def speeds() -> Speeds:
    """Two seconds of ``openssl speed``."""
    return Speeds(_speed("sha256"), _speed("aes-256-ctr"))


def parse(text: str) -> float:
    """MiB a second, out of what ``openssl speed -mr`` prints: the last figure sums the others up.

    Raises ValueError without one.
    """
    rates = [line.rpartition(":")[2] for line in text.splitlines() if line.startswith("+F:")]
    if not rates:
        raise ValueError("openssl speed printed no figure")
    return float(rates[-1]) / MIB


def _speed(algorithm: str) -> float:
    program = shutil.which("openssl")
    if program is None:
        raise LeftOut("openssl is not installed")
    command = [program, "speed", "-mr", "-seconds", "1", "-bytes", str(MIB)]
    command += ["-multi", str(os.cpu_count() or 1), "-evp", algorithm]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse(done.stdout)
