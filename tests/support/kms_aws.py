"""AWS KMS as moto's server has it, in a process of its own, behind a proxy that can fail."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from support.kms_http import Handler, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Front(Server):
    """Hands everything to moto, but for its faults."""

    def __init__(self, moto_port: int) -> None:
        super().__init__(_Forward)
        self.moto_port = moto_port

    def fail(self, times: int, code: str, status: int = 400) -> None:
        """Answer as AWS does: JSON with ``__type``."""
        from support.kms_http import Fault

        body = {"__type": code, "message": "see request id 0c5d-secret"}
        self.faults.append(Fault(times, status, body))


class _Forward(Handler):
    server: Front

    def answer(self) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.moto_port, timeout=30)
        with contextlib.closing(connection):
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("connection", "expect")
            }
            connection.request(self.command, self.path, self.raw, headers)
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "")
            return answer.status, answer.read(), {"Content-Type": kind}


@contextlib.contextmanager
def moto() -> Iterator[Front]:
    """moto's server and the proxy before it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        with running(Front(port)) as front:
            yield front
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("moto's server did not start")


def client(front: Front, name: str = "kms") -> Any:
    """An administrator's client, past the proxy and its faults."""
    import boto3

    return boto3.session.Session().client(
        name,
        endpoint_url=f"http://127.0.0.1:{front.moto_port}",
        region_name=ENVIRONMENT["AWS_REGION"],
        aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
    )


def make_key(front: Front, alias: str) -> str:
    """A new key under an alias; its ARN."""
    admin = client(front)
    arn = str(admin.create_key()["KeyMetadata"]["Arn"])
    admin.create_alias(AliasName=f"alias/{alias}", TargetKeyId=arn)
    return arn
