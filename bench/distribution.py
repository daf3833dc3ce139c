"""Docker Distribution on loopback, with its storage in a folder."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bench.case import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

LOOSE = ("--src-tls-verify=false", "--dest-tls-verify=false")


class Registry:
    """One registry; ``tls`` gives it a certificate that nobody trusts."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self._folder, self._tls = folder, tls
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{one.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            raise LeftOut("docker-registry is not installed")
        self._folder.mkdir(exist_ok=True)
        http: dict[str, Any] = {"addr": self.host}
        if self._tls:
            http["tls"] = _certificate(self._folder)
        config = self._folder / "config.json"
        storage = {"filesystem": {"rootdirectory": str(self._folder / "data")}}
        text = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": http}
        config.write_text(json.dumps(text))
        self._process = subprocess.Popen(
            [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        url = f"{'https' if self._tls else 'http'}://{self.host}/v2/"
        for _ in range(500):
            with suppress(OSError):
                urllib.request.urlopen(url, timeout=5, context=anyone).close()
                return
            time.sleep(0.02)
        raise LeftOut("docker-registry does not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Stop, and forget everything that was pushed."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def empty(self) -> None:
        """The registry remembers blobs in memory, too: a new one has none."""
        self.remove()
        self.start()


def _certificate(folder: Path) -> dict[str, str]:
    paths = {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run(
        [*command, "-keyout", paths["key"], "-out", paths["certificate"]],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return paths
