"""The broker's own keys by the command line: the root key, the audit's and the server's."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import ssl
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from boltseal.broker.app import certificate
from boltseal.broker.audit import checkpoint, verify
from support import broker_host, broker_identity
from support.broker import Broker
from support.broker_host import SECRET, Cluster

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Broker:
    """Made once; commands of a test act on a copy of it."""
    made = Broker(tmp_path_factory.mktemp("rotations") / "broker")
    made.run("key", "create", "prod-eu", "--algorithm", "p256")
    return made


@pytest.fixture
def broker(blueprint: Broker, tmp_path: Path) -> Broker:
    import shutil

    shutil.copytree(blueprint.folder, tmp_path / "broker")
    other = object.__new__(Broker)
    other.__dict__.update(blueprint.__dict__)
    other.folder = tmp_path / "broker"
    other.ca = other.folder / "tls" / "ca.pem"
    return other


def records(broker: Broker, subject: str) -> list[dict[str, object]]:
    """What the audit has about a subject."""
    lines = broker.run("audit", "export", apart=True).out.splitlines()
    found = [json.loads(line).get("record", {}) for line in lines]
    return [one for one in found if one.get("subject") == subject]


def test_a_running_broker_goes_on_with_another_root_key_and_another_audit_key(
    tmp_path: Path,
) -> None:
    eu = Cluster("eu-1", tmp_path, 1)
    (tmp_path / "policy.cedar").write_text(broker_host.POLICY)
    broker = Broker(tmp_path / "broker")
    broker.run("key", "create", "prod-eu", "--algorithm", "p256")
    broker.run("trust", "add", "eu-1", "--ca", str(eu.ca), "--label", "region=eu")
    broker.run("policy", "add", str(tmp_path / "policy.cedar"), "--activate")
    first = broker.run("key", "public", "prod-eu").out.encode()
    before = (broker.folder / "root.key").read_bytes()
    with broker:
        tls = eu.host(broker)
        assert broker_host.ask(broker, first, tls)[1] == SECRET
        made = broker.run("root", "rotate", "--json").json
        replaced = broker.run("audit", "rotate-key", "--json").json
        # a private key that it has not open yet, and one that it seals itself
        broker.run("key", "rotate", "prod-eu")
        second = broker.run("key", "public", "prod-eu").out.encode()
        assert broker_host.ask(broker, second, tls)[1] == SECRET
        versions = "/v1/admin/tenants/default/projects/default/keys/prod-eu/versions"
        assert broker.ask("POST", versions, {}).status == 201
        third = broker.run("key", "public", "prod-eu").out.encode()
        assert broker_host.ask(broker, third, tls)[1] == SECRET
        assert broker_host.ask(broker, first, tls)[1] == SECRET
        assert broker.ask("GET", "/readyz").status == 200
        served = broker.ask("GET", "/v1/admin/audit/export").body
    assert not broker.logged("problem")
    assert broker.stop() == 0
    assert (broker.folder / "root.key").read_bytes() != before == Path(made["kept"]).read_bytes()

    newest = checkpoint.Checkpoint.parse(broker.run("audit", "checkpoints").out)
    assert newest.key == replaced["fingerprint"] != replaced["replaced"]
    verdict = broker.run("audit", "verify", "--json").json
    assert verdict["ok"]
    assert verdict["signed"] == verdict["last"]
    pem = broker.run("audit", "checkpoints", "--public-key").out.encode()
    keys = checkpoint.load_keys(pem)
    assert list(keys) == [replaced["replaced"], replaced["fingerprint"]]
    assert json.loads(served.splitlines()[-1])["end"]["key"] == replaced["fingerprint"]
    assert verify.verify_export(io.BytesIO(served), keys).finding is None


def test_rotate(broker: Broker) -> None:
    path = broker.folder / "root.key"
    old = path.read_bytes()
    (label,) = broker.run("root", "show", "--json").json["roots"]
    done = broker.run("root", "rotate")
    assert "2 private keys sealed anew" in done.out  # with the audit's
    assert "destroy the old ones together with that key" in done.err
    (kept,) = broker.folder.glob("root.key.*")
    assert kept.name == f"root.key.{label['label'].partition(':')[2][:12]}"
    assert kept.read_bytes() == old != path.read_bytes()
    for one in (kept, path):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    shown = broker.run("root", "show", "--json").json
    assert shown["opens"]
    assert [one["label"] == label["label"] for one in shown["roots"]] == [False]
    broker.run("key", "rotate", "prod-eu")
    steps = [one["details"].get("step") for one in records(broker, "root key")]
    assert steps == [None, "added", "others retired"]
    # what it was made with opens it no more
    path.write_bytes(old)
    assert (
        "does not open the broker's database" in broker.run("key", "rotate", "prod-eu", code=1).err
    )
    shown = broker.run("root", "show")
    assert "does not open the database" in shown.err
    assert shown.out.count("  no") == 1


def _stop_at_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(*_: object, **__: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "rename", rename)


def _stop_at_retiring(monkeypatch: pytest.MonkeyPatch) -> None:
    from boltseal.broker.keys import exchange
    from boltseal.broker.model import RefusedError

    def retire(*_: object, **__: object) -> int:
        raise RefusedError("unavailable", "the database is busy")

    monkeypatch.setattr(exchange, "retire_others", retire)


@pytest.mark.parametrize("stop", [_stop_at_rename, _stop_at_retiring])
def test_rotating_that_was_stopped_can_be_done_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, stop: Callable[[pytest.MonkeyPatch], None]
) -> None:
    with monkeypatch.context() as patched:
        stop(patched)
        broker.run("root", "rotate", code=1)
    broker.run("key", "rotate", "prod-eu")  # what is in the file opens the database
    assert len(broker.run("root", "show", "--json").json["roots"]) == 2
    broker.run("root", "rotate")
    shown = broker.run("root", "show", "--json").json
    assert (len(shown["roots"]), shown["opens"]) == (1, True)
    assert not list(broker.folder.glob("*.new"))
    assert broker.run("audit", "verify").code == 0


def test_step_by_step_for_replicas_on_other_machines(broker: Broker, tmp_path: Path) -> None:
    path = broker.folder / "root.key"
    done = broker.run("root", "add")
    assert f"put this file in the place of {path}" in done.out
    assert "opens the database already" in broker.run("root", "add", code=1).err
    refused = broker.run("root", "retire", code=1)  # it would retire the new one
    assert "was added after the root key in use" in refused.err
    assert "root retire --newer" in refused.err
    broker.run("key", "rotate", "prod-eu")
    (broker.folder / "root.key.new").replace(path)
    assert "the newest one itself" in broker.run("root", "retire", "--newer", code=1).err
    made = broker.run("root", "retire", "--json").json
    assert made["sealed"] == 3
    assert len(made["retired"]) == 1
    assert "no other root key" in broker.run("root", "retire", code=1).err
    broker.run("key", "rotate", "prod-eu")


def test_an_addition_is_taken_back(broker: Broker) -> None:
    before = broker.run("root", "show", "--json").json["roots"]
    broker.run("root", "add")
    made = broker.run("root", "retire", "--newer", "--json").json
    assert made["label"] == before[0]["label"]
    broker.run("root", "add")
    again = broker.run("root", "retire", "--newer").err
    assert "root.key.new again: remove it" in again
    assert "backups" not in again, "they need the root key that stayed"
    assert [one["label"] for one in broker.run("root", "show", "--json").json["roots"]] == [
        before[0]["label"]
    ]


def test_another_kind_of_root_key(broker: Broker, tmp_path: Path) -> None:
    from support import cli

    assert cli.boltseal("keygen", "-q", tmp_path / "root.pem").code == 0
    named = ("--root-key", str(tmp_path / "root.pem"))
    assert "public half" in broker.run("root", "add", *named, code=2).err
    alone = broker.run("root", "add", "--root-recipient", "jwe:x", code=2)
    assert "of a --root-key" in alone.err
    recipient = f"jwe:{tmp_path}/root.pub.pem"
    done = broker.run("root", "add", *named, "--root-recipient", recipient)
    assert "start each anew" in done.out
    settings = broker.folder / "config.toml"
    text = settings.read_text()
    settings.write_text(
        text.replace('"file:root.key"', f'"{tmp_path}/root.pem"\nroot_recipient = "{recipient}"')
    )
    broker.run("root", "retire")
    broker.run("key", "rotate", "prod-eu")
    assert "is no file" in broker.run("root", "rotate", code=2).err
    assert "--root-key KEY" in broker.run("root", "add", code=2).err


def test_a_link_is_not_rotated(broker: Broker) -> None:
    path = broker.folder / "root.key"
    path.rename(broker.folder / "elsewhere")
    path.symlink_to("elsewhere")
    assert "is a link" in broker.run("root", "rotate", code=2).err
    assert path.is_symlink()
    assert len(broker.run("root", "show", "--json").json["roots"]) == 1


def test_on_postgresql_it_says_first_that_it_is_alone(postgres: object, tmp_path: Path) -> None:
    from support.broker_postgres import Postgres

    assert isinstance(postgres, Postgres)
    (tmp_path / "url").write_text(postgres.database())
    broker = Broker(tmp_path / "broker", "--database-file", str(tmp_path / "url"))
    refused = broker.run("root", "rotate", code=2)
    assert "replicas on other machines" in refused.err
    broker.run("root", "rotate", "--alone")
    broker.run("audit", "rotate-key")
    broker.run("audit", "verify")


def test_the_audits_key_is_rotated(broker: Broker) -> None:
    done = broker.run("audit", "rotate-key")
    (line,) = done.out.splitlines()
    last = checkpoint.Checkpoint.parse(line)
    assert f"record {last.seq} names the new key" in done.err
    one, other = records(broker, "audit key")
    assert one["details"]["fingerprint"] == last.key != other["details"]["fingerprint"]
    assert (other["seq"], other["kind"]) == (last.seq, "system")


def test_a_certificate_is_renewed_and_a_running_broker_takes_it(broker: Broker) -> None:
    before = broker.run("certificate", "show", "--json").json
    assert before["is_own"]
    key = (broker.folder / "tls" / "server.key").read_bytes()
    with broker:
        made = broker.run("certificate", "renew", "--json").json
        assert made["names"] == before["names"]
        assert made["fingerprint"] != before["fingerprint"]
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        broker.wait_for_log("reloaded")
        assert _served(broker) == made["fingerprint"]
    path = broker.folder / "tls" / "server.pem"
    assert (broker.folder / "tls" / "server.key").read_bytes() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    (entry,) = records(broker, "certificate")
    assert entry["details"]["fingerprint"] == made["fingerprint"]
    assert entry["details"]["names"] == made["names"]


def test_a_certificate_for_other_names_and_with_another_key(broker: Broker, tmp_path: Path) -> None:
    key = broker.folder / "tls" / "server.key"
    old = key.read_bytes()
    moved = tmp_path / "ca.key"
    (broker.folder / "tls" / "ca.key").rename(moved)
    gone = broker.run("certificate", "renew", code=1).err
    assert "ca.key" in gone
    assert "--ca-key FILE" in gone
    given = ("--ca-key", str(moved), "--new-key", "--name", "broker.example", "--name", "192.0.2.7")
    done = broker.run("certificate", "renew", *given)
    assert "for: broker.example, 192.0.2.7" in done.out
    assert "SIGHUP" in done.err
    assert "who calls it localhost, 127.0.0.1, ::1 does not trust it" in done.err
    assert key.read_bytes() != old
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    ssl.create_default_context(cafile=broker.ca).load_cert_chain(
        broker.folder / "tls" / "server.pem", key
    )
    wrong = broker.run("certificate", "renew", "--ca-key", str(key), code=1)
    assert "not the key of the broker's own authority" in wrong.err
    for name in ("exämple", "https://broker.example", "broker.example:8443", "a b", "", "a..b"):
        refused = broker.run("certificate", "renew", f"--ca-key={moved}", f"--name={name}", code=2)
        assert "is no name or address of a server" in refused.err


def test_a_certificate_of_another_authority_is_not_renewed(broker: Broker, tmp_path: Path) -> None:
    pem, key = certificate.authority()
    (broker.folder / "tls" / "ca.pem").write_bytes(pem)
    (broker.folder / "tls" / "ca.key").write_bytes(key)
    before = (broker.folder / "tls" / "server.pem").read_bytes()
    assert "is renewed elsewhere" in broker.run("certificate", "renew", code=2).err
    assert (broker.folder / "tls" / "server.pem").read_bytes() == before
    assert "renewed there" in broker.run("certificate", "show").err


def test_a_broker_without_tls_has_no_certificate(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", "--no-tls")
    for step in ("show", "renew"):
        assert "without TLS" in broker.run("certificate", step, code=2).err


def test_no_certificate_outlives_its_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography import x509

    monkeypatch.setattr(certificate, "_AUTHORITY_DAYS", 10)
    pem, key = certificate.authority()
    made, _ = certificate.server(pem, key, ["localhost"])
    issuer, leaf = (x509.load_pem_x509_certificate(one) for one in (pem, made))
    assert leaf.not_valid_after_utc == issuer.not_valid_after_utc
    assert leaf.not_valid_after_utc.timestamp() < time.time() + 11 * 86_400


def test_what_the_root_key_does_not_open_is_not_restored(broker: Broker, tmp_path: Path) -> None:
    broker.run("backup", str(tmp_path / "backup"))
    for name in ("broker.db", "broker.db-wal", "broker.db-shm"):
        (broker.folder / name).unlink(missing_ok=True)
    right = (broker.folder / "root.key").read_bytes()
    (broker.folder / "root.key").write_bytes(bytes(32))
    refused = broker.run("restore", str(tmp_path / "backup"), code=1)
    assert "does not open the broker's database" in refused.err
    (broker.folder / "root.key").write_bytes(right)
    broker.run("restore", str(tmp_path / "backup"))
    broker.run("key", "rotate", "prod-eu")


def test_a_certificate_is_revoked_by_its_file(broker: Broker, tmp_path: Path) -> None:
    host = broker_identity.client(Cluster("eu-1", tmp_path, 1).authority, name="host-1")
    pem = host.write(tmp_path, "host")
    der = host.certificate.public_bytes(serialization.Encoding.DER)
    credential = f"certificate:{hashlib.sha256(der).hexdigest()}"
    (tmp_path / "der").write_bytes(der)
    (tmp_path / "bundle").write_bytes(host.key_pem() + host.pem() + broker.ca.read_bytes())
    done = broker.run("revoke", "--certificate", str(tmp_path / "bundle"), "--reason", "stolen")
    assert done.out == f"{credential} is revoked\n"
    assert "CN=host-1" in done.err
    assert broker.run("revocations", "--json").json["revocations"][0]["credential"] == credential
    done = broker.run("unrevoke", "--certificate", str(tmp_path / "der"), "--json")
    assert done.json["credential"] == credential
    (tmp_path / "none").write_bytes(host.key_pem())
    for name in ("none", "not-there"):
        assert name in broker.run("revoke", "--certificate", str(tmp_path / name), code=1).err
    assert "does not exist" in broker.run("restore", str(tmp_path / "not-there"), code=1).err
    kept = broker.run("audit", "export", "--output", str(tmp_path / "none"), code=1)
    assert "is there already" in kept.err
    broker.run("revoke", credential, "--certificate", str(pem), code=2)
    broker.run("revoke", code=2)


def _served(broker: Broker) -> str:
    """The SHA-256 of the certificate that it shows."""
    import socket

    host, _, port = broker.url.partition("://")[2].partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        broker.context().wrap_socket(plain, server_hostname=host) as tls,
    ):
        return hashlib.sha256(tls.getpeercert(True) or b"").hexdigest()
