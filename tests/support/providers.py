"""Key providers that are small but real: a program and a gRPC service, good ones and bad ones.

Run as a program, this file is a key provider: ``providers.py BEHAVIOUR [ARGUMENT]`` reads one
request from standard input. ``aes KEYFILE`` wraps with AES-256-GCM under the 32 bytes of a file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SECRET_LOOKING = "symkey=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"  # not one of anybody's


class RefusedError(Exception):
    """The packet is not for this key."""


def aes_answer(request: Mapping[str, Any], key: bytes, *, numbers: bool = False) -> dict[str, Any]:
    """Wrap or unwrap under a key; the parameters are bound to what is wrapped."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    def shaped(data: bytes) -> Any:
        return list(data) if numbers else base64.b64encode(data).decode()

    if request["op"] == "keywrap":
        nonce = os.urandom(12)
        secret = base64.b64decode(request["keywrapparams"]["optsdata"])
        sealed = nonce + AESGCM(key).encrypt(nonce, secret, b"")
        return {"keywrapresults": {"annotation": shaped(sealed)}}
    sealed = base64.b64decode(request["keyunwrapparams"]["annotation"])
    try:
        secret = AESGCM(key).decrypt(sealed[:12], sealed[12:], b"")
    except (InvalidTag, ValueError):
        raise RefusedError from None
    return {"keyunwrapresults": {"optsdata": shaped(secret)}}


def configuration(path: Path, **ways: Any) -> Path:
    """Write a provider configuration: name to ``[behaviour, argument …]`` or to attributes."""
    table = {
        name.replace("_", "-"): {"cmd": {"path": sys.executable, "args": [__file__, *way]}}
        if isinstance(way, list)
        else way
        for name, way in ways.items()
    }
    path.write_text(json.dumps({"key-providers": table}))
    return path


@contextlib.contextmanager
def grpc_provider(
    behave: Callable[[str, dict[str, Any]], Any],
    *,
    address: str = "127.0.0.1:0",
    credentials: Any = None,
) -> Iterator[int]:
    """A service that answers with what ``behave(method, request)`` returns; yields its port.

    Bytes are sent as the message itself, anything else as JSON in a well-formed message;
    RefusedError becomes PERMISSION_DENIED.
    """
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from google.protobuf.wrappers_pb2 import BytesValue

    def method(name: str) -> Any:
        def handle(message: bytes, context: Any) -> bytes:
            try:
                answer = behave(name, json.loads(BytesValue.FromString(message).value))
            except RefusedError as error:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error) or "not my key")
            if isinstance(answer, bytes):
                return answer
            found: bytes = BytesValue(value=json.dumps(answer).encode()).SerializeToString()
            return found

        return grpc.unary_unary_rpc_method_handler(handle)

    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        handlers = {name: method(name) for name in ("WrapKey", "UnWrapKey")}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("keyprovider.KeyProviderService", handlers),)
        )
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


def _hang(*arguments: str) -> None:
    time.sleep(600)


def _hang_with_child(mark: str) -> None:
    """A child that keeps the pipes, and whose number is in a file."""
    child = os.fork()
    if child:
        with open(mark, "w", encoding="ascii") as file:
            file.write(str(child))
    time.sleep(600)


def _leave_child(keyfile: str, mark: str) -> None:
    """Answer, and leave a child behind that keeps the pipes open, as badly written agents do."""
    child = os.fork()
    if not child:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    with open(mark, "w", encoding="ascii") as file:
        file.write(str(child))
    _aes(keyfile)
    sys.stdout.flush()
    os._exit(0)


def _flood(stream: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        while True:
            os.write(1 if stream == "stdout" else 2, b"x" * 65536)


def _fail(*arguments: str) -> None:
    sys.stderr.write(f"\n\x1b[31mno such key: {SECRET_LOOKING}\n{'second line' * 99}\n")
    raise SystemExit(7)


def _say(text: str) -> None:
    sys.stdout.write(text)


def _aes(keyfile: str, *arguments: str) -> None:
    raw = sys.stdin.buffer.read()
    if len(arguments) > 1:
        with open(arguments[1], "ab") as log:
            log.write(raw + b"\n")
    with open(keyfile, "rb") as file:
        key = file.read()
    try:
        json.dump(aes_answer(json.loads(raw), key, numbers="numbers" in arguments), sys.stdout)
    except RefusedError:
        sys.stderr.write("this is wrapped by another key\n")
        raise SystemExit(3) from None


def _deaf(keyfile: str) -> None:
    """Close standard input before everything was read."""
    os.close(0)
    sys.stdout.write('{"keywrapresults": {"annotation": "b2s="}}')


def _environment(path: str) -> None:
    sys.stdin.read()
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"environ": dict(os.environ), "descriptors": os.listdir("/proc/self/fd")}, file)
    sys.stdout.write('{"keywrapresults": {"annotation": "b2s="}}')


_BEHAVIOURS: dict[str, Callable[..., None]] = {
    "aes": _aes,
    "hang": _hang,
    "hang-with-child": _hang_with_child,
    "leave-child": _leave_child,
    "flood": _flood,
    "fail": _fail,
    "say": _say,
    "deaf": _deaf,
    "environment": _environment,
}

if __name__ == "__main__":
    _BEHAVIOURS[sys.argv[1]](*sys.argv[2:])
