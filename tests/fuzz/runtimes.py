"""What runtimes send to us: readers, and where they begin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fuzz import seeds
from support import ctd

if TYPE_CHECKING:
    from fuzz.readers import Read

WORDS = (
    ctd.TYPE.encode(), b"DecryptConfig", b"Parameters", b"Descriptor", b"mediaType", b"annotations",
    b"privkeys", b"privkeys-passwords", b"x509s", b"gpg-privatekeys", b"pkcs11-yamls", b"null",
    b"application/vnd.oci.image.layer.v1.tar+gzip+encrypted", b"sha256:", b"\x0a", b"\x12",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x1a\x00", b"\x18\x01",
)  # fmt: skip


def payload() -> Read:
    """What comes on the stream processor's descriptor 3; keys in it are kept as they are."""
    from boltseal.runtime.decoder import payload as payloads

    def read(data: bytes) -> None:
        found = payloads.parse(data)
        assert found.layer.size >= 0
        assert all(isinstance(one, bytes) for given in found.parameters.values() for one in given)
        assert "BEGIN" not in repr(found)

    return read


def _descriptor() -> dict[str, object]:
    return {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "digest": "sha256:" + "0" * 64,
        "size": 7,
        "annotations": seeds.layers()[0],
    }


def payloads() -> list[bytes]:
    """As containerd's CRI plugin sends it, as imgcrypt's client does, and with more fields."""
    keys = [seeds.key_file("rsa2048.pem")]
    return [
        ctd.payload(_descriptor()),
        ctd.payload(_descriptor(), {"privkeys": keys, "privkeys-passwords": [b""]}),
        ctd.payload(_descriptor(), {"acme": [b"Enabled"], "x509s": []}),
        b"\x18\x07" + ctd.payload({"size": 1}) + ctd.field(9, b"more"),
    ]


def large() -> list[bytes]:
    """At the limits: many parameters, much of one, deep JSON, a number of great length."""
    many = {f"name{number}": [b""] for number in range(499)}
    deep = b'{"Descriptor":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    digits = json.dumps({"Descriptor": {"size": 0}}).replace("0", "9" * 100_000)
    return [
        ctd.payload(_descriptor(), many),
        ctd.payload(_descriptor(), {"privkeys": [bytes(250 * 1024)] * 11}),
        ctd.any_message(deep),
        ctd.any_message(digits.encode()),
        b"\x18\x01" * 2_000_000,
        b"\x1a\x00" * 2_000_000,
    ]
