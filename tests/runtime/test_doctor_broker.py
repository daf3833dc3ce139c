"""`boltseal doctor` and the key broker of a host: all well, and one thing wrong at a time."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import broker_identity
from support.broker_fake import FakeBroker, Handler, serving
from support.cli import boltseal
from support.hosts import FakeHost
from support.hosts_broker import PLANTED, SECRETS, World, jwt, without_date

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    assert (asked.method, asked.path, asked.certificate) == ("GET", "/healthz", "host-1")
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


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 31 Feb 2026 99:00:00 GMT"])
def test_a_broker_that_does_not_tell_its_time(date: str | None, world: World) -> None:
    def answer(handler: Handler) -> bool:
        if date is not None:
            return handler.reply(200, b'{"status":"ok"}', Date=date)
        return False

    changes = world.says(without_date(answer))
    code, found = doctor("--config", f"broker={world.settings(**changes)}")
    assert (code, found[-1]["check"], found[-1]["state"]) == (0, "clock", "not there")


def test_a_broker_of_this_machine_needs_no_tls(world: World) -> None:
    with serving(FakeBroker(world.folder), plain=True) as plain:
        path = plain.settings(ca_file=None, cert_file=None, key_file=None)
        _, found = doctor("--config", f"broker={path}")
    (one,) = [one for one in found if one["check"].startswith("address")]
    assert (one["state"], one["message"]) == ("ok", "it answers on this machine, without TLS")


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
