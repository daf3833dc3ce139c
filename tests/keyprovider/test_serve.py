"""``boltseal keyprovider serve``: many callers, bad callers, and signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from boltseal import parse_identity
from boltseal.errors import KeyServiceError
from boltseal.keywrap import envelope
from boltseal.keywrap.keyprovider import protocol
from support.provider_clients import method, options, unwrapped, wrapped
from support.provider_messages import SECRET, WRAP
from support.providers import aes_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.keyprovider.conftest import Service

    Serve = Callable[..., Service]


def test_there_and_back(serve: Serve, sockets: Path, tmp_path: Path, keys: Path) -> None:
    service = serve(
        *("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p384.pem", "-k", f"{keys}/p256.pem"),
        *("-r", f"team=jwe:{keys}/p256.pub.pem", "-r", f"jwe:{keys}/p384.pub.pem"),
    )
    assert service.address == f"unix:{sockets}/s"
    given = options(tmp_path, service.address)
    assert unwrapped(given, wrapped(given)) == SECRET
    packet = wrapped(given, "provider:acme:team")
    assert unwrapped(given, packet) == SECRET
    with pytest.raises(KeyServiceError, match="none of the recipients"):
        wrapped(given, f"provider:acme:jwe:{keys}/other.pub.pem")
    log = service.log.splitlines()
    assert [line.split()[1] for line in log] == [
        *("keywrap", "keyunwrap", "keywrap", "keyunwrap", "keywrap")
    ]
    assert f"jwe released by {keys}/p384.pem" in log[1]
    assert f"jwe released by {keys}/p256.pem" in log[3]
    assert "refused: the parameter is none" in log[4]
    assert "NqGEai" not in service.log


def test_the_secrets_are_wrapped_for_boltseal_too(
    serve: Serve, sockets: Path, tmp_path: Path, keys: Path
) -> None:
    service = serve("--listen", f"unix:{sockets}/s", "-r", f"jwe:{keys}/p256.pub.pem")
    ((scheme, packet),) = envelope.open_up(wrapped(options(tmp_path, service.address)))
    assert parse_identity(f"{keys}/p256.pem").unwrap(scheme, packet) == SECRET


def test_a_thousand_at_the_same_time(
    serve: Serve, sockets: Path, tmp_path: Path, keys: Path
) -> None:
    service = serve(
        *("--listen", f"unix:{sockets}/s", "-q", "-k", f"{keys}/p256.pem"),
        *("-r", f"jwe:{keys}/p256.pub.pem"),
    )
    packet = wrapped(options(tmp_path, service.address))
    question = protocol.unwrap_question("acme", ["Enabled"], packet)
    message = BytesValue(value=question).SerializeToString()
    with method(service.address, "UnWrapKey") as call:
        running = [call.future(message, timeout=120) for _ in range(1000)]
        answers = {BytesValue.FromString(one.result()).value for one in running}
    assert len(answers) == 1
    assert protocol.read_answer(answers.pop(), protocol.UNWRAP) == SECRET


def test_bad_messages_do_not_hurt(serve: Serve, sockets: Path, tmp_path: Path, keys: Path) -> None:
    service = serve(
        *("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p256.pem"),
        *("-r", f"jwe:{keys}/p256.pub.pem"),
    )
    given = options(tmp_path, service.address)
    packet = wrapped(given)
    documents = (b"", b"{}", b"\xff", b"[" * 9999, b'{"op":"keyunwrap"}', WRAP)
    messages = [BytesValue(value=one).SerializeToString() for one in documents]
    messages += [b"", b"\xff\xff", b"\x0a\x7f", os.urandom(99)]
    for message in messages:
        with method(service.address, "UnWrapKey") as call, pytest.raises(grpc.RpcError) as caught:
            call(message)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, message
    with method(service.address, "UnWrapKey") as call, pytest.raises(grpc.RpcError) as caught:
        call(b"x" * (protocol.MAX_MESSAGE_BYTES + 1000))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with method(service.address, "Steal") as call, pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(f"{sockets}/s")
            raw.sendall(noise)
    assert unwrapped(given, packet) == SECRET
    assert "Traceback" not in service.log


def test_who_is_refused_learns_little(
    serve: Serve, sockets: Path, tmp_path: Path, keys: Path
) -> None:
    service = serve(
        *("--listen", f"unix:{sockets}/s", "-k", f"{keys}/other.pem"),
        *("-r", f"jwe:{keys}/p256.pub.pem"),
    )
    given = options(tmp_path, service.address)
    with pytest.raises(KeyServiceError, match=r"refused: no key of this provider opens it$"):
        unwrapped(given, wrapped(given))
    assert "other.pem (EC" in service.log.splitlines()[-1]


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(serve: Serve, sockets: Path, keys: Path, number: int) -> None:
    service = serve("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p256.pem")
    assert (sockets / "s").is_socket()
    assert service.stop(number) == 0
    assert list(sockets.iterdir()) == []
    assert service.log == ""


def test_running_calls_are_finished(
    serve: Serve, sockets: Path, tmp_path: Path, keys: Path
) -> None:
    """The identity of the service is a slow key provider itself."""
    waiting, release = threading.Event(), threading.Event()

    def slow(name: str, request: dict[str, Any]) -> Any:
        waiting.set()
        release.wait(60)
        return aes_answer(request, bytes(32))

    from support.providers import grpc_provider

    with grpc_provider(slow, address=f"unix:{sockets}/inner"):
        release.set()
        inner = options(tmp_path, f"unix:{sockets}/inner")
        packet = envelope.pack({"provider.acme": [wrapped(inner)]})
        service = serve(
            *("--listen", f"unix:{sockets}/s", "-k", "provider:acme"),
            *("--keyprovider-config", tmp_path / "c.json"),
        )
        (tmp_path / "outer").mkdir()
        outer = options(tmp_path / "outer", service.address)
        waiting.clear()
        release.clear()
        found: list[bytes] = []
        caller = threading.Thread(target=lambda: found.append(unwrapped(outer, packet)))
        caller.start()
        assert waiting.wait(60)
        service.process.send_signal(signal.SIGTERM)
        while (sockets / "s").exists():  # nobody new gets in
            threading.Event().wait(0.01)
        assert service.process.poll() is None
        release.set()
        caller.join()
        assert service.process.wait(60) == 0
    assert found == [SECRET]
