"""The stream processor and its streams: nothing before the verdict, little memory, no trace."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.blockcipher.aes_ctr_hmac import Encryptor
from boltseal.keywrap import keyring
from boltseal.keywrap.parse import parse_recipient
from boltseal.spec import annotations as names
from support import ctd
from support.images import TAR

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
LARGE = 40 * MIB + 5  # more than waits in memory
_BY_CONTAINERD = {"STREAM_PROCESSOR_MEDIATYPE": f"{TAR}+encrypted"}


class _Chunk:
    def __init__(self, data: bytes) -> None:
        self.data, self.out = memoryview(data), memoryview(bytearray(len(data)))


class Layer:
    """An encrypted layer of any size, its payload, and what it is when it is open."""

    def __init__(self, keys: Path, size: int) -> None:
        self.plain = os.urandom(MIB) * (size // MIB) + os.urandom(size % MIB)
        encryptor = Encryptor("sha256:00")
        chunk: Any = _Chunk(self.plain)
        encryptor.update(chunk)
        self.blob = bytes(chunk.out)
        secret = encryptor.private.secret()
        wrapped = keyring.wrap([parse_recipient(f"jwe:{keys}/rsa2048.pub.pem")], secret)
        self.annotations = {
            names.PUBLIC_OPTIONS: encryptor.finish().annotation(),
            names.KEYS + "jwe": names.join_packets(wrapped["jwe"]),
        }
        self._key = (keys / "rsa2048.pem").read_bytes()

    def payload(self, blob: bytes | None = None, size: int | None = None) -> bytes:
        """With a digest that fits ``blob``, as an attacker would have it."""
        blob = self.blob if blob is None else blob
        descriptor = {
            "mediaType": f"{TAR}+encrypted",
            "digest": "sha256:" + hashlib.sha256(blob).hexdigest(),
            "size": len(blob) if size is None else size,
            "annotations": self.annotations,
        }
        return ctd.payload(descriptor, {"privkeys": [self._key]})

    def forged(self) -> bytes:
        """The last bit is another one."""
        return self.blob[:-1] + bytes([self.blob[-1] ^ 1])


@pytest.fixture(scope="module")
def large(keys: Path) -> Layer:
    return Layer(keys, LARGE)


@pytest.mark.parametrize(
    "size", [0, 1, 16, MIB - 1, MIB, MIB + 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1]
)
@pytest.mark.parametrize("release", ["verified", "early"])
def test_every_length(keys: Path, size: int, release: str) -> None:
    layer = Layer(keys, size)
    done = ctd.decode(layer.payload(), layer.blob, "--release", release)
    assert (done.code, done.err) == (0, "")
    assert done.out == layer.plain


def test_nothing_comes_before_the_verdict(large: Layer, tmp_path: Path) -> None:
    process = ctd.start(large.payload(), env={"TMPDIR": str(tmp_path)})
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(large.blob[:-1])
    process.stdin.flush()
    os.set_blocking(process.stdout.fileno(), False)
    assert process.stdout.read() is None
    _, target = _waiting(process.pid, tmp_path)
    assert target.endswith("(deleted)")  # it has no name
    assert list(tmp_path.iterdir()) == []
    os.set_blocking(process.stdout.fileno(), True)
    out, err = process.communicate(large.blob[-1:], timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out == large.plain


def _waiting(pid: int, folder: Path) -> tuple[str, str]:
    """The descriptor by which a process has a file of ``folder`` open, and what it is called.

    The process may not have come to it yet. What is mapped right now is open a second time.
    """
    for _ in range(500):
        for number in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
            place = f"/proc/{pid}/fd/{number}"
            try:
                target = os.readlink(place)
            except OSError:
                continue
            if target.startswith(str(folder)):
                return place, target
        time.sleep(0.02)
    raise AssertionError("it has no such file")


def test_what_waits_is_encrypted(large: Layer, tmp_path: Path) -> None:
    process = ctd.start(large.payload(), env={"TMPDIR": str(tmp_path)})
    assert process.stdin is not None
    process.stdin.write(large.blob[:-1])
    process.stdin.flush()
    place, _ = _waiting(process.pid, tmp_path)
    with open(place, "rb") as file:
        waiting = file.read()
    process.communicate(large.blob[-1:], timeout=60)
    assert len(waiting) >= 16 * MIB
    assert waiting == large.blob[: len(waiting)]


def test_early_release_hands_out_what_is_forged(large: Layer) -> None:
    """All but the last piece, as its name says; and it ends in an error."""
    forged = large.forged()
    done = ctd.decode(large.payload(forged), forged, "--release", "early")
    assert done.code == 4
    assert "the HMAC over the ciphertext is wrong" in done.err
    assert large.plain.startswith(done.out)
    assert LARGE - MIB <= len(done.out) < LARGE
    done = ctd.decode(large.payload(forged), forged)
    assert (done.code, done.out) == (4, b"")


def test_early_release_of_a_small_layer_is_none(keys: Path) -> None:
    layer = Layer(keys, MIB)
    done = ctd.decode(layer.payload(layer.forged()), layer.forged(), "--release", "early")
    assert (done.code, done.out) == (4, b"")


# In between, since the peak of a process counts that of who started it.
_MEASURE = """
import resource, subprocess, sys
with open(sys.argv[1], "rb") as blob:
    code = subprocess.call(sys.argv[2:], stdin=blob, stdout=subprocess.DEVNULL, pass_fds=(3,))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.parametrize("release", ["verified", "early"])
def test_memory_does_not_grow_with_the_layer(keys: Path, release: str, tmp_path: Path) -> None:
    layer = Layer(keys, 200 * MIB)
    blob = tmp_path / "blob"
    blob.write_bytes(layer.blob)
    program = [sys.executable, "-c", _MEASURE, str(blob), ctd.PROGRAM]
    done = ctd.decode(layer.payload(), b"", "--release", release, program=program)
    assert (done.code, done.err) == (0, "")
    assert int(done.out) < 100 * 1024, f"{int(done.out)} KiB"


def test_no_room(large: Layer, tmp_path: Path) -> None:
    done = ctd.decode(large.payload(size=1 << 40), large.blob, env={"TMPDIR": str(tmp_path)})
    assert done.code == 1
    assert f"the encrypted layer has {1 << 40} bytes, and {tmp_path} has room for" in done.err
    assert "name another folder in the variable TMPDIR" in done.err
    done = ctd.decode(large.payload(), large.blob, env={"TMPDIR": str(tmp_path / "none")})
    assert done.code == 1
    assert f"no such file or directory in {tmp_path}/none, where the encrypted layer" in done.err


def test_a_limit_on_files(large: Layer, tmp_path: Path) -> None:
    done = ctd.decode(
        large.payload(),
        large.blob,
        env={"TMPDIR": str(tmp_path)},
        program=["sh", "-c", 'ulimit -f 2048; exec "$@"', "sh", ctd.PROGRAM],
    )
    assert (done.code, done.out) == (1, b"")
    assert "file too large" in done.err
    assert list(tmp_path.iterdir()) == []


def test_nobody_reads_the_plain_layer(large: Layer) -> None:
    process = ctd.start(large.payload())
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(large.blob)
    process.stdin.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == (
        b"boltseal-ctd-decoder: "
        + large_digest(large)
        + b": broken pipe while writing the plain layer\n"
    )
    process.stderr.close()


def large_digest(large: Layer) -> bytes:
    return f"sha256:{hashlib.sha256(large.blob).hexdigest()[:12]}".encode()


@pytest.mark.parametrize(("closed", "name"), [("0<&-", "input"), ("1>&-", "output")])
def test_a_closed_stream(keys: Path, closed: str, name: str) -> None:
    layer = Layer(keys, 10)
    program = ["sh", "-c", f'exec "$@" {closed}', "sh", ctd.PROGRAM]
    process = ctd.start(layer.payload(), program=program)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"standard {name} is closed" in err.decode()


def test_standard_error_is_closed(keys: Path) -> None:
    layer = Layer(keys, 10)
    done = ctd.decode(
        layer.payload(), b"", program=["sh", "-c", 'exec "$@" 2>&-', "sh", ctd.PROGRAM]
    )
    assert (done.code, done.out, done.err) == (4, b"", "")


def test_it_is_terminated(large: Layer, tmp_path: Path) -> None:
    process = ctd.start(large.payload(), env={"TMPDIR": str(tmp_path)})
    assert process.stdin is not None
    process.stdin.write(large.blob[: 20 * MIB])
    process.stdin.flush()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGTERM, b"")
    assert err.endswith(b"terminated\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("release", ["verified", "early"])
def test_it_is_terminated_while_nobody_takes_the_plain_layer(large: Layer, release: str) -> None:
    process = ctd.start(large.payload(), "--release", release)
    assert process.stdout is not None
    threading.Thread(target=_feed, args=(process, large.blob), daemon=True).start()
    process.stdout.read(1)  # it has begun, and goes on until the pipe is full
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert process.stderr is not None
    assert process.stderr.read().endswith(b"terminated\n")
    process.stdout.close()
    process.stderr.close()


def _feed(process: subprocess.Popen[bytes], blob: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(blob)


def test_under_containerd_the_stream_ends_after_the_process(keys: Path) -> None:
    """containerd looks for our message when the plain layer ends, so it has to know by then."""
    layer = Layer(keys, 10)
    process = ctd.start(layer.payload(), env=_BY_CONTAINERD)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    said = process.stderr.read()  # its end does not wait
    assert process.wait(60) == 4
    os.set_blocking(process.stdout.fileno(), False)
    assert process.stdout.read() is None  # and still it is open
    os.set_blocking(process.stdout.fileno(), True)
    assert process.stdout.read() == b""
    assert said.startswith(b"boltseal-ctd-decoder: sha256:")
    assert not said.endswith(b"\n")  # it becomes a part of containerd's sentence
    process.stdout.close()
    process.stderr.close()


def test_by_the_name_of_imgcrypts_program(keys: Path, tmp_path: Path) -> None:
    layer = Layer(keys, 100)
    link = tmp_path / "ctd-decoder"
    link.symlink_to(ctd.PROGRAM)
    done = ctd.decode(layer.payload(), layer.blob, program=[str(link)])
    assert (done.code, done.out) == (0, layer.plain)


def test_help_and_version() -> None:
    for option, expected in (("--help", "usage: boltseal-ctd-decoder"), ("-v", "boltseal-ctd-de")):
        done = subprocess.run([ctd.PROGRAM, option], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(expected)
        assert done.stderr == ""
