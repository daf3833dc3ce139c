"""Callers of a running key provider: as Boltseal calls it, and as no client of ours would."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.keywrap.keyring import wrap
from support.provider_messages import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
