"""The commands of the page about identities make certificates that are taken, over real TLS too."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.identity.trusts import authorities
from boltseal.broker.model import Presented
from support.broker_identity import FixedSnapshot, authority, trust
from support.kms_tls import certificates

if TYPE_CHECKING:
    from boltseal.broker.model import Principal
    from support.certificates import Issued

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "broker-identities.md"

pytestmark = pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("bash")), reason="needs openssl and bash"
)


def commands() -> str:
    """The example that begins with openssl."""
    blocks = PAGE.read_text().split("```sh\n")[1:]
    return next(one for one in blocks if one.startswith("openssl")).partition("```")[0]


def test_a_host_made_with_openssl(tmp_path: Path) -> None:
    """The authority here is an intermediate one: TLS lets its clients in, as partial chains."""
    root = authority("root", 50)
    one = over_tls(tmp_path, authority("middle", 51, by=root))
    assert one.id == "x509:eu:node-7"
    assert one.labels == {"env": "prod"}


def over_tls(folder: Path, middle: Issued) -> Principal:
    (folder / "eu-ca.pem").write_bytes(middle.pem())
    (folder / "eu-ca.key").write_bytes(middle.key_pem())
    done = subprocess.run(
        ["bash", "-c", commands()], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    trusts = [trust("eu", "x509", ca=middle.pem().decode(), labels={"env": "prod"})]
    ca, certificate, key = certificates(folder, "localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_verify_locations(cadata=authorities(trusts))
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client = ssl.create_default_context(cafile=str(ca))
    client.load_cert_chain(folder / "node-7.crt.pem", folder / "node-7.pem")
    chains: list[tuple[bytes, ...]] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            raw, _ = listening.accept()
            with server.wrap_socket(raw, server_side=True) as one:
                leaf = one.getpeercert(binary_form=True)
                assert leaf is not None
                chains.append((leaf,))
                one.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listening.getsockname()) as raw:
            with client.wrap_socket(raw, server_hostname="localhost") as one:
                one.send(b"x")
        thread.join()
    now = int(time.time())  # openssl has begun the certificate after NOW
    return authenticate(FixedSnapshot(trusts), Presented(chain=chains[0]), now, Known())
