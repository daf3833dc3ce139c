"""`boltseal doctor` and the key broker of a host: all well, and one thing wrong at a time."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from support import broker_identity, certificates
from support.broker_fake import FakeBroker, Handler, serving, unused
from support.cli import boltseal
from support.hosts import FakeHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSPHRASE = "open sesame"
SECRETS = ("c2lnbmF0dXJl", PASSPHRASE, "PRIVATE KEY")  # what no line may have


def jwt(**claims: float) -> str:
    parts = (json.dumps(one).encode() for one in ({"alg": "ES256"}, claims))
    encoded = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts]
    return ".".join([*encoded, SECRETS[0]])


@dataclass
class World:
    """A broker that trusts one authority, and a host whose files are in ``folder``."""

    broker: FakeBroker
    folder: Path
    authority: certificates.Issued

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return str(path)

    def host(self, *, mode: int = 0o600, **more: Any) -> dict[str, Any]:
        """Settings with a certificate as ``more`` says, in files of its own."""
        made = broker_identity.client(**{"by": self.authority, **more})
        return {
            "cert_file": self.write("host.crt", made.pem()),
            "key_file": self.write("host.key", made.key_pem(), mode),
        }

    def says(self, *misbehave: Callable[[Handler], bool]) -> dict[str, Any]:
        """The usual settings, and a broker that answers so."""
        self.broker.script += misbehave
        return self.host()

    def settings(self, **changes: Any) -> str:
        usual = {} if {"cert_file", "key_file"} <= set(changes) else self.host()
        path = self.broker.settings(**usual | changes)
        return self.write("broker.toml", path.read_bytes(), 0o644)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("broker")
    authority = broker_identity.authority("hosts")
    (folder / "host").mkdir()
    (folder / "host" / "ca.pem").write_bytes(authority.pem())
    with serving(FakeBroker(folder)) as fake:
        yield World(fake, folder, authority)


@pytest.fixture
def world(running: World, tmp_path: Path) -> World:
    running.broker.seen.clear()
    running.broker.script.clear()
    return World(running.broker, tmp_path, running.authority)


def doctor(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and all findings; nothing secret is in any of them, nor in the table."""
    done = boltseal("doctor", "--only", "key-broker", "--json", *arguments)
    assert not any(one in done.out + done.err for one in SECRETS)
    return done.code, json.loads(done.out)["findings"]


def test_all_is_well_and_nothing_is_released(world: World) -> None:
    token = world.write("token", jwt(exp=time.time() + 3600))
    code, found = doctor("--config", f"broker={world.settings(token_file=token)}")
    assert (code, {one["state"] for one in found}) == (0, {"ok"}), found
    assert [one["check"] for one in found] == [
        "settings",
        "authorities",
        "private key",
        "certificate",
        "token",
        f"address {world.broker.address.removeprefix('https://')}",
        "clock",
    ]
    (asked,) = world.broker.seen
    assert (asked.method, asked.path, asked.certificate) == ("GET", "/v1/ping", "host-1")
    said = boltseal("doctor", "--only", "key-broker", "--config", f"broker={world.settings()}").out
    assert "it answers over TLS, with this host's certificate" in " ".join(said.split())
    assert not any(one in said for one in SECRETS)


def test_the_configuration_of_this_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOLTSEAL_CONFIG", world.settings())
    code, found = doctor()
    assert (code, {one["state"] for one in found}) == (0, {"ok"})
    monkeypatch.setenv("BOLTSEAL_CONFIG", world.write("none.toml", "[other]\n"))
    for name in ("none.toml", "not-there.toml"):
        monkeypatch.setenv("BOLTSEAL_CONFIG", str(world.folder / name))
        code, found = doctor()
        assert (code, [one["state"] for one in found]) == (0, ["not there"])


def when(seconds: float | None) -> Callable[[Handler], bool]:
    """An honest answer by a clock that is so much ahead; or by none."""

    def set_clock(handler: Handler) -> bool:
        handler.date_time_string = lambda timestamp=None: formatdate(  # type: ignore[method-assign]
            time.time() + (seconds or 0), usegmt=True
        )
        if seconds is None:
            handler.send_response = handler.send_response_only  # type: ignore[method-assign]
        return False

    return set_clock


def refused(handler: Handler) -> bool:
    return handler.refuse("unavailable")


def a_web_page(handler: Handler) -> bool:
    return handler.reply(200, b"<html>", "text/html")


def another_service(handler: Handler) -> bool:
    return handler.reply(404, b'{"detail":"Not Found"}')


def locked(world: World, **more: Any) -> dict[str, Any]:
    from cryptography.hazmat.primitives import serialization as s

    form = s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(PASSPHRASE.encode())
    raw = certificates.private_key("p256").private_bytes(*form)
    return {**world.host(), "key_file": world.write("locked.key", raw), **more}


def pem(world: World, name: str, **more: Any) -> str:
    return world.write(
        name, certificates.issue("ca", certificates.private_key("p256"), **more).pem()
    )


P521 = "p521"
SERVER = (
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    broker_identity.SIGNS,
)
# what is changed in the settings; the finding's check and state; words of its message and its fix
PLANTED: dict[str, tuple[Callable[[World], dict[str, Any]], str, str, str, str]] = {
    "no identity": (
        lambda w: {"cert_file": None, "key_file": None},
        "identity", "warn", "neither cert-file nor token-file", "with token-file",
    ),
    "authorities are missing": (
        lambda w: {"ca_file": "/nowhere/ca.pem"},
        "authorities", "fail", "/nowhere/ca.pem does not exist", "in PEM",
    ),
    "authorities are none": (
        lambda w: {"ca_file": w.write("ca.pem", "hello")},
        "authorities", "fail", "holds no certificate in PEM", "tls/ca.pem",
    ),
    "authorities are of the past": (
        lambda w: {"ca_file": pem(w, "ca.pem", days=(-9, -2))},
        "authorities", "fail", "the last one expired on", "the authority of the broker's",
    ),
    "certificate is missing": (
        lambda w: {"cert_file": "/nowhere/host.crt"},
        "certificate", "fail", "/nowhere/host.crt does not exist", "correct cert-file",
    ),
    "certificate is none": (
        lambda w: {"cert_file": w.write("x.crt", "-----BEGIN CERTIFICATE-----\nx\n")},
        "certificate", "fail", "holds no certificate in PEM", "clientAuth",
    ),
    "certificate for servers": (
        lambda w: w.host(usages=SERVER),
        "certificate", "fail", "is not for clients (no extendedKeyUsage clientAuth)", "get one for",
    ),
    "certificate without usages": (
        lambda w: w.host(usages=()),
        "certificate", "fail", "is not for clients", "get one for clients",
    ),
    "certificate of an authority": (
        lambda w: w.host(usages=(certificates.constraints(ca=True), broker_identity.CLIENT)),
        "certificate", "fail", "an authority's own (CA:TRUE)", "get one for clients",
    ),
    "certificate that may not sign": (
        lambda w: w.host(usages=(broker_identity.CLIENT, certificates.usage("key_encipherment"))),
        "certificate", "fail", "may not sign", "get one for clients",
    ),
    "certificate of a weak key": (
        lambda w: w.host(key="rsa1024"),
        "certificate", "fail", "too weak", "get one for clients",
    ),
    "certificate expired": (
        lambda w: w.host(days=(-9, -0.5)),
        "certificate", "fail", "expired on", "have it renewed",
    ),
    "certificate is not valid yet": (
        lambda w: w.host(days=(1, 9)),
        "certificate", "fail", "is valid from", "clock is right",
    ),
    "certificate was not renewed": (
        lambda w: w.host(days=(-30, 1)),
        "certificate", "warn", "and was not renewed", "have it renewed",
    ),
    "key is missing": (
        lambda w: {"key_file": "/nowhere/host.key"},
        "private key", "fail", "/nowhere/host.key does not exist", "correct key-file",
    ),
    "key of somebody else": (
        lambda w: {"key_file": w.write("o.key", broker_identity.client(None, key=P521).key_pem())},
        "private key", "fail", "is not the key of", "renew both together",
    ),
    "key is none": (
        lambda w: {"key_file": w.write("other.key", "hello")},
        "private key", "fail", "cannot be opened as a private key", "key-passphrase-file",
    ),
    "key is locked": (
        locked,
        "private key", "fail", "cannot be opened as a private key", "key-passphrase-file",
    ),
    "key is locked otherwise": (
        lambda w: locked(w, key_passphrase_file=w.write("passphrase", "wrong")),
        "private key", "fail", "cannot be opened as a private key", "with the right one",
    ),
    "key for all": (
        lambda w: w.host(mode=0o644),
        "private key", "fail", "others may read", "chmod 0600",
    ),
    "passphrase for all": (
        lambda w: locked(w, key_passphrase_file=w.write("passphrase", PASSPHRASE, 0o644)),
        "private key", "fail", "passphrase, and ask as this host", "defaultMode: 0400",
    ),
    "token is missing": (
        lambda w: {"token_file": "/nowhere/token"},
        "token", "fail", "/nowhere/token does not exist", "whoever issues it",
    ),
    "token is none": (
        lambda w: {"token_file": w.write("token", "two words")},
        "token", "fail", "holds no token", "whoever issues it",
    ),
    "token expired": (
        lambda w: {"token_file": w.write("token", jwt(exp=time.time() - 5))},
        "token", "fail", "expired on", "whoever issues it",
    ),
    "token is not valid yet": (
        lambda w: {"token_file": w.write("token", jwt(nbf=time.time() + 900))},
        "token", "fail", "is valid from", "clock is right",
    ),
    "token for all": (
        lambda w: {"token_file": w.write("token", jwt(exp=1e99), 0o644)},
        "token", "warn", "everybody on this host may read", "defaultMode: 0400",
    ),
    "nobody is there": (
        lambda w: {"addresses": [unused()]},
        "address localhost", "fail", "it cannot be reached: connection refused", "broker runs",
    ),
    "one of two is there": (
        lambda w: {"addresses": [w.broker.address, unused()]},
        "address localhost", "warn", "it cannot be reached", "can be reached from here",
    ),
    "broker of another authority": (
        lambda w: {"ca_file": pem(w, "ca.pem", extensions=certificates.AUTHORITY)},
        "address localhost", "fail", "its certificate is not trusted", "ca-file",
    ),
    "broker that does not trust": (
        lambda w: w.host(by=broker_identity.authority("others", 5)),
        "address localhost", "fail", "and not to this host's certificate", "broker trust add",
    ),
    "broker that is not well": (
        lambda w: w.says(refused),
        "address localhost", "fail", "it answers 503", "the broker's log",
    ),
    "something else": (
        lambda w: w.says(another_service),
        "address localhost", "fail", "it answers 404", "something else than a key broker",
    ),
    "a page": (
        lambda w: w.says(a_web_page),
        "address localhost", "fail", "not in JSON", "broker runs there",
    ),
    "clock is behind": (
        lambda w: w.says(when(3600)),
        "clock", "fail", "seconds behind that of", "timedatectl",
    ),
    "clock is ahead": (
        lambda w: w.says(when(-90)),
        "clock", "fail", "seconds ahead of that of", "timedatectl",
    ),
    "clock is nearly too far off": (
        lambda w: w.says(when(45)),
        "clock", "warn", "of 60 that there may be", "timedatectl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_found(world: World, planted: Any) -> None:
    plant, check, state, message, fix = planted
    code, found = doctor("--config", f"broker={world.settings(**plant(world))}")
    wrong = [one for one in found if one["state"] in ("warn", "fail")]
    hits = [one for one in wrong if one["check"].startswith(check) and message in one["message"]]
    assert hits, found
    assert hits[0]["state"] == state
    assert fix in hits[0]["fix"]
    assert code == (1 if any(one["state"] == "fail" for one in wrong) else 0)
    # one thing was done, and one thing is told; a certificate's fault may show at the address, too
    allowed = {check, "address"} if check in ("certificate", "authorities") else {check}
    assert all(one["check"].startswith(tuple(allowed)) for one in wrong), wrong


def test_a_broker_that_does_not_tell_its_time(world: World) -> None:
    code, found = doctor("--config", f"broker={world.settings(**world.says(when(None)))}")
    assert (code, found[-1]["check"], found[-1]["state"]) == (0, "clock", "not there")


SETTINGS = {
    "no TOML": ("addresses = \n", 0o644, "is not valid TOML"),
    "no addresses": ("[broker]\naddresses = []\n", 0o644, "has no addresses"),
    "half an identity": (
        '[broker]\naddresses = ["https://b.example"]\ncert-file = "c"\n', 0o644, "one of cert-file",
    ),
    "others may write": ('addresses = ["https://localhost:1"]\n', 0o666, "somebody else than root"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_wrong(name: str, world: World) -> None:
    text, mode, message = SETTINGS[name]
    code, found = doctor("--config", f"broker={world.write('s.toml', text, mode)}")
    assert (code, found[0]["check"], found[0]["state"]) == (1, "settings", "fail")
    assert message in found[0]["message"]


def test_files_that_nobody_writes_into_are_not_waited_for(world: World) -> None:
    pipe = world.folder / "pipe"
    os.mkfifo(pipe)
    for name in ("ca_file", "cert_file", "key_file", "token_file", "key_passphrase_file"):
        code, found = doctor("--config", f"broker={world.settings(**{name: str(pipe)})}")
        assert code == 1
        assert found[-1]["message"] == f"not asked: {pipe} is no file"
        assert any("is not a regular file" in one["message"] for one in found), (name, found)
    assert doctor("--config", f"broker={pipe}")[1][0]["message"].endswith("is not a regular file")


def test_a_host_below_a_folder_is_not_spoken_for(world: World) -> None:
    host = FakeHost(world.folder / "root")
    made = broker_identity.client(world.authority)
    host.write("/etc/ssl/host.crt", made.pem())
    host.write("/etc/boltseal/host.key", made.key_pem(), 0o600)
    host.path("/etc/boltseal/ca.pem").symlink_to("/etc/ssl/real.pem")
    host.write("/etc/ssl/real.pem", world.authority.pem())
    host.write(
        "/etc/boltseal/config.toml",
        f'[broker]\naddresses = ["{world.broker.address}"]\nca-file = "ca.pem"\n'
        'cert-file = "/etc/ssl/host.crt"\nkey-file = "host.key"\n',
    )
    code, found = doctor("--root", host.root)
    assert (code, {one["state"] for one in found}) == (0, {"ok"}), found
    assert found[-1]["message"] == f"{world.broker.address} (not asked)"
    assert world.broker.seen == []
