"""Debian's containerd pulls and runs encrypted images through our stream processor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import containerd
from support.cli import boltseal, spawn
from support.containerd import COMMAND, Containerd, runnable
from support.cri import CriError
from support.images import GZIP, TAR, ZSTD, Layout
from support.peers import skopeo
from support.registry import Registry, running
from support.tamper import Sealed, flip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = {"plain": TAR, "gzip": GZIP, "zstd": ZSTD}
TRAP = "tar.zstd"  # the name that everybody's examples give to the entry for zstd


class World:
    """A registry with encrypted images, each with a secret of its own."""

    def __init__(self, folder: Path, keys: Path, registry: Registry) -> None:
        self.folder, self.keys, self.registry = folder, keys, registry
        self.to = f"jwe:{keys}/rsa2048.pub.pem"
        self.key = keys / "rsa2048.pem"
        self._push(self.layout("pause", GZIP), "pause:v1")

    def layout(self, name: str, kind: str) -> str:
        layout = Layout(self.folder / name)
        runnable(layout, (kind, kind), "v1", f"secret of {name}")
        return layout.reference()

    def _push(self, source: str, name: str) -> None:
        done = boltseal("copy", "-q", source, self.registry.reference(name))
        assert done.code == 0, done.err

    def sealed(self, name: str, kind: str) -> str:
        """Encrypted by us; how the runtime calls it."""
        source = self.layout(name, kind)
        done = boltseal(
            "encrypt", "-q", source, self.registry.reference(f"{name}:v1"), "-r", self.to
        )
        assert done.code == 0, done.err
        return f"{self.registry.host}/{name}:v1"

    def sealed_by_skopeo(self, name: str) -> str:
        skopeo(
            "copy",
            "--dest-tls-verify=false",
            "--encryption-key",
            self.to,
            self.layout(name, GZIP),
            self.registry.reference(f"{name}:v1"),
        )
        return f"{self.registry.host}/{name}:v1"

    def tampered(self, name: str, place: int) -> str:
        """One bit of a layer is another one, and all digests fit again."""
        done = boltseal(
            "encrypt", "-q", self.layout(f"{name}-src", GZIP), f"oci:{self.folder}/{name}:v1",
            "-r", self.to,
        )  # fmt: skip
        assert done.code == 0, done.err
        sealed = Sealed.__new__(Sealed)
        sealed.layout = Layout.__new__(Layout)
        sealed.layout.path = self.folder / name
        sealed.replace_blob(place, lambda raw: flip(raw, len(raw) // 2))
        self._push(f"oci:{self.folder}/{name}:v1", f"{name}:v1")
        return f"{self.registry.host}/{name}:v1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("containerd")
    with running(folder / "registry") as registry:
        yield World(folder, keys, registry)


@pytest.fixture(scope="module")
def shared(world: World) -> Iterator[Containerd]:
    with containerd.running(world.registry) as found:
        yield found


@pytest.fixture
def daemon(shared: Containerd, world: World) -> Containerd:
    """With the right key in its folder."""
    shared.use_key(world.key)
    return shared


@pytest.mark.parametrize("kind", KINDS)
def test_runs_what_we_encrypted(daemon: Containerd, world: World, kind: str) -> None:
    image = world.sealed(f"ours-{kind}", KINDS[kind])
    daemon.cri.pull(image)
    assert daemon.cri.run(image, COMMAND) == f"secret of ours-{kind}"


def test_runs_what_skopeo_encrypted(daemon: Containerd, world: World) -> None:
    image = world.sealed_by_skopeo("theirs")
    daemon.cri.pull(image)
    assert daemon.cri.run(image, COMMAND) == "secret of theirs"


def test_without_the_key_the_pull_fails_with_our_words(daemon: Containerd, world: World) -> None:
    image = world.sealed("locked", GZIP)
    before = daemon.snapshots()
    daemon.use_key(world.keys / "other.pem")
    with pytest.raises(CriError) as caught:
        daemon.cri.pull(image)
    said = str(caught.value)
    assert "boltseal-ctd-decoder: sha256:" in said
    assert "no key given opens it (wrapped by jwe)" in said
    assert "keys/other.pem (EC P-256," in said
    assert "\n" not in said
    assert daemon.snapshots() == before
    daemon.use_key()
    with pytest.raises(CriError, match=r"no key that can be used below .*/keys"):
        daemon.cri.pull(image)
    # and with it again nothing stands in the way
    daemon.use_key(world.key)
    daemon.cri.pull(image)
    assert daemon.cri.run(image, COMMAND) == "secret of locked"


@pytest.mark.parametrize("place", [0, 1])
def test_a_tampered_layer_leaves_no_snapshot(daemon: Containerd, world: World, place: int) -> None:
    image = world.tampered(f"forged{place}", place)
    before = daemon.snapshots()
    with pytest.raises(CriError, match=r"boltseal-ctd-decoder: sha256:.*the HMAC over the cipher"):
        daemon.cri.pull(image)
    new = daemon.snapshots() - before
    # of the layer below alone, which is as it should be; it may be there from another image
    config = spawn("manifest", "--config", f"oci:{world.folder}/forged{place}:v1").out
    assert new <= set(json.loads(config)["rootfs"]["diff_ids"][:place])
    with pytest.raises(CriError):
        daemon.cri.run(image, COMMAND)


def test_a_client_that_sends_no_payload_is_told(daemon: Containerd, world: World) -> None:
    image = world.sealed("by-ctr", GZIP)
    said = daemon.ctr_fails("images", "pull", "--plain-http", image)
    assert "containerd sent no payload (descriptor 3 is" in said
    assert f"list {GZIP}+encrypted under accepts" in said
    assert "pull through the CRI with key_model = node" in said


def test_what_was_unpacked_once_starts_without_a_key(daemon: Containerd, world: World) -> None:
    """Not what one would wish, and what the how-to page has to say."""
    image = world.sealed("kept", GZIP)
    daemon.cri.pull(image)
    daemon.use_key()
    daemon.cri.pull(image)
    assert daemon.cri.run(image, COMMAND) == "secret of kept"


def test_early_release_and_the_trap_of_zstd(world: World) -> None:
    """Another configuration: what imgcrypt does, and the entry's name that gets no payload."""
    with containerd.running(world.registry, "--release", "early", for_zstd=TRAP) as daemon:
        daemon.use_key(world.key)
        image = world.sealed("early", GZIP)
        daemon.cri.pull(image)
        assert daemon.cri.run(image, COMMAND) == "secret of early"
        before = daemon.snapshots()
        # whose error it reports depends on who stumbles first: unpacking has begun already
        with pytest.raises(CriError, match="failed to extract layer"):
            daemon.cri.pull(world.tampered("forged-early", 0))
        assert daemon.snapshots() == before
        with pytest.raises(CriError) as caught:
            daemon.cri.pull(world.sealed("trapped", ZSTD))
        assert "containerd sent no payload (descriptor 3 is" in str(caught.value)
        assert f"list {ZSTD}+encrypted under accepts" in str(caught.value)
