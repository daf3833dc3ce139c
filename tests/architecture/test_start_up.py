"""What is loaded before a quick command does its work: which modules not, and how many at most.

Numbers of modules and not times, which no test can promise. A bound is about a tenth over what is
loaded now; whoever goes over it finds out with ``python -X importtime`` what came in.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import ctd

PROGRAM = str(Path(sys.executable).with_name("boltseal"))

# Of no use to any of these.
NEVER = frozenset(
    (
        *("asyncio", "fastapi", "google", "grpc", "http", "httpx", "inspect", "jwcrypto"),
        *("multiprocessing", "pydantic", "rich", "shtab", "socket", "ssl", "subprocess"),
        *("tempfile", "typing_extensions", "urllib", "yaml", "zoneinfo", "zstd"),
    )
)
# Of none to those that need no key.
NO_KEY = NEVER | {"cryptography", "bcrypt"}
# What the JOSE library is and brings with it.
JOSE = frozenset(("jwcrypto", "typing_extensions", "inspect"))
# Of none to the stream processor, whose time a node pays for every layer.
NOT_FOR_A_LAYER = NEVER | {
    "argparse",
    "email",
    "gettext",
    "hashlib",
    "logging",
    "shutil",
    "tomllib",
}


@dataclass(frozen=True)
class Quick:
    """A command, what it may not load, and how many modules it may, over a bare interpreter's."""

    words: str
    forbidden: frozenset[str]
    most: int


QUICK = [
    Quick("--version", NO_KEY | {"argparse", "json", "dataclasses", "hashlib"}, 30),
    Quick("--help", NO_KEY | {"json", "dataclasses", "hashlib"}, 60),
    Quick("inspect --help", NO_KEY, 70),
    Quick("broker key create --help", NO_KEY | {"sqlalchemy", "uvicorn"}, 80),
    Quick("inspect oci:{data}/images/all", NO_KEY, 135),
    Quick("inspect --json oci:{data}/images/all", NO_KEY, 135),
    Quick("recipients list oci:{data}/images/all", NEVER - {"tempfile"}, 210),
    Quick("check oci:{data}/images/jwe-rsa2048 -k {data}/keys/rsa2048.pem", NEVER - JOSE, 240),
    Quick("check oci:{data}/images/jwe-p256 -k {data}/keys/ec-prime256v1.pem", NEVER - JOSE, 240),
    Quick("key show {data}/keys/rsa2048.pem", NEVER, 185),
]


@pytest.mark.parametrize("quick", QUICK, ids=lambda one: one.words)
def test_a_quick_command(quick: Quick, data: Path) -> None:
    words = [one.format(data=data) for one in quick.words.split()]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", PROGRAM, *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _check(done.stderr, quick.forbidden, quick.most)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_stream_processor_says_something(option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", ctd.PROGRAM, option],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    _check(done.stderr, NOT_FOR_A_LAYER | NO_KEY | {"dataclasses", "json"}, 40)


@pytest.mark.parametrize(
    ("image", "key", "most"),
    [("jwe-rsa2048", "rsa2048.pem", 210), ("jwe-p256", "ec-prime256v1.pem", 208)],
)
@pytest.mark.parametrize("release", ["verified", "early"])
def test_the_stream_processor_opens_a_layer(
    image: str, key: str, most: int, release: str, data: Path
) -> None:
    descriptor, blob = ctd.layer_of(data / "images" / image)
    keys = {"privkeys": [(data / "keys" / key).read_bytes()]}
    program = [sys.executable, "-X", "importtime", ctd.PROGRAM]
    done = ctd.decode(ctd.payload(descriptor, keys), blob, "--release", release, program=program)
    assert (done.code, len(done.out)) == (0, len(blob))
    found = _check(done.err, NOT_FOR_A_LAYER - JOSE - {"hashlib"}, most)
    assert "cryptography" in {name.partition(".")[0] for name in found}
    assert "cryptography.x509.base" not in found  # put off, and not used


def _check(said: str, forbidden: frozenset[str], most: int) -> set[str]:
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    loaded = _imported(said) - _imported(bare.stderr)
    assert not {name.partition(".")[0] for name in loaded} & forbidden
    assert len(loaded) <= most, f"{len(loaded)} modules are loaded"
    return loaded


def _imported(importtime: str) -> set[str]:
    """The modules in what ``-X importtime`` prints."""
    lines = [line for line in importtime.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}
