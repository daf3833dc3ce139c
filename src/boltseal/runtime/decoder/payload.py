"""What the payload of a stream processor says: the layer's descriptor, and keys from the client.

JSON, ``{"DecryptConfig":{"Parameters":{"privkeys":["<base64>"]}},"Descriptor":{…}}``, as Go writes
imgcrypt's type; an empty list may be ``null`` there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal._io import b64, strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.runtime.decoder import anymessage
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024  # a manifest's worth of annotations, and keys beside them
MAX_PARAMETERS = 1_000  # keys, passphrases and providers' parameters of one payload
TYPE = "io.containerd.ocicrypt.v1.Payload"
_WHAT = "the payload"
_MEMBERS = ("DecryptConfig", "Descriptor")


@dataclass(frozen=True, slots=True)
class Payload:
    """One layer, and what the client gave to open it with, by the names that ocicrypt uses."""

    layer: Descriptor
    parameters: Mapping[str, tuple[bytes, ...]] = field(repr=False)


def parse(raw: bytes) -> Payload:
    """Read what came on descriptor 3. Raises MalformedError or LimitExceededError."""
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise LimitExceededError(f"{_WHAT} is over the limit of {MAX_PAYLOAD_BYTES} bytes")
    url, value = anymessage.read(raw)
    # an Any may be named with the place of its definition in front
    if url.rpartition("/")[2] != TYPE:
        raise MalformedError(f"{_WHAT} is of type {url[:120]!r} instead of {TYPE}")
    document = strictjson.load_object(value, _WHAT, max_bytes=MAX_PAYLOAD_BYTES)
    strictjson.refuse_variants(document, _MEMBERS, _WHAT)
    return Payload(
        Descriptor.from_json(document.get("Descriptor"), "the payload's Descriptor"),
        _parameters(document.get("DecryptConfig")),
    )


def _parameters(config: Any) -> dict[str, tuple[bytes, ...]]:
    inside = _object(config, "the payload's DecryptConfig")
    strictjson.refuse_variants(inside, ("Parameters",), "the payload's DecryptConfig")
    given = _object(inside.get("Parameters"), "the payload's Parameters")
    found: dict[str, tuple[bytes, ...]] = {}
    count = 0
    for name, values in given.items():
        what = f"the payload's {name[:60]!r}"
        if not isinstance(values, list | None):
            raise MalformedError(f"{what} is not a list")
        count += 1 + len(values or ())
        if count > MAX_PARAMETERS:
            raise LimitExceededError(f"{_WHAT} has over {MAX_PARAMETERS} keys and parameters")
        found[name] = tuple(_bytes(value, what) for value in values or ())
    return found


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not an object")
    return value


def _bytes(value: Any, what: str) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise MalformedError(f"{what} has something else than base64 text")
    data = b64.decode(value, f"something in {what}")
    if len(data) > MAX_KEY_FILE_BYTES:
        raise LimitExceededError(f"{what} has a key over the limit of {MAX_KEY_FILE_BYTES} bytes")
    return data
