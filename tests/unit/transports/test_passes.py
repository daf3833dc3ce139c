"""How often a blob is read, written and made durable, as the kernel counts it."""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import boltseal
from boltseal.errors import StorageError
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.transports.parse import open_destination, parse_reference
from support.images import INDEX, MANIFEST, TAR, Layout, add_manifest, compact

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 6 << 20
SLACK = SIZE // 4  # manifests, configs, modules that are imported meanwhile


def image(path: Path, sizes: list[int]) -> str:
    layout = Layout(path)
    layers = [random.Random(n).randbytes(size) for n, size in enumerate(sizes)]
    entry = add_manifest(layout, layers, [TAR] * len(layers))
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    return layout.reference()


def counted(act: Callable[[], object]) -> tuple[int, int]:
    """Bytes that this process read and wrote meanwhile, in files and pipes."""

    def now() -> tuple[int, int]:
        lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(lines["rchar"]), int(lines["wchar"])

    before = now()
    act()
    after = now()
    return after[0] - before[0], after[1] - before[1]


def passes(act: Callable[[], object]) -> tuple[int, int]:
    """How often the layer was read and written."""
    read, written = counted(act)
    assert all(count % SIZE < SLACK for count in (read, written)), (read, written)
    return read // SIZE, written // SIZE


@pytest.fixture
def plain(tmp_path: Path, keys: Path) -> str:
    small = image(tmp_path / "small", [100])
    who = f"jwe:{keys}/p256.pub.pem"
    boltseal.encrypt(small, f"oci:{tmp_path}/s:v", [who])  # what is imported late is imported now
    boltseal.decrypt(f"oci:{tmp_path}/s:v", f"oci-archive:{tmp_path}/s.tar", [f"{keys}/p256.pem"])
    return image(tmp_path / "plain", [SIZE])


def test_one_pass_each_way(tmp_path: Path, keys: Path, plain: str) -> None:
    sealed, who = f"oci:{tmp_path}/sealed:v", f"jwe:{keys}/p256.pub.pem"
    assert passes(lambda: boltseal.encrypt(plain, sealed, [who])) == (1, 1)
    for target in (f"oci:{tmp_path}/o:v", f"dir:{tmp_path}/d", f"oci-archive:{tmp_path}/o.tar"):
        act = partial(boltseal.decrypt, sealed, target, [f"{keys}/p256.pem"])
        assert passes(act) == (1, 1)


def test_a_copy_reads_once_and_writes_where_it_has_to(tmp_path: Path, plain: str) -> None:
    target = f"oci:{tmp_path}/copy"
    assert passes(lambda: boltseal.copy(plain, f"{target}:one")) == (1, 0), "shared"
    assert passes(lambda: boltseal.copy(plain, f"{target}:two")) == (1, 0), "it is there"
    archive = f"oci-archive:{tmp_path}/a.tar"
    assert passes(lambda: boltseal.copy(plain, archive)) == (1, 1)
    assert passes(lambda: boltseal.copy(archive, f"oci:{tmp_path}/back:v")) == (1, 1)


def test_a_layer_of_two_platforms_is_read_once(tmp_path: Path, keys: Path, plain: str) -> None:
    layout = Layout(tmp_path / "two")
    layer = random.Random(7).randbytes(SIZE)
    entries = [
        add_manifest(layout, [layer], [TAR], architecture=name) for name in ("amd64", "arm64")
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    layout.tag(INDEX, *layout.blob(compact(document)))
    source = layout.reference()
    assert passes(lambda: boltseal.copy(source, f"oci:{tmp_path}/c:v")) == (1, 0)
    who = f"jwe:{keys}/p256.pub.pem"
    assert passes(lambda: boltseal.encrypt(source, f"oci:{tmp_path}/e:v", [who])) == (1, 1)
    # what another run wrote is looked at once and not for each platform
    assert passes(lambda: boltseal.copy(source, f"oci:{tmp_path}/c:w")) == (1, 0)


@pytest.mark.parametrize("transport", ["oci", "dir"])
def test_everything_is_durable_before_it_has_its_name(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    source = image(tmp_path / "plain", [2 << 20, *([300] * 140)])
    synced: set[int] = set()
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    for name, act in (
        ("copy", lambda to: boltseal.copy(source, to)),
        ("sealed", lambda to: boltseal.encrypt(source, to, [f"jwe:{keys}/p256.pub.pem"])),
    ):
        act(f"{transport}:{tmp_path}/{name}" + (":v" if transport == "oci" else ""))
        written = [one for one in (tmp_path / name).rglob("*") if one.is_file()]
        assert len(written) > 141
        assert {one.stat().st_ino for one in written} <= synced


def test_what_did_not_become_durable_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports it once, in another blob's commit; whoever goes on is told again."""
    real, times = os.fsync, iter([1])

    def fsync(fd: int) -> None:
        if next(times, None):
            raise OSError(5, "")
        real(fd)

    with open_destination(parse_reference(f"oci:{tmp_path}/new:v")) as destination:
        failed = 0
        for n in range(200):
            raw = b"%d" % n
            writer = destination.create(len(raw))
            writer.write(memoryview(raw))
            if n == 127:
                monkeypatch.setattr(os, "fsync", fsync)
            try:
                writer.commit(Digest.of(raw))
            except StorageError:
                failed += 1
        assert failed == 1
        monkeypatch.setattr(os, "fsync", real)
        root = Descriptor(INDEX, Digest.of(b"0"), 1)
        with pytest.raises(StorageError, match="input/output error"):
            destination.commit(root, {})
    assert not (tmp_path / "new").exists()


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open_destination(parse_reference(f"oci:{tmp_path}/new:v")) as destination:
        for n in range(5):
            writer = destination.create(1)
            writer.write(memoryview(b"%d" % n))
            writer.commit(Digest.of(b"%d" % n))
    assert len(os.listdir("/proc/self/fd")) == before
    assert not (tmp_path / "new").exists()


def test_the_cost_of_a_layer_does_not_grow_with_their_number(tmp_path: Path, keys: Path) -> None:
    """Calls of functions, those in C too, for 20, 40 and 80 layers."""

    def calls(count: int) -> int:
        source = image(tmp_path / f"p{count}", [64] * count)
        sealed, seen = f"oci:{tmp_path}/e{count}:v", 0

        def note(_frame: object, event: str, _about: object) -> None:
            nonlocal seen
            seen += event in ("call", "c_call")

        sys.setprofile(note)
        try:
            boltseal.encrypt(source, sealed, [f"jwe:{keys}/p256.pub.pem"])
            boltseal.decrypt(sealed, f"oci:{tmp_path}/d{count}:v", [f"{keys}/p256.pem"])
            boltseal.copy(sealed, f"oci:{tmp_path}/c{count}:v")
        finally:
            sys.setprofile(None)
        return seen

    calls(2)  # what is imported late is imported now
    few, more, many = calls(20), calls(40), calls(80)
    assert (many - more) / (more - few) < 2.1


def test_a_manifest_over_what_registries_take(tmp_path: Path, keys: Path) -> None:
    layout = Layout(tmp_path / "plain")
    extra = {n: {"annotations": {"a": "x" * 400_000}} for n in range(12)}
    entry = add_manifest(layout, [b"%d" % n for n in range(12)], [TAR] * 12, layer_extra=extra)
    assert entry["size"] > 4 << 20
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    sealed = f"oci:{tmp_path}/sealed:v"
    boltseal.encrypt(layout.reference(), sealed, [f"jwe:{keys}/p256.pub.pem"])
    for back in (f"oci:{tmp_path}/o:v", f"dir:{tmp_path}/d", f"oci-archive:{tmp_path}/o.tar"):
        assert boltseal.decrypt(sealed, back, [f"{keys}/p256.pem"]).digest == entry["digest"]
        assert boltseal.inspect(back).to_json()
