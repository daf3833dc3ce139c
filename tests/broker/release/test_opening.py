"""What a packet's secret is kept for: a minute, one key's version, one epoch, and these bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from boltseal.broker.model import KeyPath, KeyState, KeyVersion, RefusedError
from boltseal.broker.release import seal
from boltseal.errors import MalformedError
from boltseal.keywrap.pq import keys as pq
from boltseal.keywrap.pq.hybrid import PrivateKey

SECRET = b'{"symkey":"what nobody else may have"}'
PAIR = PrivateKey(bytes(range(32)))
RECIPIENT = pq.HybridRecipient(PAIR.public_key())
VERSION = KeyVersion(
    KeyPath("default", "default", "one"),
    *(1, seal.HYBRID, KeyState.ENABLED, "public", "sha256:1", b"sealed", 0, None),
)


class Bench:
    """An opener whose clock and private keys are the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.opened: list[KeyVersion] = []
        self.unwrapped: list[bytes] = []
        self.opener = seal.Opener(self._private, 8, clock=lambda: self.now)
        self.opener.forget(1)

    def _private(self, version: KeyVersion) -> bytes:
        self.opened.append(version)
        if not version.wrapped:
            raise MalformedError("the private half is gone")
        return PAIR.seed

    def unwrap(self, packet: bytes, version: KeyVersion = VERSION, epoch: int = 1) -> bytes:
        return self.opener.unwrap(version, epoch, packet)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    unwrap = seal.HybridKey.unwrap

    def counted(self: seal.HybridKey, wrapped: bytes) -> bytes:
        made.unwrapped.append(wrapped)
        return unwrap(self, wrapped)

    monkeypatch.setattr(seal.HybridKey, "unwrap", counted)
    return made


def wrapped(secret: bytes = SECRET) -> bytes:
    return pq.HybridWrapper().wrap([RECIPIENT], secret)[0]


def test_the_same_packet_is_opened_once_a_minute(bench: Bench) -> None:
    packet, other = wrapped(), wrapped()
    for _ in range(3):
        assert bench.unwrap(bytes(bytearray(packet))) == SECRET
        assert bench.unwrap(other) == SECRET
    assert bench.unwrapped == [packet, other]
    bench.now += seal.KEPT_SECONDS - 1
    assert bench.unwrap(packet) == SECRET
    assert len(bench.unwrapped) == 2
    bench.now += 1
    assert bench.unwrap(packet) == SECRET
    assert len(bench.unwrapped) == 3


def test_nothing_stays_when_its_time_is_over(bench: Bench) -> None:
    """Also when nobody asks for anything any more."""
    bench.unwrap(wrapped())
    assert SECRET in bench.opener._secrets.values()
    bench.now += seal.KEPT_SECONDS
    bench.opener.tidy()
    assert not bench.opener._secrets
    assert not bench.opener._ends


def test_whatever_changes_makes_all_of_it_forgotten(bench: Bench) -> None:
    packet = wrapped()
    bench.unwrap(packet)
    bench.opener.forget(2)
    assert not bench.opener._secrets
    gone = replace(VERSION, wrapped=b"")
    with pytest.raises(RefusedError) as caught:
        bench.unwrap(packet, gone, 2)
    assert caught.value.code == "unavailable"
    with pytest.raises(RefusedError):  # one that was still on its way with the state before
        bench.unwrap(packet, gone, 1)
    assert bench.unwrap(packet, VERSION, 1) == SECRET
    assert not bench.opener._secrets  # what is opened by an earlier state is not kept


def test_it_is_for_one_version_of_one_key(bench: Bench) -> None:
    packet = wrapped()
    bench.unwrap(packet)
    for other in (
        replace(VERSION, version=2),
        replace(VERSION, fingerprint="sha256:2"),
        replace(VERSION, path=KeyPath("other", "default", "one")),
    ):
        assert bench.unwrap(packet, other) == SECRET
    assert len(bench.unwrapped) == len(bench.opened) == 4


def test_one_changed_byte_is_another_packet(bench: Bench) -> None:
    packet = wrapped()
    bench.unwrap(packet)
    at = packet.index(b'"sealed":"') + 200
    changed = packet[:at] + (b"A" if packet[at : at + 1] != b"A" else b"B") + packet[at + 1 :]
    for _ in range(2):  # and what does not open is tried again each time
        with pytest.raises(RefusedError) as caught:
            bench.unwrap(changed)
        assert caught.value.code == "malformed"
    assert bench.unwrapped == [packet, changed, changed]


def test_it_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "MAX_KEPT", 4)
    for number in range(10):
        bench.unwrap(wrapped(b"%d" % number))
        assert len(bench.opener._secrets) == len(bench.opener._ends) <= 4
    assert bench.unwrap(wrapped(bytes(2000))) == bytes(2000)  # too long to be kept
    assert bytes(2000) not in bench.opener._secrets.values()
