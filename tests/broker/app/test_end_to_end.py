"""A broker as its operator runs it: hosts of two clusters, policies, revocation, replicas."""

from __future__ import annotations

import ssl
import urllib.error
from typing import TYPE_CHECKING

import pytest

from support import broker_host
from support.broker import Broker
from support.broker_host import SECRET, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def clusters(place: Path) -> tuple[Cluster, Cluster]:
    return Cluster("eu-1", place, 1), Cluster("us-1", place, 2)


@pytest.fixture(scope="module")
def broker(place: Path, clusters: tuple[Cluster, Cluster]) -> Iterator[Broker]:
    eu, us = clusters
    (place / "policy.cedar").write_text(broker_host.POLICY)
    made = Broker(place / "broker")
    made.run("key", "create", "prod-eu", "--algorithm", "p256")
    for one, region in ((eu, "eu"), (us, "us")):
        made.run("trust", "add", one.name, "--ca", str(one.ca), "--cluster", one.name,
                 "--label", f"region={region}")  # fmt: skip
    made.run("policy", "add", str(place / "policy.cedar"), "--activate")
    with made:
        yield made


@pytest.fixture(scope="module")
def key(broker: Broker) -> bytes:
    return broker.run("key", "public", "prod-eu").out.encode()


def test_a_host_of_the_right_cluster_gets_the_layers_key_and_another_does_not(
    broker: Broker, clusters: tuple[Cluster, Cluster], key: bytes
) -> None:
    eu, us = clusters
    answer, secret = broker_host.ask(broker, key, eu.host(broker))
    assert (answer.status, secret) == (200, SECRET)
    answer, secret = broker_host.ask(broker, key, us.host(broker))
    assert (answer.status, answer.code, secret) == (403, "forbidden", None)
    assert b"region" not in answer.body  # why is for the operator
    shown = broker.run("releases", answer.json["error"]["request"])
    assert "outcome: refused" in shown.out
    assert "x509:us-1:host-1" in shown.out
    assert "region" in shown.out
    listed = broker.run("releases", "--json").json["releases"]
    assert [one["outcome"] for one in listed] == ["refused", "allowed"]


def test_nobody_is_known_without_a_certificate_whatever_headers_say(
    broker: Broker, key: bytes
) -> None:
    smuggled = (
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Client-Cert", "Hash=00;Subject=CN=host-1"),
        ("X-Client-Cert", "CN=host-1"),
        ("X-Boltseal-Principal", "x509:eu-1:host-1"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-SSL-Client-Verify", "SUCCESS"),
    )
    answer, _ = broker_host.ask(broker, key, headers=smuggled)
    assert (answer.status, answer.code) == (401, "unauthenticated")
    told = broker.run("releases", answer.json["error"]["request"], "--tenant", "default")
    assert "127.0.0.1" in told.out
    assert "10.0.0.1" not in told.out


def test_a_certificate_of_an_unknown_authority_ends_the_handshake_and_is_audited(
    broker: Broker, place: Path, key: bytes
) -> None:
    stranger = Cluster("nowhere", place, 3)
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        broker_host.ask(broker, key, stranger.host(broker))
    told = broker.wait_for_log("refused-early")
    assert told["code"] == "unauthenticated"
    assert told["address"] == "127.0.0.1"
    (line,) = [
        one
        for one in broker.run("audit", "export", apart=True).out.splitlines()
        if "client's certificate" in one
    ]
    assert "127.0.0.1" in line


def test_a_revocation_and_a_disabled_version_count_at_once(
    broker: Broker, clusters: tuple[Cluster, Cluster], key: bytes
) -> None:
    tls = clusters[0].host(broker)
    broker.run("revoke", "identity:x509:eu-1:host-1", "--reason", "a test")
    answer, _ = broker_host.ask(broker, key, tls)
    assert answer.code == "revoked"
    broker.run("unrevoke", "identity:x509:eu-1:host-1")
    broker.run("key", "disable", "prod-eu", "--version", "1")
    answer, _ = broker_host.ask(broker, key, tls)
    assert answer.code == "disabled"
    broker.run("key", "enable", "prod-eu", "--version", "1")
    assert broker_host.ask(broker, key, tls)[1] == SECRET


def test_a_trust_that_is_added_while_it_runs_lets_its_hosts_in(
    broker: Broker, place: Path, key: bytes
) -> None:
    late = Cluster("eu-2", place, 4)
    config = {"ca": late.ca.read_text(), "cluster": "eu-2", "labels": {"region": "eu"}}
    made = broker.ask(
        "PUT", "/v1/admin/tenants/default/trusts/eu-2", {"kind": "x509", "config": config}
    )
    assert made.status == 200, made.body
    assert broker_host.ask(broker, key, late.host(broker))[1] == SECRET
    gone = broker.ask("DELETE", "/v1/admin/tenants/default/trusts/eu-2")
    assert gone.status == 204
    try:
        answer, _ = broker_host.ask(broker, key, late.host(broker))
    except (urllib.error.URLError, ssl.SSLError, ConnectionError):
        return  # TLS knows already
    assert answer.code == "unauthenticated"


def test_what_the_audit_says_verifies_with_the_public_key_alone(
    broker: Broker, place: Path
) -> None:
    pem = place / "audit.pem"
    pem.write_text(broker.run("audit", "checkpoints", "--public-key").out)
    lines = place / "audit.jsonl"
    broker.run("audit", "export", "--output", str(lines))
    said = broker.run("audit", "verify", str(lines), "--public-key", str(pem), config=False)
    assert "the audit is whole" in said.out
    text = lines.read_text()
    assert "refused" in text
    lines.write_text(text.replace("refused", "allowed", 1))
    bad = broker.run("audit", "verify", str(lines), "--public-key", str(pem), config=False, code=4)
    assert "changed" in bad.err


def test_a_report_says_who_opened_the_image(broker: Broker, place: Path) -> None:
    page = place / "report.html"
    told = broker.run("audit", "report", broker_host.IMAGE, "--html", str(page))
    assert "x509:eu-1:host-1" in told.out
    assert "x509:us-1:host-1" in page.read_text()
    assert "<script" not in page.read_text()


def test_no_secret_is_in_the_database_its_backup_or_the_logs(broker: Broker, place: Path) -> None:
    broker.run("backup", str(place / "backup"))
    root = (broker.folder / "root.key").read_bytes()
    places = [*broker.folder.glob("broker.db*"), place / "backup", broker.log]
    assert len(places) >= 3
    for path in places:
        raw = path.read_bytes()
        for secret in (root, broker.admin_token.encode(), *broker_host.plain()):
            assert secret not in raw, path
        assert b"PRIVATE KEY" not in raw


def test_replicas_on_one_database_answer_alike(
    broker: Broker, clusters: tuple[Cluster, Cluster], key: bytes
) -> None:
    tls = clusters[0].host(broker)
    with broker.replica() as other:
        assert broker_host.ask(other, key, tls)[1] == SECRET
        broker.ask(
            "POST",
            "/v1/admin/tenants/default/revocations",
            {"credential": "identity:x509:eu-1:host-1"},
        )
        assert broker_host.ask(other, key, tls)[0].code == "revoked"
        assert broker_host.ask(broker, key, tls)[0].code == "revoked"
        other.kill()
    broker.run("unrevoke", "identity:x509:eu-1:host-1")
    assert broker_host.ask(broker, key, tls)[1] == SECRET
    assert broker.run("audit", "verify", "--json").json["ok"]
