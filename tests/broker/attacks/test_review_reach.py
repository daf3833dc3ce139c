"""A tenant's administrator who names an address of keys that is none of a public issuer's."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.app import config
from boltseal.broker.identity import jwks
from boltseal.broker.identity.jwks import KeySets, KeysUnavailableError, Source
from boltseal.broker.identity.reach import OutOfReachError, Reach
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe",
    "2002:a00:1::1",
]  # fmt: skip


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.settimeout(0.05)
        yield found


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not Reach().has(ipaddress.ip_address(address))


def test_public_addresses_and_the_operators_list() -> None:
    public, inside = ipaddress.ip_address("9.9.9.9"), ipaddress.ip_address("10.20.3.4")
    carried = ipaddress.ip_address("::ffff:10.20.3.4")
    assert Reach().has(public)
    assert Reach().has(ipaddress.ip_address("2620:fe::fe"))
    listed = Reach.of(["10.20.0.0/16"], is_public=False)
    assert listed.has(inside)
    assert listed.has(carried)
    assert not listed.has(public)
    assert Reach.of(["localhost"]).find("LocalHost", 443)
    with pytest.raises(OutOfReachError, match="not a public one"):
        Reach.of(["10.20.0.0/16"]).find("localhost", 443)
    for wrong in ("10.0.0.1/8", "https://a", "a b", "1.2.3", ""):
        with pytest.raises(ValueError, match="neither"):
            Reach.of([wrong])


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_the_broker_does_not_connect_inside(
    listener: socket.socket, scheme: str, host: str
) -> None:
    uri = f"{scheme}://{host}:{listener.getsockname()[1]}/keys"
    with pytest.raises(KeysUnavailableError):
        jwks.fetch(Source(uri))
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_name_is_resolved_once(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that changes after it was looked at leads nowhere."""
    asked: list[str] = []

    def twice(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        address = "9.9.9.9" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr("boltseal.broker.identity.reach.socket.getaddrinfo", twice)
    assert Reach().find("rebound.example", 1) == [("9.9.9.9", 1)]
    assert asked == ["rebound.example"]
    with pytest.raises(OutOfReachError):
        Reach().find("rebound.example", 1)


def test_a_handshake_that_drips_is_cut(listener: socket.socket) -> None:
    """Each byte comes in time, and the whole of it does not."""
    listener.settimeout(20)
    ended = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            try:
                for byte in b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" + bytes(10_000):
                    peer.send(bytes([byte]))
                    time.sleep(0.02)
            except OSError:
                ended.set()

    thread = threading.Thread(target=drip)
    thread.start()
    source = Source(f"https://127.0.0.1:{listener.getsockname()[1]}/keys")
    with pytest.raises(KeysUnavailableError, match=r"took over|Timeout"):
        jwks.fetch(source, 0.2, Reach.of(["127.0.0.1"]))
    thread.join()
    assert ended.is_set()


def test_issuers_that_hang_do_not_take_all_threads() -> None:
    gate = threading.Event()

    def hang(_: Source) -> bytes:
        gate.wait(60)
        return b"{}"

    sets = KeySets(hang, most_waiting=2)
    ends: list[str] = []

    def ask(number: int) -> None:
        try:
            sets.keys(Source(f"https://issuer-{number}.example/keys"), "kid")
        except KeysUnavailableError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for one in threads:
        one.start()
    while len(ends) < 4:  # two wait, each for an issuer of its own
        threading.Event().wait(0.01)
    assert ends == ["too many requests wait for the issuer's keys"] * 4
    gate.set()
    for one in threads:
        one.join()
    assert len(ends) == 6


def test_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    top = 'database = "sqlite:///broker.db"\nroot_key = "file:root.key"\n[identity]\n'
    path.write_text(f'{top}key_hosts = ["idp.internal", "10.0.0.0/8"]\npublic_key_hosts = false\n')
    reach = config.load(str(path)).reach
    assert reach == Reach.of(["idp.internal", "10.0.0.0/8"], is_public=False)
    path.write_text(f'{top}key_hosts = ["https://idp.internal/keys"]\n')
    with pytest.raises(UsageError, match="key_hosts has what is no host"):
        config.load(str(path))
