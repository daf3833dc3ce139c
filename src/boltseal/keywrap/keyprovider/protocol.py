"""The key provider protocol: one JSON document asks, another one answers.

Both are those of ocicrypt. Bytes in them are base64 text, as Go writes them, or arrays of numbers,
as Rust does. A question also carries the other operation's member, with nulls in it: Go sends that,
and providers written in Rust insist on it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from boltseal._io import b64, strictjson
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    Shape = Literal["text", "numbers"]

WRAP, UNWRAP = "keywrap", "keyunwrap"
ENABLED = "Enabled"  # the parameter when none is given
MAX_MESSAGE_BYTES = 2 * 1024 * 1024  # one document, of either kind
MAX_PACKET_BYTES = 384 * 1024  # a wrapped key: an annotation has 512 KiB of base64
MAX_SECRET_BYTES = 64 * 1024  # what is wrapped: a layer's private options
MAX_PARAMETERS = 256  # of one provider in one question
MAX_PARAMETER_BYTES = 4096

_RESULTS = {WRAP: ("keywrapresults", "annotation"), UNWRAP: ("keyunwrapresults", "optsdata")}


def wrap_question(provider: str, parameters: Sequence[str], secret: bytes) -> bytes:
    """Asks ``provider`` to wrap a secret. It is told its own parameters and nobody else's."""
    return _dump(
        {
            "op": WRAP,
            "keywrapparams": {
                "ec": {
                    "Parameters": _parameters(provider, parameters),
                    "DecryptConfig": {"Parameters": {}},
                },
                "optsdata": b64.encode(secret),
            },
            "keyunwrapparams": {"dc": None, "annotation": None},
        }
    )


def unwrap_question(provider: str, parameters: Sequence[str], packet: bytes) -> bytes:
    """Asks ``provider`` for the secret in a packet."""
    return _dump(
        {
            "op": UNWRAP,
            "keywrapparams": {"ec": None, "optsdata": None},
            "keyunwrapparams": {
                "dc": {"Parameters": _parameters(provider, parameters)},
                "annotation": b64.encode(packet),
            },
        }
    )


def read_answer(raw: bytes, operation: str) -> bytes:
    """The packet or the secret in an answer. Raises MalformedError or LimitExceededError."""
    member, inner = _RESULTS[operation]
    document = load(raw, [one for one, _ in _RESULTS.values()], "the answer")
    results = document.get(member)
    if results is None:
        raise MalformedError(f"the answer has no {member}")
    found = part(results, [inner], f"the answer's {member}").get(inner)
    most = MAX_PACKET_BYTES if operation == WRAP else MAX_SECRET_BYTES
    data = as_bytes(found, f"the answer's {inner}", max_bytes=most)
    if not data:
        raise MalformedError(f"the answer's {inner} is empty")
    return data


def write_answer(operation: str, data: bytes, shape: Shape) -> bytes:
    """An answer, with its bytes in one of the two shapes."""
    member, inner = _RESULTS[operation]
    return _dump({member: {inner: b64.encode(data) if shape == "text" else list(data)}})


def load(raw: bytes, members: Collection[str], what: str) -> dict[str, Any]:
    """A document; members that Go would take for one of ``members`` are refused."""
    document = strictjson.load_object(raw, what, max_bytes=MAX_MESSAGE_BYTES)
    strictjson.refuse_variants(document, members, what)
    return document


def part(value: Any, members: Collection[str], what: str) -> dict[str, Any]:
    """An object inside of a document, read as strictly."""
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not an object")
    strictjson.refuse_variants(value, members, what)
    return value


def as_bytes(value: Any, what: str, *, max_bytes: int) -> bytes:
    """Bytes in either shape."""
    if isinstance(value, str):
        data = b64.decode(value, what) if len(value) <= 2 * max_bytes else bytes(max_bytes + 1)
    elif isinstance(value, list):
        if not all(type(one) is int and 0 <= one <= 255 for one in value):  # a bool is no number
            raise MalformedError(f"{what} has something else than numbers from 0 to 255")
        data = bytes(value)
    else:
        raise MalformedError(f"{what} is neither base64 text nor an array of numbers")
    if len(data) > max_bytes:
        raise LimitExceededError(f"{what} is over the limit of {max_bytes} bytes")
    return data


def _parameters(provider: str, parameters: Sequence[str]) -> dict[str, list[str]]:
    encoded = [b64.encode(one.encode("utf-8", "surrogateescape")) for one in parameters]
    return {provider: encoded}


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
