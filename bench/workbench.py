"""The bench's folders and what is shared by cases: keys, images, registries, programs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench import image
from bench.case import GIB, MIB, LeftOut
from bench.distribution import Registry
from bench.measure import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

Place = Literal["memory", "disk"]
_SMALL = 16 * MIB


class Workbench:
    """Use as a context manager; everything below its folders is removed at the end.

    Images are kept for the next case while they are small, or the case asks for the same again.
    """

    def __init__(self, memory: Path, disk: Path) -> None:
        self._bases: dict[Place, Path] = {"memory": memory, "disk": disk}
        self._stack = ExitStack()
        self._folders: dict[Place, Path] = {}
        self._keys: dict[str, Path] = {}
        self._images: dict[str, tuple[Path, int]] = {}
        self._registries: dict[Path, Registry] = {}
        self._touched = 0
        self.limit: float | None = None  # what was measured last

    def __enter__(self) -> Workbench:
        for place, base in self._bases.items():
            name = tempfile.TemporaryDirectory(prefix="boltseal-bench-", dir=base)
            self._folders[place] = Path(self._stack.enter_context(name))
        return self

    def __exit__(self, *details: object) -> None:
        for registry in self._registries.values():
            registry.stop()
        self._stack.close()

    def folder(self, place: Place = "memory") -> Path:
        return self._folders[place]

    def hide(self, text: str) -> str:
        """``text`` without the places of this machine."""
        for folder in self._folders.values():
            text = text.replace(str(folder), "...")
        return text.replace(sys.prefix, "...").replace(str(Path(__file__).parents[1]), "...")

    def out(self, place: Place = "memory") -> Path:
        """Where commands write; removed before each."""
        return self.folder(place) / "out"

    def room(self, needed: int, place: Place = "memory") -> None:
        """Raises LeftOut where ``needed`` bytes and some more are not free."""
        free = shutil.disk_usage(self.folder(place)).free
        if place == "memory":
            free = min(free, _available())
        if free < needed + GIB // 2:
            raise LeftOut(f"{needed // MIB} MiB are needed in {place}, {free // MIB} are free")

    def touch(self, size: int) -> None:
        """Use as much memory as outputs will once: a virtual machine's first touch is slower."""
        if size <= self._touched:
            return
        path = self.folder() / "touched"
        with path.open("wb") as out:
            for _ in range(size // MIB):
                out.write(bytes(MIB))
        path.unlink()
        self._touched = size

    def key(self, kind: str = "rsa3072") -> Path:
        """A private key; its public half has ``.pub.pem`` for its ``.pem``."""
        if kind not in self._keys:
            path = self.folder() / f"{kind}.pem"
            call(boltseal("keygen", "-q", "-a", kind, str(path)))
            self._keys[kind] = path
        return self._keys[kind]

    def public(self, kind: str = "rsa3072") -> str:
        return f"jwe:{self.key(kind).with_suffix('')}.pub.pem"

    def image(
        self, size: int, layers: int = 1, kind: str = "gzip", place: Place = "memory"
    ) -> Path:
        """A plain image; ``size`` in bytes of all its layers."""
        name = f"{place}-{kind}-{layers}-{size}"
        if name not in self._images:
            self._evict()
            self.room((0 if kind == "sparse" else size) + 4096 * layers, place)
            path = self.folder(place) / name
            each = str(size // layers)
            # In a process of its own, so that this one stays small.
            call([sys.executable, "-m", "bench.image", str(path), each, str(layers), kind])
            self._images[name] = (path, size)
        return self._images[name][0]

    def sealed(
        self,
        size: int,
        layers: int = 1,
        kind: str = "gzip",
        place: Place = "memory",
        key: str = "rsa3072",
    ) -> Path:
        """The same, encrypted by us."""
        name = f"{place}-{kind}-{layers}-{size}-{key}"
        plain = self.image(size, layers, kind, place)
        if name not in self._images:
            self.room(size, place)
            path = self.folder(place) / name
            call(boltseal("encrypt", "-q", oci(plain), oci(path), "-r", self.public(key)))
            self._images[name] = (path, size)
        return self._images[name][0]

    def place_for(self, size: int) -> Place:
        """Memory where there is room for ``size`` bytes, else the disk; raises LeftOut."""
        try:
            self.room(size)
        except LeftOut:
            self.room(size, "disk")
            return "disk"
        return "memory"

    def registry(self, *, tls: bool, place: Place = "memory") -> Registry:
        """A running registry on loopback, empty of what other cases pushed."""
        folder = self.folder(place) / f"registry-{int(tls)}"
        if folder not in self._registries:
            self._registries[folder] = Registry(folder, tls=tls)
        self._registries[folder].empty()
        return self._registries[folder]

    def drop_registries(self) -> None:
        for registry in self._registries.values():
            registry.remove()

    def _evict(self) -> None:
        """Large images of earlier cases."""
        for other, (path, size) in list(self._images.items()):
            if size > _SMALL:
                shutil.rmtree(path, ignore_errors=True)
                del self._images[other]


def boltseal(*arguments: str) -> list[str]:
    """The command of ours that is installed beside the interpreter."""
    return [str(Path(sys.executable).with_name("boltseal")), *arguments]


def program(name: str) -> str:
    """Raises LeftOut where it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise LeftOut(f"{name} is not installed")
    return found


def oci(path: Path) -> str:
    return f"oci:{path}:v1"


def call(command: Sequence[str]) -> None:
    """Run what is not measured. Raises CommandError."""
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode != 0:
        raise CommandError(f"{Path(command[0]).name}: {done.stderr.strip()[-500:]}")


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def check_plain(who: str, out: Path, plain: Path) -> None:
    """Every layer is back, byte for byte. Raises CommandError."""
    expected = [layer["digest"] for layer in image.manifest(plain)["layers"]]
    if [layer["digest"] for layer in image.manifest(out)["layers"]] != expected:
        raise CommandError(f"{who} did not bring back the layers that went in")
    check_blobs(who, out)


def check_sealed(who: str, out: Path, plain: Path) -> None:
    """Every layer calls itself encrypted, has the plain one's size and is there."""
    layers, before = image.manifest(out)["layers"], image.manifest(plain)["layers"]
    if [one["size"] for one in layers] != [one["size"] for one in before] or not all(
        one["mediaType"].endswith("+encrypted") for one in layers
    ):
        raise CommandError(f"{who} wrote other layers than those that went in, encrypted")
    check_blobs(who, out)


def check_blobs(who: str, out: Path) -> None:
    """All blobs have their size; a small one and the first are hashed."""
    for number, layer in enumerate(image.manifest(out)["layers"]):
        path = image.blob(out, layer["digest"])
        if not path.is_file() or path.stat().st_size != layer["size"]:
            raise CommandError(f"{who} left a layer out")
        if number == 0:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if f"sha256:{digest}" != layer["digest"]:
                raise CommandError(f"{who} wrote a layer that has not its digest")


def _available() -> int:
    """Bytes of memory that the kernel would give away."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
