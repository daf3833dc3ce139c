"""The stream processor as containerd starts it: payload on descriptor 3, streams around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boltseal._io import b64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = str(Path(sys.executable).with_name("boltseal-ctd-decoder"))
TYPE = "io.containerd.ocicrypt.v1.Payload"


@dataclass(frozen=True)
class Decoded:
    """How one run ended: exit code, the plain layer, and the message."""

    code: int
    out: bytes
    err: str


def varint(value: int) -> bytes:
    """A protobuf number."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def any_message(value: bytes, url: str = TYPE) -> bytes:
    """``google.protobuf.Any``."""
    return field(1, url.encode()) + field(2, value)


def document(
    descriptor: Mapping[str, Any], parameters: Mapping[str, Sequence[bytes]] | None = None
) -> bytes:
    """The JSON inside, as Go writes it."""
    encoded = {name: [b64.encode(one) for one in values] for name, values in
               (parameters or {}).items()}  # fmt: skip
    config = {"Parameters": encoded if parameters is not None else None}
    return json.dumps({"DecryptConfig": config, "Descriptor": descriptor}).encode()


def payload(
    descriptor: Mapping[str, Any], parameters: Mapping[str, Sequence[bytes]] | None = None
) -> bytes:
    """All of what containerd puts on descriptor 3."""
    return any_message(document(descriptor, parameters))


def decode(
    sent: bytes | None,
    blob: bytes,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = (PROGRAM,),
) -> Decoded:
    """Run it. ``sent`` None: descriptor 3 is not open at all."""
    process = start(sent, *arguments, env=env, program=program)
    out, err = process.communicate(blob, timeout=120)
    text = err.decode()
    assert "Traceback" not in text, text
    return Decoded(process.returncode, out, text)


def start(
    sent: bytes | None,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = (PROGRAM,),
) -> subprocess.Popen[bytes]:
    """The same with its streams open."""
    command = [*program, *arguments]
    if sent is None:
        return _popen(["sh", "-c", 'exec "$@" 3<&-', "sh", *command], env, ())
    read, write = os.pipe()
    try:
        # the shell puts our end where containerd has it; its descriptors have one digit
        process = _popen(["sh", "-c", f'exec "$@" 3</proc/self/fd/{read}', "sh", *command],
                         env, (read,))  # fmt: skip
    finally:
        os.close(read)
    threading.Thread(target=_send, args=(write, sent), daemon=True).start()
    return process


def _popen(
    command: Sequence[str], env: Mapping[str, str] | None, passed: Sequence[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=passed,
        env={**os.environ, **(env or {})},
    )


def _send(fd: int, data: bytes) -> None:
    try:
        with open(fd, "wb", closefd=True) as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # it has read enough


def layer_of(layout: Path, number: int = 0) -> tuple[dict[str, Any], bytes]:
    """Descriptor and blob of a layer of the only image of a layout."""
    descriptor = _manifest(layout)["layers"][number]
    return descriptor, _blob(layout, descriptor["digest"])


def diff_id_of(layout: Path, number: int = 0) -> str:
    """SHA-256 of what is in a layer, in hexadecimal digits."""
    config = json.loads(_blob(layout, _manifest(layout)["config"]["digest"]))
    found: str = config["rootfs"]["diff_ids"][number]
    return found.removeprefix("sha256:")


def _manifest(layout: Path) -> Any:
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]))
    if "manifests" in manifest:
        manifest = json.loads(_blob(layout, manifest["manifests"][0]["digest"]))
    return manifest


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()
