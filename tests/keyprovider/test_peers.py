"""Other tools encrypt and decrypt through ``boltseal keyprovider``.

Debian's skopeo 1.9.3 and buildah 1.28 were built without key providers. So the libraries that newer
ones are made of run here, in a program of a few lines (``gopeer/``); programs that are named by
BOLTSEAL_TEST_SKOPEO and BOLTSEAL_TEST_BUILDAH run as well.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal, spawn
from support.gopeer import modules
from support.images import simple_image
from support.peers import require, run, skopeo
from support.providers import aes_answer, grpc_provider

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.keyprovider.conftest import Service

POLICY = '{"default":[{"type":"insecureAcceptAnything"}]}'


@dataclass
class Peer:
    """Encrypts and decrypts between OCI layouts."""

    kind: str
    program: str
    folder: Path

    def encrypt(self, source: Path, target: Path, key: str) -> None:
        if self.kind == "buildah":
            image = self._buildah("pull", f"oci:{source}:v1")
            self._buildah("push", "--encryption-key", key, image, f"oci:{target}:v1")
        elif self.kind == "skopeo":
            self._skopeo("--encryption-key", key, source, target)
        else:
            run(self.program, "encrypt", f"{source}:v1", f"{target}:v1", key)

    def decrypt(self, source: Path, target: Path, key: str) -> None:
        if self.kind == "buildah":
            image = self._buildah("pull", "--decryption-key", key, f"oci:{source}:v1")
            self._buildah("push", image, f"oci:{target}:v1")
        elif self.kind == "skopeo":
            self._skopeo("--decryption-key", key, source, target)
        else:
            run(self.program, "decrypt", f"{source}:v1", f"{target}:v1", key)

    def _skopeo(self, option: str, key: str, source: Path, target: Path) -> None:
        copy = (self.program, "--insecure-policy", "copy", option, key)
        run(*copy, f"oci:{source}:v1", f"oci:{target}:v1")

    def _buildah(self, command: str, *arguments: str) -> str:
        policy = self.folder / "policy.json"
        policy.write_text(POLICY)
        store = ("--root", self.folder / "root", "--runroot", self.folder / "runroot")
        quiet = ("--storage-driver", "vfs", command, "-q", "--signature-policy", policy)
        return run(self.program, *store, *quiet, *arguments).stdout.strip()


_GIVEN = {
    kind: os.environ[variable]
    for kind in ("skopeo", "buildah")
    if (variable := f"BOLTSEAL_TEST_{kind.upper()}") in os.environ
}


@pytest.fixture(params=["libraries", *_GIVEN])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    program = _GIVEN.get(request.param) or request.getfixturevalue("gopeer")
    return Peer(request.param, program, tmp_path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    simple_image(tmp_path / "app")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCICRYPT_KEYPROVIDER_CONFIG", str(tmp_path / "c.json"))
    return tmp_path


def configure(place: Path, **providers: Any) -> None:
    (place / "c.json").write_text(json.dumps({"key-providers": providers}))


def through_exec(place: Path, *arguments: object) -> None:
    done = boltseal("keyprovider", "print-config", *arguments)
    assert done.code == 0, done.err
    (place / "c.json").write_text(done.out)


def ours(*arguments: object) -> str:
    done = boltseal(*arguments)
    assert done.code == 0, done.err
    return done.out


def same(place: Path, one: str, other: str = "app") -> bool:
    """The same layers, whatever the peer made of the compression."""

    def diff_ids(name: str) -> Any:
        printed = spawn("manifest", "--config", f"oci:{place}/{name}:v1").out
        return json.loads(printed)["rootfs"]

    assert "encrypted" not in ours("inspect", f"oci:{place}/{one}:v1")
    return bool(diff_ids(one) == diff_ids(other))


def all_ways(place: Path, peer: Peer, keys: Path, key: str = "provider:boltseal") -> None:
    """What each side encrypts opens on the other, and with the key itself."""
    peer.encrypt(place / "app", place / "theirs", key)
    assert "(jwe)" in ours("inspect", "oci:theirs:v1")
    ours("decrypt", "oci:theirs:v1", "oci:opened:v1", "-k", key, "--check-content")
    ours("decrypt", "oci:theirs:v1", "oci:alone:v1", "-k", f"{keys}/p256.pem")
    peer.decrypt(place / "theirs", place / "again", key)
    assert same(place, "again")
    ours("encrypt", "oci:app:v1", "oci:ours:v1", "-r", key)
    peer.decrypt(place / "ours", place / "back", key)
    assert same(place, "back")


def test_exec(place: Path, peer: Peer, keys: Path) -> None:
    through_exec(place, "-k", f"{keys}/p256.pem", "-r", f"jwe:{keys}/p256.pub.pem")
    all_ways(place, peer, keys)


def test_exec_with_a_parameter(place: Path, peer: Peer, keys: Path) -> None:
    through_exec(place, "-k", f"{keys}/p256.pem", "--any-recipient")
    peer.encrypt(place / "app", place / "theirs", f"provider:boltseal:jwe:{keys}/p256.pub.pem")
    ours("decrypt", "oci:theirs:v1", "oci:alone:v1", "-k", f"{keys}/p256.pem")


@pytest.mark.parametrize("listen", ["unix:{sockets}/s", "127.0.0.1:0"])
def test_serve(
    place: Path,
    peer: Peer,
    keys: Path,
    serve: Callable[..., Service],
    sockets: Path,
    listen: str,
) -> None:
    service = serve(
        *("--listen", listen.format(sockets=sockets), "-k", f"{keys}/p256.pem"),
        *("-r", f"jwe:{keys}/p256.pub.pem"),
    )
    configure(place, boltseal={"grpc": service.address})
    all_ways(place, peer, keys)
    assert service.stop() == 0


def test_serve_with_mutual_tls(
    place: Path, peer: Peer, keys: Path, serve: Callable[..., Service], pki: Path
) -> None:
    if modules() == "debian.mod":
        pytest.skip("ocicrypt learned grpc-tls in a version that wants a newer Go than is here")
    service = serve(
        *("--listen", "127.0.0.1:0", "-k", f"{keys}/p256.pem", "-r", f"jwe:{keys}/p256.pub.pem"),
        *("--tls-cert", f"{pki}/server.crt", "--tls-key", f"{pki}/server.key"),
        *("--client-ca", f"{pki}/root.crt"),
    )
    tls = {
        "root-ca-file": f"{pki}/root.crt",
        "cert-file": f"{pki}/client.crt",
        "key-file": f"{pki}/client.key",
        "server-name": "keys.example",
    }
    configure(place, boltseal={"grpc": service.address, "grpc-tls": tls})
    all_ways(place, peer, keys)


def test_post_quantum(place: Path, peer: Peer) -> None:
    """Boltseal encrypts for an X-Wing key; others reach it by a provider with the packet's name."""
    assert boltseal("keygen", "-a", "xwing", place / "pq.pem").code == 0
    through_exec(place, "--name", "boltseal-pq", "-k", place / "pq.pem", "-r", "pq:pq.pub.pem")
    ours("encrypt", "oci:app:v1", "oci:ours:v1", "-r", "pq:pq.pub.pem")
    peer.decrypt(place / "ours", place / "back", "provider:boltseal-pq")
    assert same(place, "back")
    peer.encrypt(place / "app", place / "theirs", "provider:boltseal-pq")
    ours("decrypt", "oci:theirs:v1", "oci:opened:v1", "-k", "pq.pem")


def test_somebody_elses_provider(place: Path, peer: Peer) -> None:
    """Both sides use the same service, which answers us, and us alone, with arrays of numbers."""

    def text(name: str, request: dict[str, Any]) -> Any:
        return aes_answer(request, bytes(range(32)))

    def numbers(name: str, request: dict[str, Any]) -> Any:
        return aes_answer(request, bytes(range(32)), numbers=True)

    with grpc_provider(text) as port:
        configure(place, acme={"grpc": f"127.0.0.1:{port}"})
        peer.encrypt(place / "app", place / "theirs", "provider:acme")
    with grpc_provider(numbers) as port:
        configure(place, acme={"grpc": f"127.0.0.1:{port}"})
        ours("decrypt", "oci:theirs:v1", "oci:opened:v1", "-k", "provider:acme")
        ours("encrypt", "oci:app:v1", "oci:ours:v1", "-r", "provider:acme")
    with grpc_provider(text) as port:
        configure(place, acme={"grpc": f"127.0.0.1:{port}"})
        peer.decrypt(place / "ours", place / "back", "provider:acme")
    assert same(place, "back")


def test_the_wrong_key(place: Path, gopeer: str, keys: Path) -> None:
    """A refusal gets through to the other tool's user."""
    through_exec(place, "-k", f"{keys}/other.pem", "-r", f"jwe:{keys}/p256.pub.pem")
    ours("encrypt", "oci:app:v1", "oci:ours:v1", "-r", "provider:boltseal")
    source, target = f"{place}/ours:v1", f"{place}/back:v1"
    done = run(gopeer, "decrypt", source, target, "provider:boltseal", check=False)
    assert done.returncode == 1
    assert "missing private key needed for decryption" in done.stderr
    assert "other.pem (EC P-256" in done.stderr


def test_debians_skopeo_and_buildah_know_no_providers(place: Path) -> None:
    version = skopeo("--version").stdout.split()[-1]
    if not version.startswith("1.9."):
        pytest.skip(f"skopeo {version} is a newer one")
    copy = ("copy", "--encryption-key", "provider:boltseal", "oci:app:v1", "oci:x:v1")
    done = skopeo(*copy, check=False)
    assert "Provided protocol not recognized" in done.stderr
    policy = place / "policy.json"
    policy.write_text(POLICY)
    store = ("--root", place / "root", "--runroot", place / "runroot", "--storage-driver", "vfs")
    pull = ("pull", "--signature-policy", policy, "--decryption-key", "provider:boltseal")
    done = run(require("buildah"), *store, *pull, f"oci:{place}/app:v1", check=False)
    assert "Unable to read file: open provider:boltseal" in done.stderr
