"""Keys behind ``boltseal keyprovider serve`` that wait, fail or are for one thread at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from boltseal.errors import KeyServiceError
from boltseal.keyprovider_server import rpc
from boltseal.keyprovider_server.provider import Event, Provider, shared
from boltseal.keywrap import envelope
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.keyprovider import address, protocol
from boltseal.keywrap.keyring import Keyring
from support.provider_clients import method
from support.provider_messages import SECRET

if TYPE_CHECKING:
    from pathlib import Path


class Waiting:
    """An identity that opens nothing before it is allowed to."""

    is_concurrent = True

    def __init__(self) -> None:
        self.go = threading.Event()

    def handles(self, scheme: str) -> bool:
        return True

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        self.go.wait(60)
        return SECRET

    def describe(self) -> str:
        return "waiting"


def test_calls_wait_rather_than_being_turned_away(sockets: Path) -> None:
    """A thousand are in flight before the first of them is answered."""
    identity = Waiting()
    events: list[Event] = []
    place = address.parse(f"unix:{sockets}/s", "test")
    question = protocol.unwrap_question("acme", ["x"], envelope.pack({"jwe": [b"x"]}))
    message = BytesValue(value=question).SerializeToString()
    with rpc.serving(Provider(shared(Keyring((identity,)))), place, None, events.append) as target:
        with method(target, "UnWrapKey") as call:
            running = [call.future(message, timeout=60) for _ in range(1000)]
            assert not any(one.done() for one in running)
            identity.go.set()
            assert all(one.result() for one in running)
    assert len(events) == 1000


class Broken:
    """An identity that fails in the ways of others."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def handles(self, scheme: str) -> bool:
        return True

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        raise self.error

    def describe(self) -> str:
        return "broken"


@pytest.mark.parametrize(
    ("error", "status", "logged"),
    [
        (KeyServiceError("the token's PIN 1234 is locked"), "INTERNAL", "is locked"),
        (ZeroDivisionError("secret"), "INTERNAL", "unexpected ZeroDivisionError"),
        (NotMyKeyError("no"), "PERMISSION_DENIED", "no key given opens it"),
    ],
)
def test_failures_inside(sockets: Path, error: Exception, status: str, logged: str) -> None:
    events: list[Event] = []
    provider = Provider(shared(Keyring((Broken(error),))))
    place = address.parse(f"unix:{sockets}/s", "test")
    question = protocol.unwrap_question("acme", ["x"], envelope.pack({"jwe": [b"x"]}))
    message = BytesValue(value=question).SerializeToString()
    with rpc.serving(provider, place, None, events.append) as target:
        with method(target, "UnWrapKey") as call, pytest.raises(grpc.RpcError) as caught:
            call(message)
    assert caught.value.code().name == status
    assert "PIN" not in caught.value.details()
    assert "secret" not in caught.value.details()
    (event,) = events
    assert event.error is not None
    assert logged in event.error.message


class Counting:
    """An identity that several threads must not use at the same time."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    def handles(self, scheme: str) -> bool:
        return True

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.001)
        self.inside -= 1
        return SECRET

    def describe(self) -> str:
        return "counting"


@pytest.mark.parametrize("concurrent", [False, True])
def test_keys_are_used_by_one_thread_at_a_time(sockets: Path, *, concurrent: bool) -> None:
    identity = Counting()
    identity.is_concurrent = concurrent  # type: ignore[attr-defined]
    provider = Provider(shared(Keyring((identity,))))
    place = address.parse(f"unix:{sockets}/s", "test")
    question = protocol.unwrap_question("acme", ["x"], envelope.pack({"jwe": [b"x"]}))
    message = BytesValue(value=question).SerializeToString()
    with rpc.serving(provider, place, None, lambda _: None) as target:
        with method(target, "UnWrapKey") as call:
            for one in [call.future(message) for _ in range(100)]:
                one.result()
    assert (identity.most == 1) is not concurrent
