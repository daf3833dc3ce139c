"""The two option documents of an encrypted layer.

The public options are readable by all and authenticated by nothing; the private options are the
secret that every recipient's packet wraps.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from boltseal._io import b64, strictjson
from boltseal.errors import AuthenticationError, MalformedError

AES_256_CTR_HMAC_SHA256 = "AES_256_CTR_HMAC_SHA256"
KEY_BYTES = 32
NONCE_BYTES = 16
HMAC_BYTES = 32
_MAX_OPTIONS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PublicOptions:
    """What the layer's ``pubopts`` annotation holds."""

    cipher: str
    hmac: bytes

    @classmethod
    def parse(cls, annotation: str | None) -> PublicOptions:
        """Strictly: the one cipher, an HMAC of 32 bytes, and no cipher option at all.

        The Go reader prefers a nonce found here to the wrapped one. Nothing authenticates this
        document, so that nonce would turn the layer into other bytes under a valid HMAC: refused.
        """
        if annotation is None:
            raise MalformedError("the layer has no public options")
        raw = b64.decode(annotation, "annotation with the public options")
        document = strictjson.load_object(raw, "the public options", max_bytes=_MAX_OPTIONS_BYTES)
        strictjson.refuse_variants(
            document, ("cipher", "hmac", "cipheroptions"), "the public options"
        )
        cipher = document.get("cipher")
        if cipher != AES_256_CTR_HMAC_SHA256:
            raise MalformedError(
                f"cipher {str(cipher)[:60]!r} is not one that Boltseal knows",
                hint=f"only {AES_256_CTR_HMAC_SHA256} is defined",
            )
        options = document.get("cipheroptions")
        if options:
            raise MalformedError(
                "the public options carry cipher options, which nobody can vouch for"
                if not (isinstance(options, dict) and "nonce" in options)
                else "the public options carry a nonce, which nobody can vouch for"
            )
        value = document.get("hmac")
        if not isinstance(value, str) or not value:
            raise AuthenticationError("the layer has no HMAC")
        hmac = b64.decode(value, "the HMAC")
        if len(hmac) != HMAC_BYTES:
            raise AuthenticationError(f"the HMAC has {len(hmac)} bytes instead of {HMAC_BYTES}")
        return cls(cipher, hmac)

    def annotation(self) -> str:
        """The value of the ``pubopts`` annotation."""
        document = {"cipher": self.cipher, "hmac": b64.encode(self.hmac), "cipheroptions": {}}
        return b64.encode(json.dumps(document, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class PrivateOptions:
    """The secret of one layer: key, initial counter block, and the digest the writer was given."""

    symkey: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    digest: str

    @classmethod
    def parse(cls, secret: bytes) -> PrivateOptions:
        """Raises MalformedError, which never shows any of the content.

        ``digest`` is not checked: writers disagree about what it is the digest of.
        """
        try:
            document = strictjson.load_object(
                secret, "the private options", max_bytes=_MAX_OPTIONS_BYTES
            )
        except MalformedError as error:
            # a duplicate key's name would be a piece of the secret
            raise MalformedError("the private options are not valid JSON") from error.__cause__
        options = document.get("cipheroptions")
        nonce = options.get("nonce") if isinstance(options, dict) else None
        digest = document.get("digest", "")
        return cls(
            symkey=_secret(document.get("symkey"), "key", KEY_BYTES),
            nonce=_secret(nonce, "nonce", NONCE_BYTES),
            digest=digest if isinstance(digest, str) else "",
        )

    def secret(self) -> bytes:
        """The JSON that recipients' packets wrap."""
        document = {
            "symkey": b64.encode(self.symkey),
            "digest": self.digest,
            "cipheroptions": {"nonce": b64.encode(self.nonce)},
        }
        return json.dumps(document, separators=(",", ":")).encode()


def _secret(value: Any, name: str, length: int) -> bytes:
    if not isinstance(value, str):
        raise MalformedError(f"the private options hold no {name}")
    try:
        raw = base64.b64decode(value.encode("ascii"), validate=True)
    except ValueError:
        raise MalformedError(f"the {name} in the private options is not base64") from None
    if len(raw) != length:
        raise MalformedError(f"the {name} has {len(raw)} bytes instead of {length}")
    return raw
