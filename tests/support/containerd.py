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
    """An image that prints its secret: one layer with busybox, the next with the secret.

    The first has it too: a layer that was unpacked once is not decrypted again for another image.
    """
    busybox, hidden = Path(require("busybox")).read_bytes(), secret.encode()
    base = {"bin/busybox": busybox, "sleep": busybox, "mine": hidden}
    tars = [tar(base), tar({"secret": hidden})]
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


def processors(keys: Path, *options: str, for_zstd: str = "") -> list[str]:
    """The part of the configuration that is about us; ``for_zstd``: an entry of that name."""
    names = "io.containerd.ocicrypt.decoder.v1."
    entries = [("tar.gzip", [GZIP] if for_zstd else [GZIP, ZSTD], GZIP), ("tar", [TAR], TAR)]
    entries += [(for_zstd, [ZSTD], ZSTD)] if for_zstd else []
    lines = []
    for name, accepted, returned in entries:
        lines += [
            f'[stream_processors."{names}{name}"]',
            f"accepts = {json.dumps([f'{one}+encrypted' for one in accepted])}",
            f"returns = {json.dumps(returned)}",
            f"path = {json.dumps(PROGRAM)}",
            f"args = {json.dumps(['--decryption-keys-path', str(keys), *options])}",
        ]
    return lines


class Containerd:
    """One daemon, and what is in its configuration about stream processors."""

    def __init__(self, folder: Path, registry: Registry, *options: str, for_zstd: str = "") -> None:
        self.folder, self.registry = folder, registry
        self._options, self._for_zstd = options, for_zstd
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.socket = folder / "c.sock"
        self.log = folder / "containerd.log"
        (folder / "logs").mkdir()
        self.cri = Cri(self.socket, folder / "logs", folder.name)
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
                *processors(self.keys, *self._options, for_zstd=self._for_zstd),
                "",
            ]
        )

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """containerd's own client."""
        return subprocess.run(
            [require("ctr"), "-a", str(self.socket), "-n", "k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ctr(self, *arguments: str) -> str:
        done = self._ctr(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ctr_fails(self, *arguments: str) -> str:
        """What it says then."""
        done = self._ctr(*arguments)
        assert done.returncode != 0
        return done.stderr

    def snapshots(self) -> set[str]:
        """The keys of all snapshots."""
        return {line.split()[0] for line in self.ctr("snapshots", "ls").splitlines()[1:]}

    def use_key(self, *keys: Path) -> None:
        """These keys and no others are in the folder."""
        for old in self.keys.iterdir():
            old.unlink()
        for key in keys:
            shutil.copy(key, self.keys / key.name)

    def check(self) -> None:
        """Whether this machine lets containers run at all."""
        pause = f"{self.registry.host}/pause:v1"
        try:
            self.cri.pull(pause)
            pod, _ = self.cri.sandbox()
            self.cri.remove(pod)
        except CriError as error:
            missing(f"containers do not run on this machine: {error}")

    def stop(self) -> None:
        with suppress(CriError):
            self.cri.remove_all()
        self.cri.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
        _end_shims(str(self.socket))
        unmount(str(self.folder))
        _remove_cgroups(self.folder.name)


def _end_shims(socket: str) -> None:
    """Shims outlive their daemon; those of ours name its socket."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if socket.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


def unmount(folder: str) -> None:
    """Whatever is mounted below a folder."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed([one for one in places if one.startswith(folder + "/")]):
        subprocess.run(["umount", "-l", place], check=False, capture_output=True, timeout=30)


def _remove_cgroups(name: str) -> None:
    """The pods' parent, in every hierarchy; those inside go with their pods."""
    for place in [*Path("/sys/fs/cgroup").glob(f"*/{name}"), Path("/sys/fs/cgroup", name)]:
        with suppress(OSError):
            place.rmdir()


def _lacking() -> list[str]:
    """What containers need and this machine does not let us have."""
    if os.geteuid() != 0:
        return ["root"]
    found = [f"{one} namespaces" for one in ("mnt", "uts", "ipc", "pid", "net")
             if not Path("/proc/self/ns", one).exists()]  # fmt: skip
    done = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True, timeout=60)
    if done.returncode != 0:
        found.append("leave to make a namespace")
    cgroups = [
        Path(line.split()[1])
        for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[2] in ("cgroup", "cgroup2")
    ]
    if not cgroups:
        found.append("mounted cgroups")
    probe = cgroups[0] / f"boltseal-probe-{os.getpid()}" if cgroups else None
    if probe is not None:
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError:
            found.append("leave to make a cgroup")
    return found


@contextmanager
def running(
    registry: Registry, *options: str, for_zstd: str = "", kind: type[Containerd] = Containerd
) -> Iterator[Containerd]:
    """In a folder with a short name, for its sockets; nothing is left of it.

    The registry has to have the image ``pause:v1``. Skips where no containers run.
    """
    lacking = _lacking()
    if lacking:
        missing(f"containers do not run on this machine: it lacks {', '.join(lacking)}")
    require("runc")
    folder = Path(tempfile.mkdtemp(prefix="bsc", dir="/tmp"))
    daemon = kind(folder, registry, *options, for_zstd=for_zstd)
    try:
        daemon.start()
        daemon.check()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)
