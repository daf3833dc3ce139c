"""Debian's containerd with its CRI, its own root, state and socket, and our stream processor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from support.cri import Cri, CriError
from support.ctd import PROGRAM
from support.images import CONFIG, GZIP, MANIFEST, TAR, ZSTD, Layout, compact, compress, sha256
from support.images import tar_bytes as tar
from support.peers import missing, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.registry import Registry

SECRET = "what the layer hides\n"
_NOT_NEEDED = ("snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.aufs",
               "snapshotter.v1.devmapper", "internal.v1.opt")  # fmt: skip
COMMAND = ["/bin/busybox", "cat", "/secret"]


def runnable(layout: Layout, types: Sequence[str], tag: str, secret: str = SECRET) -> None:
    """An image that prints its secret: one layer with busybox, the next with the secret."""
    busybox = Path(require("busybox")).read_bytes()
    tars = [tar({"bin/busybox": busybox, "sleep": busybox}), tar({"secret": secret.encode()})]
    layers = []
    for content, media_type in zip(tars, types, strict=True):
        digest, size = layout.blob(compress(content, media_type))
        layers.append({"mediaType": media_type, "digest": digest, "size": size})
    config = compact(
        {
            "os": "linux",
            "architecture": _architecture(),
            "config": {"Cmd": ["/sleep", "3600"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in tars]},
        }
    )
    digest, size = layout.blob(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest, "size": size},
        "layers": layers,
    }
    digest, size = layout.blob(compact(manifest))
    layout.tag(MANIFEST, digest, size, tag)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


class Containerd:
    """One daemon. ``processor`` is changed between tests: it is a script that starts ours."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder, self.registry = folder, registry
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.socket = folder / "c.sock"
        self.log = folder / "containerd.log"
        (folder / "logs").mkdir()
        self.cri = Cri(self.socket, folder / "logs")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "config.toml"
        config.write_text(self._config())
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [require("containerd"), "-c", str(config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(400):
            with suppress(CriError):
                self.cri.version()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        missing(f"containerd does not start here:\n{self.said()}")

    def _config(self) -> str:
        quoted = json.dumps
        base = self.folder
        tail = [
            f"path = {quoted(PROGRAM)}",
            f'args = ["--decryption-keys-path", {quoted(str(self.keys))}]',
        ]
        return "\n".join(
            [
                "version = 2",
                f"root = {quoted(str(base / 'root'))}",
                f"state = {quoted(str(base / 'state'))}",
                f"disabled_plugins = {quoted([f'io.containerd.{one}' for one in _NOT_NEEDED])}",
                "[grpc]",
                f"address = {quoted(str(self.socket))}",
                '[plugins."io.containerd.grpc.v1.cri"]',
                f"sandbox_image = {quoted(f'{self.registry.host}/pause:v1')}",
                'stream_server_address = "127.0.0.1"',
                "disable_apparmor = true",
                "restrict_oom_score_adj = true",
                '[plugins."io.containerd.grpc.v1.cri".image_decryption]',
                'key_model = "node"',
                '[plugins."io.containerd.grpc.v1.cri".cni]',
                f"conf_dir = {quoted(str(base / 'cni'))}",
                f'[plugins."io.containerd.grpc.v1.cri".registry.mirrors.{quoted(self.registry.host)}]',
                f"endpoint = [{quoted(f'http://{self.registry.host}')}]",
                '[stream_processors."io.containerd.ocicrypt.decoder.v1.tar.gzip"]',
                f"accepts = [{quoted(GZIP + '+encrypted')}, {quoted(ZSTD + '+encrypted')}]",
                f"returns = {quoted(GZIP)}",
                *tail,
                '[stream_processors."io.containerd.ocicrypt.decoder.v1.tar"]',
                f"accepts = [{quoted(TAR + '+encrypted')}]",
                f"returns = {quoted(TAR)}",
                *tail,
                "",
            ]
        )

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def ctr(self, *arguments: str) -> str:
        """Look with containerd's own client."""
        done = subprocess.run(
            [require("ctr"), "-a", str(self.socket), "-n", "k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    def snapshots(self) -> set[str]:
        """The keys of all snapshots."""
        return {line.split()[0] for line in self.ctr("snapshots", "ls").splitlines()[1:]}

    def stop(self) -> None:
        with suppress(CriError):
            self.cri.remove_all()
        self.cri.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
        _end_shims(str(self.socket))
        _unmount(str(self.folder))


def _end_shims(socket: str) -> None:
    """Shims outlive their daemon; those of ours name its socket."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if socket.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


def _unmount(folder: str) -> None:
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed([one for one in places if one.startswith(folder + "/")]):
        subprocess.run(["umount", "-l", place], check=False, capture_output=True, timeout=30)


@contextmanager
def running(registry: Registry) -> Iterator[Containerd]:
    """In a folder with a short name, for its sockets; nothing is left of it."""
    if os.geteuid() != 0:
        missing("containerd with runc needs root")
    require("runc")
    folder = Path(tempfile.mkdtemp(prefix="bsc", dir="/tmp"))
    daemon = Containerd(folder, registry)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)
