"""Where ``boltseal keyprovider serve`` listens: sockets, ports and certificates."""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyServiceError
from support.cli import Run, boltseal
from support.provider_clients import options, unwrapped, wrapped
from support.provider_messages import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.keyprovider.conftest import Service

    Serve = Callable[..., Service]


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
