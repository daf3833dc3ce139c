"""gRPC services as key providers, with and without TLS, good ones and bad ones."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import BoltsealError, KeyFileError, KeyServiceError, MissingExtraError
from boltseal.keywrap.keyprovider.protocol import MAX_MESSAGE_BYTES
from boltseal.keywrap.keyring import wrap
from support.cli import spawn
from support.images import simple_image
from support.providers import SECRET_LOOKING, RefusedError, aes_answer, grpc_provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = b'{"symkey":"bm90IGEgc2VjcmV0"}'
KEY = bytes(range(32))


def aes(method: str, request: dict[str, Any]) -> dict[str, Any]:
    assert method == {"keywrap": "WrapKey", "keyunwrap": "UnWrapKey"}[request["op"]]
    return aes_answer(request, KEY, numbers=True)


def options(tmp_path: Path, address: str, tls: Any = None, **more: Any) -> KeyOptions:
    way = {"grpc": address} | ({} if tls is None else {"grpc-tls": tls})
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"key-providers": {"acme": way}}))
    return KeyOptions(provider_files=(str(path),), **more)


def round_trip(given: KeyOptions) -> None:
    (packet,) = wrap([parse_recipient("provider:acme", given)], SECRET)["provider.acme"]
    assert packet != SECRET
    assert parse_identity("provider:acme", given).unwrap("provider.acme", packet) == SECRET


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_this_machine(tmp_path: Path, host: str) -> None:
    with grpc_provider(aes, address=f"{host}:0") as port:
        round_trip(options(tmp_path, f"{host}:{port}"))


def test_on_a_socket(tmp_path: Path, sockets: Path) -> None:
    with grpc_provider(aes, address=f"unix:{sockets}/s"):
        round_trip(options(tmp_path, f"unix:{sockets}/s"))
        round_trip(options(tmp_path, f"unix://{sockets}/s"))


@pytest.mark.parametrize("whose", ["socket", "folder", "link"])
def test_a_socket_of_somebody_else_is_not_used(
    tmp_path: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """Whoever listens where a provider is expected would get every layer key."""
    asked: list[str] = []
    if whose == "link":
        (sockets / "ours").mkdir(mode=0o700)
        (sockets / "ours/s").symlink_to(sockets / "s")
    with grpc_provider(lambda method, _: asked.append(method), address=f"unix:{sockets}/s"):
        if os.geteuid() == 0:
            os.chown(sockets / "s" if whose == "socket" else sockets, 65534, 65534)
        else:  # who cannot give anything away becomes somebody else
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        given = options(
            tmp_path, f"unix:{sockets}/ours/s" if whose == "link" else f"unix:{sockets}/s"
        )
        with pytest.raises(KeyServiceError, match=r"is of another user|others can write"):
            round_trip(given)
    assert asked == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_socket_in_a_folder_of_everybody_is_not_used(
    tmp_path: Path, sockets: Path, mode: int
) -> None:
    with grpc_provider(aes, address=f"unix:{sockets}/s"):
        round_trip(options(tmp_path, f"unix:{sockets}/s"))
        sockets.chmod(mode)
        with pytest.raises(KeyServiceError, match="others can write to the folder"):
            round_trip(options(tmp_path, f"unix:{sockets}/s"))


def test_nobody_has_the_socket(tmp_path: Path, sockets: Path) -> None:
    with pytest.raises(KeyServiceError, match="cannot be reached: no such file"):
        round_trip(options(tmp_path, f"unix:{sockets}/s"))
    with pytest.raises(KeyServiceError, match="cannot be reached: no such file"):
        round_trip(options(tmp_path, f"unix:{sockets}/absent/s"))
    (sockets / "s").write_text("")
    with pytest.raises(KeyServiceError, match="is no socket"):
        round_trip(options(tmp_path, f"unix:{sockets}/s"))
    (sockets / "s").unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{sockets}/s")
    with pytest.raises(KeyServiceError, match="cannot be reached"):
        round_trip(options(tmp_path, f"unix:{sockets}/s"))


def test_a_proxy_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with grpc_provider(aes) as port:
        round_trip(options(tmp_path, f"127.0.0.1:{port}"))


def refuse(method: str, request: dict[str, Any]) -> Any:
    raise RefusedError(f"not for \x1b[31myou: {SECRET_LOOKING}\nmore")


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (lambda *_: b"\xff\xff", "answered with something that is no message"),
        (lambda *_: b"", "the answer is not valid JSON"),
        (lambda *_: [1], "the answer is not a JSON object"),
        (lambda *_: {"keyunwrapresults": {"optsdata": "YQ=="}}, "has no keywrapresults"),
        (lambda *_: {"x": "x" * (MAX_MESSAGE_BYTES + 99)}, "its answer is too long"),
        (lambda *_: 1 // 0, r"failed to wrap the key \(UNKNOWN\)"),
        (refuse, r"refused: not for \?\[31myou: symkey=…$|refused: not for \?\[31myou: …$"),
    ],
)
def test_what_services_do_wrong(tmp_path: Path, behave: Any, message: str) -> None:
    with grpc_provider(behave) as port:
        given = options(tmp_path, f"127.0.0.1:{port}")
        with pytest.raises(KeyServiceError, match=message) as caught:
            round_trip(given)
    assert str(caught.value).startswith("key provider acme")
    assert SECRET_LOOKING not in str(caught.value)


def test_one_that_is_no_key_provider(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(KeyServiceError, match="answers, but is no key provider"):
            round_trip(options(tmp_path, f"127.0.0.1:{port}"))
        server.stop(0).wait()


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(KeyServiceError, match=f"acme at 127.0.0.1:{port} cannot be reached: "):
        round_trip(options(tmp_path, f"127.0.0.1:{port}"))


def test_no_answer_in_time(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(*_: Any) -> dict[str, Any]:
        release.wait(60)
        return {}

    with grpc_provider(hang) as port:
        given = options(tmp_path, f"127.0.0.1:{port}", provider_timeout=0.4)
        with pytest.raises(KeyServiceError, match=r"did not answer within 0\.4 seconds"):
            round_trip(given)
        release.set()


def test_a_port_that_accepts_and_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        given = options(tmp_path, f"127.0.0.1:{port}", provider_timeout=0.4)
        with pytest.raises(KeyServiceError, match="did not answer"):
            round_trip(given)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path, "127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtraError, match=r"a gRPC key provider .*boltseal\[grpc\]"):
        round_trip(given)


# TLS


@contextmanager
def tls_provider(pki: Path, name: str = "server", *, client: bool = False) -> Iterator[int]:
    credentials = grpc.ssl_server_credentials(
        [((pki / f"{name}.key").read_bytes(), (pki / f"{name}.crt").read_bytes())],
        root_certificates=(pki / "root.crt").read_bytes() if client else None,
        require_client_auth=client,
    )
    with grpc_provider(aes, credentials=credentials) as port:
        yield port


def files(pki: Path, root: str | None = "root", client: str | None = None, **more: Any) -> Any:
    found = dict(more)
    if root:
        found["root-ca-file"] = f"{pki}/{root}.crt"
    if client:
        found |= {"cert-file": f"{pki}/{client}.crt", "key-file": f"{pki}/{client}.key"}
    return {name.replace("_", "-"): value for name, value in found.items()}


def test_tls(tmp_path: Path, pki: Path) -> None:
    with tls_provider(pki) as port:
        round_trip(options(tmp_path, f"127.0.0.1:{port}", files(pki)))
        named = files(pki, server_name="keys.example")
        round_trip(options(tmp_path, f"localhost:{port}", named))


def test_mutual_tls(tmp_path: Path, pki: Path) -> None:
    with tls_provider(pki, client=True) as port:
        round_trip(options(tmp_path, f"127.0.0.1:{port}", files(pki, client="client")))
        for client in (None, "stranger"):
            with pytest.raises(KeyServiceError, match="cannot be reached"):
                round_trip(options(tmp_path, f"127.0.0.1:{port}", files(pki, client=client)))


@pytest.mark.parametrize(
    ("host", "tls"),
    [
        ("127.0.0.1", {"root": "other-root"}),
        ("127.0.0.1", {"root": None}),  # what this machine trusts
        ("localhost", {}),  # not a name in the certificate
        ("127.0.0.1", {"server_name": "other.example"}),
    ],
)
def test_servers_that_are_not_believed(tmp_path: Path, pki: Path, host: str, tls: Any) -> None:
    with tls_provider(pki) as port:
        with pytest.raises(
            KeyServiceError, match=r"certificate that is not trusted|Hostname Verification"
        ):
            round_trip(options(tmp_path, f"{host}:{port}", files(pki, **tls)))


@pytest.mark.parametrize("client", [False, True])
def test_insecure_skip_verify(tmp_path: Path, pki: Path, *, client: bool) -> None:
    """Whoever answers is believed, and still gets no more than TLS allows."""
    with tls_provider(pki, client=client) as port:
        tls = files(pki, "other-root", "client" if client else None, insecure_skip_verify=True)
        round_trip(options(tmp_path, f"localhost:{port}", tls))
        round_trip(options(tmp_path, f"127.0.0.1:{port}", tls))
    with pytest.raises(KeyServiceError, match="cannot be reached: "):
        round_trip(options(tmp_path, f"localhost:{port}", tls))


def test_a_plain_server_where_tls_is_wanted(tmp_path: Path, pki: Path) -> None:
    with grpc_provider(aes) as port:
        for skip in (False, True):
            tls = files(pki, insecure_skip_verify=skip)
            with pytest.raises(KeyServiceError, match="cannot be reached"):
                round_trip(options(tmp_path, f"127.0.0.1:{port}", tls))


def test_certificates_that_cannot_be_read(tmp_path: Path, pki: Path) -> None:
    with pytest.raises(BoltsealError, match=r"root certificates .*absent\.crt does not exist"):
        round_trip(options(tmp_path, "127.0.0.1:1", files(pki, "absent")))
    (tmp_path / "x.crt").write_bytes(b"\x30\x00")
    with pytest.raises(KeyFileError, match=r"x\.crt is not in PEM"):
        round_trip(options(tmp_path, "127.0.0.1:1", files(tmp_path, "x")))


def test_the_command_line_says_one_thing_and_nothing_else(tmp_path: Path, pki: Path) -> None:
    """gRPC's own words do not get onto standard error."""
    image = simple_image(tmp_path / "app")
    with tls_provider(pki) as port:
        options(tmp_path, f"127.0.0.1:{port}", files(pki, "other-root"))
        given = ("--keyprovider-config", tmp_path / "c.json")
        run = spawn(
            "encrypt", image.reference(), f"oci:{tmp_path}/out:v1", "-r", "provider:acme", *given
        )
    assert run.code == 1
    assert run.out == ""
    lines = run.err.splitlines()
    assert len(lines) == 2, run.err
    assert "shows a certificate that is not trusted: unable to get local issuer" in lines[0]
    assert lines[1].startswith("hint: ")
    assert not os.path.exists(tmp_path / "out")
