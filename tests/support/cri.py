"""The Kubernetes Container Runtime Interface (v1), as far as one pod with one container needs it.

The messages are written by hand, by their numbers in api.proto: the package that has them is tied
to an older protobuf than ours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from support.ctd import field as bytes_field
from support.ctd import varint

if TYPE_CHECKING:
    from pathlib import Path

_NODE = 2  # NamespaceMode
_EXITED = 2  # ContainerState
_SECONDS = 60

Message = dict[int, Any]


class CriError(Exception):
    """What the runtime answered instead."""


def write(message: Message) -> bytes:
    """Numbers, texts, messages and lists of them."""
    parts = []
    for number, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                parts.append(varint(number << 3) + varint(one))
            else:
                raw = one.encode() if isinstance(one, str) else write(one)
                parts.append(bytes_field(number, raw))
    return b"".join(parts)


def read(raw: bytes) -> Message:
    """The last value of each field; those of bytes as they are."""
    found: Message = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        tag = number()
        if tag & 7 == 0:
            found[tag >> 3] = number()
        else:
            assert tag & 7 == 2, tag
            length = number()
            found[tag >> 3] = raw[at : at + length]
            at += length
    return found


@dataclass
class Cri:
    """A client of one runtime's socket."""

    socket: Path
    logs: Path
    cgroup: str
    _pods: list[str] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")

    def close(self) -> None:
        self._channel.close()

    def call(self, service: str, method: str, message: Message) -> Message:
        """One request. Raises CriError with what the runtime says."""
        ask = self._channel.unary_unary(f"/runtime.v1.{service}/{method}")
        try:
            return read(ask(write(message), timeout=_SECONDS, wait_for_ready=True))
        except grpc.RpcError as error:
            raise CriError(error.details()) from None

    def version(self) -> str:
        found: bytes = self.call("RuntimeService", "Version", {})[3]
        return found.decode()

    def pull(self, image: str) -> str:
        """The reference of the image that is there now."""
        found: bytes = self.call("ImageService", "PullImage", {1: {1: image}})[1]
        return found.decode()

    def remove_image(self, image: str) -> None:
        self.call("ImageService", "RemoveImage", {1: {1: image}})

    def sandbox(self) -> tuple[str, Message]:
        """A pod in the host's namespaces, and its configuration."""
        self._count += 1
        config: Message = {
            1: {1: f"pod{self._count}", 2: f"uid{self._count}", 3: "default"},
            3: str(self.logs),
            8: {1: f"/{self.cgroup}", 2: {1: {1: _NODE, 2: _NODE, 3: _NODE}}},
        }
        pod: bytes = self.call("RuntimeService", "RunPodSandbox", {1: config})[1]
        self._pods.append(pod.decode())
        return pod.decode(), config

    def run(self, image: str, command: list[str]) -> str:
        """What a container of this image prints; it has to end with 0."""
        pod, config = self.sandbox()
        log = f"log{self._count}"
        about: Message = {
            1: {1: "main"},
            2: {1: image},
            3: command,
            11: log,
            15: {2: {3: {1: _NODE, 2: _NODE, 3: _NODE}}},
        }
        created = self.call("RuntimeService", "CreateContainer", {1: pod, 2: about, 3: config})
        container = created[1].decode()
        self.call("RuntimeService", "StartContainer", {1: container})
        code = self._wait(container)
        lines = (self.logs / log).read_text().splitlines()
        printed = "\n".join(line.split(" ", 3)[3] for line in lines)
        assert code == 0, printed
        self.remove(pod)
        return printed

    def _wait(self, container: str) -> int:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            answer = self.call("RuntimeService", "ContainerStatus", {1: container})
            status = read(answer[1])
            if status.get(3, 0) == _EXITED:
                code: int = status.get(7, 0)
                return code
            time.sleep(0.02)
        raise CriError("the container does not end")

    def remove(self, pod: str) -> None:
        self.call("RuntimeService", "StopPodSandbox", {1: pod})
        self.call("RuntimeService", "RemovePodSandbox", {1: pod})
        self._pods.remove(pod)

    def remove_all(self) -> None:
        for pod in list(self._pods):
            self.remove(pod)
