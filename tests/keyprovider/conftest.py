"""Fixtures for key providers: keys, certificates, running services, and the peers' libraries."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cli import command
from support.gopeer import build
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def gopeer() -> str:
    """The program in ``gopeer/``."""
    return build()


class Service:
    """``boltseal keyprovider serve``, running."""

    def __init__(self, process: subprocess.Popen[str], log: Path, address: str) -> None:
        self.process = process
        self.address = address
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, and wait until it has."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services; they are stopped at the end."""
    started: list[Service] = []

    def start(*arguments: object) -> Service:
        log = tmp_path / f"service{len(started)}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                command("keyprovider", "serve", *arguments),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        service = Service(process, log, "")
        started.append(service)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        service.address = line.removeprefix("listening on ").strip()
        return service

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a short name for sockets."""
    folder = Path("/tmp", f"bs-{os.urandom(4).hex()}")
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables of this process, for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a server (``keys.example``, 127.0.0.1), a client and a stranger."""
    openssl = require("openssl")
    folder = tmp_path_factory.mktemp("pki")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    def root(name: str) -> None:
        run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *(
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.crt",
                "-subj",
                f"/CN={name}",
                "-days",
                "2",
            ),
        )

    def leaf(name: str, issuer: str, names: str) -> None:
        run(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.crt", "-CAkey"),
            *(f"{issuer}.key", "-CAcreateserial", "-days", "2", "-out", f"{name}.crt"),
            *("-extfile", f"{name}.ext"),
        )

    root("root")
    root("other-root")
    leaf("server", "root", "DNS:keys.example,IP:127.0.0.1")
    leaf("client", "root", "DNS:client.example")
    leaf("stranger", "other-root", "DNS:client.example")
    return folder
