"""``boltseal keyprovider serve``: many callers, bad callers, sockets, certificates, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import KeyServiceError
from boltseal.keyprovider_server import rpc
from boltseal.keyprovider_server.provider import Event, Provider, shared
from boltseal.keywrap import envelope
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.keyprovider import address, protocol
from boltseal.keywrap.keyring import Keyring, wrap
from support.cli import Run, boltseal
from support.provider_messages import SECRET, WRAP
from support.providers import aes_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.keyprovider.conftest import Service

    Serve = Callable[..., Service]


def options(tmp_path: Path, place: str, tls: Any = None, **more: Any) -> KeyOptions:
    way = {"grpc": place} | ({} if tls is None else {"grpc-tls": tls})
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"key-providers": {"acme": way}}))
    return KeyOptions(provider_files=(str(path),), **more)


def wrapped(given: KeyOptions, text: str = "provider:acme") -> bytes:
    (packet,) = wrap([parse_recipient(text, given)], SECRET)["provider.acme"]
    return packet


def unwrapped(given: KeyOptions, packet: bytes) -> bytes:
    return parse_identity("provider:acme", given).unwrap("provider.acme", packet)


@contextmanager
def method(target: str, name: str) -> Iterator[Any]:
    """A method of a service, for messages that no client of ours would send."""
    with grpc.insecure_channel(target) as channel:
        yield channel.unary_unary(f"/keyprovider.KeyProviderService/{name}")


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


# Sockets


def serve_fails(*arguments: object) -> Run:
    run = boltseal("keyprovider", "serve", *arguments)
    assert run.code in (1, 2)
    assert run.out == ""
    return run


def test_the_socket_is_for_its_owner(serve: Serve, sockets: Path, keys: Path) -> None:
    serve("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p256.pem")
    assert stat.S_IMODE((sockets / "s").stat().st_mode) == 0o600


def test_a_socket_that_was_left_behind(
    serve: Serve, sockets: Path, tmp_path: Path, keys: Path
) -> None:
    arguments = (
        *("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p256.pem"),
        *("-r", f"jwe:{keys}/p256.pub.pem"),
    )
    first = serve(*arguments)
    assert "another process listens" in serve_fails(*arguments).err
    first.process.kill()
    first.process.wait()
    assert (sockets / "s").is_socket()
    second = serve(*arguments)
    given = options(tmp_path, second.address)
    assert unwrapped(given, wrapped(given)) == SECRET


def test_what_is_in_the_way_is_left_alone(sockets: Path, keys: Path) -> None:
    (sockets / "s").write_text("precious")
    run = serve_fails("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p256.pem")
    assert "is there already, and is no socket" in run.err
    assert (sockets / "s").read_text() == "precious"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_folders_that_others_can_write_to(sockets: Path, keys: Path, mode: int) -> None:
    sockets.chmod(mode)
    run = serve_fails("--listen", f"unix:{sockets}/s", "-k", f"{keys}/p256.pem")
    assert "can be written to by others" in run.err
    assert not (sockets / "s").exists()


def test_folders_that_are_not_there(sockets: Path, keys: Path) -> None:
    run = serve_fails("--listen", f"unix:{sockets}/absent/s", "-k", f"{keys}/p256.pem")
    assert "no such file or directory" in run.err


def test_a_port_that_is_taken(keys: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = serve_fails("--listen", f"127.0.0.1:{port}", "-k", f"{keys}/p256.pem")
    assert f"cannot listen on 127.0.0.1:{port}" in run.err
    assert "in use" in run.err


# TCP and TLS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0.0.0.0:0", "-k"), "sent in the clear"),
        (("[::]:0", "-k"), "sent in the clear"),
        (("127.0.0.1:0", "-k", "--any-recipient"), "name files to be read"),
        (("0.0.0.0:0", "-k", "--tls"), "could open every image"),
        (("127.0.0.1:0", "-k", "--client-ca", "x"), "--client-ca needs"),
        (("127.0.0.1:0", "-k", "--tls-cert", "x"), "belong together"),
        (("127.0.0.1:0",), "nothing to serve"),
        (("127.0.0.1", "-k"), "is no address"),
        (("unix:s", "-k"), "no full path"),
    ],
)
def test_what_would_be_too_open(
    pki: Path, keys: Path, arguments: tuple[str, ...], message: str
) -> None:
    expanded: list[str] = []
    for one in arguments:
        expanded += {
            "-k": ["-k", f"{keys}/p256.pem"],
            "--tls": ["--tls-cert", f"{pki}/server.crt", "--tls-key", f"{pki}/server.key"],
        }.get(one, [one])
    run = serve_fails("--listen", *expanded)
    assert run.code == 2
    assert message in run.err


def test_loopback(serve: Serve, tmp_path: Path, keys: Path) -> None:
    service = serve(
        *("--listen", "127.0.0.1:0", "-k", f"{keys}/p256.pem"),
        *("-r", f"jwe:{keys}/p256.pub.pem"),
    )
    given = options(tmp_path, service.address)
    assert unwrapped(given, wrapped(given)) == SECRET
    assert "note: every user of this machine can have keys unwrapped here" in service.log


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_mutual_tls(serve: Serve, tmp_path: Path, pki: Path, keys: Path, listen: str) -> None:
    service = serve(
        *("--listen", listen, "-k", f"{keys}/p256.pem", "-r", f"jwe:{keys}/p256.pub.pem"),
        *("--tls-cert", f"{pki}/server.crt", "--tls-key", f"{pki}/server.key"),
        *("--client-ca", f"{pki}/root.crt"),
    )
    place = "127.0.0.1:" + service.address.rpartition(":")[2]
    tls: dict[str, str] = {"root-ca-file": f"{pki}/root.crt"}
    for client in ("", "stranger"):
        own = {"cert-file": f"{pki}/{client}.crt", "key-file": f"{pki}/{client}.key"}
        with pytest.raises(KeyServiceError, match="cannot be reached"):
            wrapped(options(tmp_path, place, tls | (own if client else {})))
    tls |= {"cert-file": f"{pki}/client.crt", "key-file": f"{pki}/client.key"}
    given = options(tmp_path, place, tls)
    assert unwrapped(given, wrapped(given)) == SECRET
    with pytest.raises(KeyServiceError, match="cannot be reached"):
        wrapped(options(tmp_path, place))
    assert service.stop() == 0


def test_certificate_and_key_that_do_not_belong_together(pki: Path, keys: Path) -> None:
    run = serve_fails(
        *("--listen", "127.0.0.1:0", "-k", f"{keys}/p256.pem"),
        *("--tls-cert", f"{pki}/server.crt", "--tls-key", f"{pki}/client.key"),
    )
    assert "belong together" in run.err
    assert "cannot listen" in run.err
    run = serve_fails(
        *("--listen", "127.0.0.1:0", "-k", f"{keys}/p256.pem"),
        *("--tls-cert", f"{pki}/server.key", "--tls-key", f"{pki}/server.key"),
    )
    assert "server.key holds no PEM of the kind" in run.err
