"""A key broker as its operator runs it: ``boltseal broker`` in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = str(Path(sys.executable).with_name("boltseal"))
START_SECONDS = 30


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Answer:
    """What came over HTTP."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a refusal."""
        return str(self.json["error"]["code"])


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Broker:
    """``folder`` is made by ``boltseal broker init`` unless it is there; then ``start`` it.

    ``arguments`` are further ones of ``init``; ``settings`` is text that is added to config.toml.
    """

    def __init__(
        self, folder: Path, *arguments: str, settings: str = "", port: int | None = None
    ) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.log = folder.parent / f"{folder.name}.log"
        self.admin_token = ""
        if not (folder / "config.toml").exists():
            port = port or free_port()
            made = self.run("init", str(folder), "--listen", f"127.0.0.1:{port}", *arguments,
                            "--json", config=False).json  # fmt: skip
            self.admin_token = made["token"]
            self.url = made["address"]
            if settings:
                with (folder / "config.toml").open("a") as file:
                    file.write(f"\n{settings}\n")
        self.ca = folder / "tls" / "ca.pem"

    def replica(self, settings: str = "") -> Broker:
        """Another process on the same database and root key, at another port."""
        other = object.__new__(Broker)
        other.__dict__.update(self.__dict__)
        other.process = None
        port = free_port()
        other.folder = self.folder.parent / f"{self.folder.name}-{port}"
        other.folder.mkdir()
        text = (self.folder / "config.toml").read_text()
        old = self.url.rpartition(":")[2]
        text = text.replace(f":{old}", f":{port}").replace('"tls/', f'"{self.folder}/tls/')
        text = text.replace('"file:root.key', f'"file:{self.folder}/root.key')
        text = text.replace("sqlite:///broker.db", f"sqlite:///{self.folder}/broker.db")
        text = text.replace('"database.url', f'"{self.folder}/database.url')
        (other.folder / "config.toml").write_text(f"{text}\n{settings}\n")
        other.url = f"{self.url.rpartition(':')[0]}:{port}"
        other.log = other.folder.parent / f"{other.folder.name}.log"
        return other

    def run(self, *words: str, code: int = 0, config: bool = True, apart: bool = False) -> Done:
        """``boltseal broker WORDS``; it has to end with ``code``.

        In this process, which is quicker, unless it is to be ``apart``.
        """
        named = ("--config", str(self.folder)) if config else ()
        done = (cli.spawn if apart else cli.boltseal)("broker", *words, *named)
        assert done.code == code, f"{words}: {done.code}\n{done.out}{done.err}"
        return Done(done.code, done.out, done.err)

    def start(self, environment: dict[str, str] | None = None) -> Broker:
        """Have it answer; returns when it is ready."""
        assert self.process is None
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "broker", "serve", "--config", str(self.folder)],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said.startswith("listening on "):
            self.process.wait(timeout=START_SECONDS)
            raise AssertionError(f"the broker did not start:\n{self.log.read_text()}")
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Have it end well; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with process:
            return process.wait(timeout=60)

    def kill(self) -> None:
        """As the kernel does when memory is out."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Broker:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def context(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """TLS of a client that trusts this broker, perhaps with a certificate of its own."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """One request; ``token`` is the first administrator's unless another or '' is given."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        bearer = self.admin_token if token is None else token
        if bearer:
            request.add_header("Authorization", f"Bearer {bearer}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in headers:
            request.add_header(name, value)
        context = (tls or self.context()) if self.url.startswith("https") else None
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as found:
                return Answer(found.status, found.read(), dict(found.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), dict(error.headers))

    def logged(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of its log, each of which is JSON."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [one for one in lines if event is None or one["event"] == event]

    def wait_for_log(self, event: str, seconds: float = 20) -> dict[str, Any]:
        """The first line of such an event, once it is there."""
        until = time.monotonic() + seconds
        while not (found := self.logged(event)):
            assert time.monotonic() < until, f"no {event} was logged"
            time.sleep(0.02)
        return found[0]
