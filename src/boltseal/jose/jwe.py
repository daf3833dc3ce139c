"""JSON Web Encryption in JSON serialisation (RFC 7516 section 7.2), as the image format uses it.

Parsing needs no key and no JOSE library, so that ``inspect`` is quick. Decrypting hands one
recipient at a time to jwcrypto, in flattened form: the general form as go-jose writes it repeats
the first recipient's ``encrypted_key`` at the top, which strict parsers refuse.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import b64, strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.jose import algorithms

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from jwcrypto.jwe import JWE

    from boltseal.jose.jwk import Key

MAX_JWE_BYTES = 384 * 1024  # bytes of one JWE
MAX_RECIPIENTS = 100  # recipients of one JWE
_MAX_CONTENT_BYTES = 16 * 1024  # bytes of the secret inside
_threads = threading.local()


class WrongKeyError(Exception):
    """The key does not open this JWE, or the JWE was changed: the two look alike."""


@dataclass(frozen=True, slots=True)
class JweRecipient:
    """One recipient: its merged header (RFC 7516 section 4) and what to hand on."""

    header: Mapping[str, Any]
    unprotected: Mapping[str, Any]
    encrypted_key: str

    @property
    def algorithm(self) -> str:
        """The key algorithm, which may be one that is not supported."""
        return str(self.header.get("alg"))

    @property
    def kid(self) -> str | None:
        """The key id, where the header has one."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else None

    @property
    def is_supported(self) -> bool:
        """Whether both algorithms are on the lists and nothing forbidden is in the header."""
        return (
            self.algorithm in algorithms.KEY_ALGORITHMS
            and self.header.get("enc") in algorithms.CONTENT_ENCRYPTIONS
        )


@dataclass(frozen=True, slots=True)
class Jwe:
    """A parsed JWE whose members have been checked; nothing is decrypted yet."""

    shared: Mapping[str, Any]  # protected, unprotected, aad, iv, ciphertext, tag: as they were
    recipients: tuple[JweRecipient, ...]


def parse(raw: bytes) -> Jwe:
    """Parse the JSON serialisation, flattened or general.

    Raises MalformedError or LimitExceededError. ``zip`` and ``crit`` are refused wherever they
    are: compression would hide a size, and no critical extension is known.
    """
    document = strictjson.load_object(raw, "the JWE", max_bytes=MAX_JWE_BYTES)
    shared: dict[str, Any] = {}
    for name in ("protected", "aad", "iv", "ciphertext", "tag"):
        if name in document:
            _decoded(document, name)
            shared[name] = document[name]
        elif name in ("iv", "ciphertext", "tag"):
            raise MalformedError(f"the JWE has no {name}")
    if len(shared["ciphertext"]) > _MAX_CONTENT_BYTES * 4 // 3:
        raise LimitExceededError(
            f"the JWE's content is over the limit of {_MAX_CONTENT_BYTES} bytes"
        )
    protected: dict[str, Any] = {}
    if shared.get("protected"):
        protected = strictjson.load_object(
            _decoded(document, "protected"), "the JWE's protected header", max_bytes=MAX_JWE_BYTES
        )
    unprotected = _object(document, "unprotected")
    if unprotected:
        shared["unprotected"] = unprotected
    entries = _entries(document)
    return Jwe(shared, tuple(_recipient(entry, protected, unprotected) for entry in entries))


def decrypt(jwe: Jwe, recipient: JweRecipient, key: Key) -> bytes:
    """The content, opened for one recipient; raises WrongKeyError."""
    if recipient.algorithm not in algorithms.algorithms_for(key.kty):
        raise WrongKeyError(f"{recipient.algorithm[:40]} takes another kind of key")
    flat = {**jwe.shared, "encrypted_key": recipient.encrypted_key}
    if recipient.unprotected:
        flat["header"] = dict(recipient.unprotected)
    token = _token()
    try:
        token.allowed_algs = [recipient.algorithm, str(recipient.header["enc"])]
        token.deserialize(json.dumps(flat))
        token.decrypt(key.jwk, max_plaintext=_MAX_CONTENT_BYTES)
        return bytes(token.payload)
    except Exception:  # noqa: BLE001  whatever the library raises
        # jwcrypto, cryptography and ValueError all end up here; which one it was says nothing
        # that could be relied on, and may not leak into a message
        raise WrongKeyError("it does not open with this key") from None
    finally:
        token.objects, token.plaintext, token.cek = {}, None, None  # it keeps no secret


def _token() -> JWE:
    """This thread's own one. Making one takes longer than opening an envelope: jwcrypto copies all
    it knows of headers each time. ``deserialize`` forgets what was in it before.
    """
    from jwcrypto.jwe import JWE

    found: JWE | None = getattr(_threads, "token", None)
    if found is None:
        found = _threads.token = JWE()
    return found


def encrypt(secret: bytes, keys: Sequence[tuple[Key, bool]]) -> bytes:
    """Encrypt ``secret`` to every key; with True beside it, the key's thumbprint becomes ``kid``.

    One key gives the flattened form with everything in the protected header, several the general
    form (RFC 7516 section 7.2): what go-jose reads.
    """
    from jwcrypto.jwe import JWE

    headers = [_header(key, with_kid) for key, with_kid in keys]
    shared = {"enc": algorithms.CONTENT_ENCRYPTION}
    allowed = sorted({header["alg"] for header in headers})
    protected = {**headers[0], **shared} if len(keys) == 1 else shared
    token = JWE(
        secret,
        protected=protected,
        algs=[*allowed, algorithms.CONTENT_ENCRYPTION],
        flattened=len(keys) == 1,
    )
    for (key, _), header in zip(keys, headers, strict=True):
        token.add_recipient(key.jwk, header=None if len(keys) == 1 else header)
    return str(token.serialize()).encode("ascii")


def without(raw: bytes, places: Collection[int]) -> bytes:
    """A JWE without the recipients at ``places``; one at least stays.

    The first recipient's ``encrypted_key``, which some writers repeat at the top, goes in any case.
    """
    parse(raw)
    document = strictjson.load_object(raw, "the JWE", max_bytes=MAX_JWE_BYTES)
    document.pop("encrypted_key", None)
    document["recipients"] = [
        one for place, one in enumerate(document["recipients"]) if place not in places
    ]
    return json.dumps(document, separators=(",", ":")).encode()


def _header(key: Key, with_kid: bool) -> dict[str, str]:
    header = {"alg": key.algorithm or algorithms.algorithms_for(key.kty)[0]}
    if with_kid:
        header["kid"] = key.thumbprint
    return header


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    if "recipients" not in document:
        return [document]
    entries = document["recipients"]
    if not isinstance(entries, list) or not entries:
        raise MalformedError("the JWE's recipients are not a list with anything in it")
    if len(entries) > MAX_RECIPIENTS:
        raise LimitExceededError(
            f"the JWE has {len(entries)} recipients, over the limit of {MAX_RECIPIENTS}"
        )
    if not all(isinstance(entry, dict) for entry in entries):
        raise MalformedError("one of the JWE's recipients is not an object")
    return entries


def _recipient(
    entry: dict[str, Any], protected: dict[str, Any], unprotected: dict[str, Any]
) -> JweRecipient:
    own = _object(entry, "header")
    merged: dict[str, Any] = {}
    for part in (protected, unprotected, own):
        if merged.keys() & part.keys():
            raise MalformedError("the JWE has one header parameter in two places")
        merged.update(part)
    for name in ("zip", "crit"):
        if name in merged:
            raise MalformedError(f"the JWE uses {name!r}, which is refused")
    _decoded(entry, "encrypted_key")
    return JweRecipient(merged, own, entry.get("encrypted_key", ""))


def _object(entry: dict[str, Any], name: str) -> dict[str, Any]:
    value = entry.get(name, {})
    if not isinstance(value, dict):
        raise MalformedError(f"the JWE's {name} is not an object")
    return value


def _decoded(entry: dict[str, Any], name: str) -> bytes:
    value = entry.get(name, "")
    if not isinstance(value, str):
        raise MalformedError(f"the JWE's {name} is not a string")
    return b64.decode_url(value, f"the JWE's {name}")
