"""An image for a running broker: encrypted, opened by the right host, refused to the other one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import broker_host
from support.broker import Broker
from support.broker_host import Cluster
from support.cli import Run, boltseal
from support.images import index_image, simple_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "default/default/prod-eu"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    place = tmp_path_factory.mktemp("client")
    (place / "policy.cedar").write_text(broker_host.POLICY)
    made = Broker(place / "broker")
    made.run("key", "create", "prod-eu", "--publish")
    for number, region in enumerate(("eu", "us"), 1):
        cluster = Cluster(f"{region}-1", place, number)
        made.run("trust", "add", cluster.name, "--ca", str(cluster.ca), "--cluster", cluster.name,
                 "--label", f"region={region}")  # fmt: skip
        cluster.host(made)  # writes these files
        host = place / f"{cluster.name}-host-1"
        (place / f"{region}.toml").write_text(
            f'addresses = ["{made.url}"]\nca-file = "broker/tls/ca.pem"\n'
            f'cert-file = "{host}.crt.pem"\nkey-file = "{host}.pem"\n'
        )
    made.run("policy", "add", str(place / "policy.cedar"), "--activate")
    with made:
        yield made


@pytest.fixture
def sealed(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the key's address; anybody may fetch the public half."""
    monkeypatch.setenv("BOLTSEAL_CONFIG", str(broker.folder.parent / "none.toml"))
    monkeypatch.setenv("SSL_CERT_FILE", str(broker.ca))
    simple_image(tmp_path / "app")
    target = f"oci:{tmp_path}/sealed:v1"
    ours("encrypt", f"oci:{tmp_path}/app:v1", target, "-r", f"broker:{broker.url}/prod-eu")
    return target


def ours(*arguments: object) -> Run:
    done = boltseal(*arguments)
    assert done.code == 0, done.err
    return done


def digest(image: str) -> str:
    return str(json.loads(ours("inspect", "--json", image).out)["digest"])


def test_the_host_that_may_and_the_one_that_may_not(
    broker: Broker, sealed: str, tmp_path: Path
) -> None:
    place = broker.folder.parent
    ours("decrypt", sealed, f"oci:{tmp_path}/open:v1", "-k", f"broker:{place}/eu.toml")
    assert digest(f"oci:{tmp_path}/open:v1") == digest(f"oci:{tmp_path}/app:v1")
    done = boltseal("decrypt", sealed, f"oci:{tmp_path}/no:v1", "-k", f"broker:{place}/us.toml")
    assert done.code == 3
    assert not (tmp_path / "no").exists()
    request = done.err.partition("(forbidden, request ")[2].partition(")")[0]
    assert "region" not in done.err  # why is for the operator
    told = broker.run("releases", request).out
    assert "outcome: refused" in told
    assert digest(sealed) in told


def test_a_pinned_half_and_what_it_opens(broker: Broker, tmp_path: Path) -> None:
    pinned = tmp_path / "prod-eu.json"
    pinned.write_text(broker.run("key", "public", "prod-eu").out)
    simple_image(tmp_path / "app")
    ours("encrypt", f"oci:{tmp_path}/app:v1", f"oci:{tmp_path}/x:v1", "-r", f"broker:{pinned}")
    assert f"{NAME}@1" in ours("inspect", f"oci:{tmp_path}/x:v1").out
    ours("check", f"oci:{tmp_path}/x:v1", "-k", f"broker:{broker.folder.parent}/eu.toml")


def test_an_image_for_several_platforms_is_reported_under_its_index(
    broker: Broker, tmp_path: Path
) -> None:
    place = broker.folder.parent
    (tmp_path / "half.json").write_text(broker.run("key", "public", "prod-eu").out)
    index_image(tmp_path / "app")
    source, target = f"oci:{tmp_path}/app:v1", f"oci:{tmp_path}/many:v1"
    ours("encrypt", source, target, "-r", f"broker:{tmp_path}/half.json")
    ours("decrypt", target, f"oci:{tmp_path}/open:v1", "-k", f"broker:{place}/eu.toml")
    index = digest(target)
    named = broker.run("audit", "report", index, "--json").json
    assert named["opened"] == []  # hosts named the manifests of their platforms
    found = broker.run("audit", "report", target, "--key", "prod-eu", "--json").json
    assert found["question"]["image"] == index
    assert len(found["question"]["manifests"]) == 2
    (group,) = found["opened"]
    layers = {one["layer"] for one in found["requests"]}
    assert group["count"] == len(found["requests"]) == len(layers) == 3  # what both share, once
    told = broker.run("audit", "report", target).out
    assert all(one in told for one in found["question"]["manifests"])


def test_what_is_looked_for_is_understood_or_refused(broker: Broker, sealed: str) -> None:
    eu = f"broker:{broker.folder.parent}/eu.toml"
    ours("decrypt", sealed, f"{sealed}-open", "-k", eu)
    for key in ("prod-eu", "prod-eu@1", NAME):
        found = broker.run("releases", "--key", key, "--image", digest(sealed), "--json").json
        assert {one["subject"] for one in found["releases"]} == {f"{NAME}@1"}
    for bad in (("releases", "--image", "sha256:abc"), ("audit", "report", "sha256:abc")):
        assert "is no digest" in broker.run(*bad, code=2).err


def test_a_revocation_of_what_is_not_there_is_told(broker: Broker) -> None:
    for credential, name in (
        ("trust:eu-7", "eu-7"),
        ("identity:x509:eu-8:host-1", "eu-8"),
        ("serial:eu-9:ab12", "eu-9"),
    ):
        assert f"has no trust {name} now" in broker.run("revoke", credential).err
    for credential in ("identity:x509:eu-1:nobody", "identity:spiffe://eu.example/web"):
        assert "no trust" not in broker.run("revoke", credential).err


def test_what_the_doctor_says_of_it(broker: Broker, tmp_path: Path) -> None:
    place = broker.folder.parent
    before = broker.run("releases", "--json").json["releases"]
    (place / "eu-1-host-1.pem").chmod(0o600)
    done = boltseal("doctor", "--only", "key-broker", "--config", f"broker={place}/eu.toml")
    assert (done.code, "with this host's certificate" in " ".join(done.out.split())) == (0, True)
    assert "of the broker's" in done.out, "the clocks were compared"
    stranger = Cluster("elsewhere", tmp_path, 7)
    stranger.host(broker)
    settings = (place / "eu.toml").read_text().replace('"broker/tls', f'"{broker.folder}/tls')
    host = f"{tmp_path}/elsewhere-host-1"
    (tmp_path / "b.toml").write_text(settings.replace(f"{place}/eu-1-host-1", host))
    done = boltseal("doctor", "--only", "key-broker", "--config", f"broker={tmp_path}/b.toml")
    assert (done.code, "no tenant trusts its authority" in " ".join(done.out.split())) == (1, True)
    assert broker.wait_for_log("refused-early")
    assert broker.run("releases", "--json").json["releases"] == before  # nothing was asked for
