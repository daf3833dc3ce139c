"""A key broker from the command line: encrypt, decrypt, refuse; and through the key provider."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.broker import client
from boltseal.keywrap.keyprovider import protocol
from support import ctd
from support.broker_fake import IDENTIFIER, KEY, FakeBroker, serving
from support.cli import Run, boltseal, command
from support.images import simple_image
from support.peers import run
from support.provider_messages import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER = "boltseal-broker"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBroker]:
    with serving(FakeBroker(tmp_path_factory.mktemp("broker"), algorithm="xwing")) as fake:
        yield fake


@pytest.fixture
def broker(running: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    """It is this host's broker; the current folder has the image ``app``."""
    running.seen.clear()
    running.script.clear()
    running.allows = lambda seen: None
    monkeypatch.setattr(client, "pause", lambda number, asked: 0.01)
    monkeypatch.setenv("BOLTSEAL_CONFIG", str(running.settings()))
    monkeypatch.setenv("OCICRYPT_KEYPROVIDER_CONFIG", str(tmp_path / "c.json"))
    (tmp_path / "c.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    simple_image(tmp_path / "app")
    return running


def ours(*arguments: object) -> Run:
    done = boltseal(*arguments)
    assert done.code == 0, done.err
    return done


def sealed(broker: FakeBroker) -> None:
    ours("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", f"broker:{broker.pinned()}")
    assert not broker.seen  # offline


def digest(name: str) -> str:
    return str(json.loads(ours("inspect", "--json", f"oci:{name}:v1").out)["digest"])


def blob(name: str, digest: str) -> bytes:
    return Path(name, "blobs", *digest.split(":")).read_bytes()


def test_an_image_there_and_back(broker: FakeBroker) -> None:
    sealed(broker)
    text = ours("inspect", "oci:sealed:v1").out
    assert f"{KEY}@1" in text
    assert f"released by {broker.address.removeprefix('https://')}" in text
    ours("decrypt", "oci:sealed:v1", "oci:open:v1", "-k", "broker:")
    assert digest("open") == digest("app")
    manifest = json.loads(blob("sealed", digest("sealed")))
    asked = [one.asked for one in broker.releases]
    assert {one.layer for one in asked} == {one["digest"] for one in manifest["layers"]}
    assert len(asked) == 2
    assert {one.image_digest for one in asked} == {digest("sealed")}
    assert {one.platform for one in asked} == {"linux/amd64"}
    assert {one.image_name for one in asked} == {
        None
    }  # a path of this machine is nobody's business
    assert len({one.connection for one in broker.releases}) <= 2


def test_by_its_address(broker: FakeBroker) -> None:
    ours("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", f"broker:{broker.address}/prod-eu")
    assert [one.path for one in broker.seen] == [f"/v1/keys/{KEY}"]
    ours("check", "oci:sealed:v1", "-k", f"broker:{broker.settings()}")


def test_a_host_that_is_refused(broker: FakeBroker, tmp_path: Path) -> None:
    sealed(broker)
    broker.allows = lambda seen: "forbidden"
    done = boltseal("decrypt", "oci:sealed:v1", "oci:open:v1", "-k", "broker:")
    assert done.code == 3
    assert f"(forbidden, request {IDENTIFIER})" in done.err
    assert not (tmp_path / "open").exists()


def test_a_broker_that_is_down(broker: FakeBroker, tmp_path: Path) -> None:
    sealed(broker)
    broker.script += [lambda handler: handler.refuse("unavailable")] * 99
    done = boltseal("decrypt", "oci:sealed:v1", "oci:open:v1", "-k", "broker:")
    assert done.code == 1
    assert "no key broker gave an answer that counts" in done.err
    assert not (tmp_path / "open").exists()


def test_recipients_are_taken_out_by_name(broker: FakeBroker, keys: Path) -> None:
    ours(
        *("encrypt", "oci:app:v1", "oci:sealed:v1", "--allow-classical"),
        *("-r", f"broker:{broker.pinned()}", "-r", f"jwe:{keys}/p256.pub.pem"),
    )
    assert f"{KEY}@1" in ours("recipients", "list", "oci:sealed:v1").out
    ours("recipients", "remove", "oci:sealed:v1", "-r", KEY)
    assert KEY not in ours("recipients", "list", "oci:sealed:v1").out


def test_the_stream_processor_asks_the_nodes_broker(broker: FakeBroker) -> None:
    sealed(broker)
    layer, before = (
        json.loads(blob(name, digest(name)))["layers"][0] for name in ("sealed", "app")
    )
    encrypted, want = blob("sealed", layer["digest"]), blob("app", before["digest"])
    for arguments in ((), ("-k", "broker:")):
        done = ctd.decode(ctd.payload(layer), encrypted, *arguments, env=os.environ)
        assert (done.code, done.err) == (0, "")
        assert done.out == want
    assert [one.asked.layer for one in broker.releases] == [layer["digest"]] * 2
    broker.allows = lambda seen: "forbidden"
    done = ctd.decode(ctd.payload(layer), encrypted, "-k", "broker:", env=os.environ)
    assert (done.code, done.out) == (3, b"")
    assert f"request {IDENTIFIER}" in done.err
    assert len(broker.releases) == 3


def configure(*arguments: object) -> None:
    done = ours("keyprovider", "print-config", *arguments)
    with open("c.json", "w") as config:
        config.write(done.out)


def test_print_config_names_it_as_images_do(broker: FakeBroker) -> None:
    half = os.path.relpath(broker.pinned())
    found = json.loads(
        ours("keyprovider", "print-config", "-k", "broker:", "-r", f"broker:{half}").out
    )["key-providers"]
    arguments = found[PROVIDER]["cmd"]["args"]
    assert arguments[-2:] == ["--name", PROVIDER]
    assert f"broker:{broker.pinned()}" in arguments
    settings = os.path.relpath(broker.settings())
    found = json.loads(
        ours("keyprovider", "print-config", "-k", f"broker:{settings}", "-k", "x.pem").out
    )["key-providers"]
    assert f"broker:{broker.settings()}" in found["boltseal"]["cmd"]["args"]


def test_what_skopeo_would_do(broker: FakeBroker, gopeer: str, tmp_path: Path) -> None:
    """The libraries of skopeo, podman and buildah, by the provider's name that images have."""
    configure("-k", "broker:")
    key = f"provider:{PROVIDER}:{broker.address}/prod-eu"
    run(gopeer, "encrypt", f"{tmp_path}/app:v1", f"{tmp_path}/theirs:v1", key)
    assert f"{KEY}@1" in ours("inspect", "oci:theirs:v1").out
    ours("decrypt", "oci:theirs:v1", "oci:open:v1", "-k", "broker:")
    broker.seen.clear()
    sealed(broker)
    for name in ("theirs", "sealed"):
        broker.seen.clear()
        places = (f"{tmp_path}/{name}:v1", f"{tmp_path}/{name}-open:v1")
        run(gopeer, "decrypt", *places, f"provider:{PROVIDER}")
        assert {one.asked.layer for one in broker.releases} == {None}  # only the packet is known
        assert {one.certificate for one in broker.releases} == {"host-1"}


def test_a_provider_calls_no_broker_but_its_own(broker: FakeBroker) -> None:
    with serving(FakeBroker(broker.folder)) as other:
        for fake, code in ((broker, 0), (other, 1)):
            question = protocol.wrap_question(PROVIDER, [f"{fake.address}/prod-eu"], SECRET)
            done = subprocess.run(
                command("keyprovider", "exec", "-k", "broker:"),
                input=question,
                capture_output=True,
                check=False,
            )
            assert done.returncode == code, done.stderr
        assert b"is no broker that this key provider was started with" in done.stderr
        assert other.connections == 0
