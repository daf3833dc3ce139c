"""Signed JSON Web Tokens in compact form (RFC 7519), and the keys that verify them (RFC 7517).

Nothing of a token chooses how it is verified: its ``kid`` finds a key, the key says which
algorithms fit, and the caller says which of them are allowed (RFC 8725 sections 3.1 and 3.10).
Symmetric algorithms and ``none`` are not in the table, so that a public key can never be taken for
a secret.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from boltseal._io import b64, strictjson
from boltseal.errors import BoltsealError, MalformedError
from boltseal.jose.algorithms import MAX_RSA_BITS, MIN_RSA_BITS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jwcrypto.jwk import JWK

MAX_TOKEN_CHARACTERS: Final = 16 * 1024
MAX_KEY_SET_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100  # of one set
MAX_KID: Final = 256  # characters
MAX_TIME: Final = 2**40  # seconds: some 34,000 years

# RFC 7518 section 3.1, RFC 8037 section 3.1: the key type, and the curve
_ALGORITHMS: Final = {
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}
ALGORITHMS: Final = tuple(_ALGORITHMS)
_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_PRIVATE: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
# what would change how a token is read, or bring the key that it is verified with
_REFUSED: Final = ("crit", "zip", "cty", "b64", "enc", "epk", "jwk", "jku", "x5u", "x5c")
_TYPES: Final = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class TokenError(MalformedError):
    """A token, or a set of keys, that is not accepted; the message quotes nothing of a token."""


class UnknownKeyError(TokenError):
    """No key has the token's ``kid``: it may be one that the issuer has made since."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read; nothing in it is true yet.

    ``digest`` is SHA-256 in hex of what is signed (header and claims): an ECDSA signature can be
    written in two ways, and a token that was revoked may not come back with the other one.
    """

    text: str = field(repr=False)
    algorithm: str
    kid: str
    claims: Mapping[str, Any] = field(repr=False)
    digest: str


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of an issuer, and the algorithms that fit it."""

    kid: str
    algorithms: tuple[str, ...]
    jwk: JWK = field(repr=False)


def parse(text: str) -> Token:
    """Read a token without believing it; raises TokenError and nothing else."""
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise TokenError(f"the token is over the limit of {MAX_TOKEN_CHARACTERS} characters")
    if _SHAPE.fullmatch(text) is None:
        raise TokenError("this is not a signed token in compact form")
    head, body, signature = text.split(".")
    header = _object(head, "the token's header")
    for name in _REFUSED:
        if name in header:
            raise TokenError(f"the token's header has {name!r}, which is refused")
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise TokenError(f"the token's alg is none of {', '.join(ALGORITHMS)}")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise TokenError(
            "the token's typ is neither JWT nor at+jwt: it is meant for something else"
        )
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
        raise TokenError(f"the token's header has no kid of 1 to {MAX_KID} characters")
    claims = _object(body, "the token's claims")
    _decoded(signature, "the token's signature")
    signed = hashlib.sha256(f"{head}.{body}".encode()).hexdigest()
    return Token(text, algorithm, kid, claims, signed)


def verify(token: Token, keys: Mapping[str, VerificationKey], allowed: Collection[str]) -> None:
    """Verify the signature with the key that ``kid`` names.

    ``allowed`` are the algorithms that this issuer is configured with. Raises UnknownKeyError when
    no key has the ``kid``, else TokenError.
    """
    if token.algorithm not in allowed or token.algorithm not in _ALGORITHMS:
        raise TokenError(f"the token's alg {token.algorithm} is not among those configured")
    key = keys.get(token.kid)
    if key is None:
        raise UnknownKeyError("no key of the issuer has the token's kid")
    if token.algorithm not in key.algorithms:
        raise TokenError(f"the token's alg {token.algorithm} does not fit the key of its kid")
    from jwcrypto.jws import JWS

    jws = JWS()
    jws.allowed_algs = [token.algorithm]
    try:
        jws.deserialize(token.text)
        jws.verify(key.jwk, alg=token.algorithm)
        payload = bytes(jws.payload)
    except Exception:  # noqa: BLE001  whatever the library raises
        raise TokenError("the token's signature does not verify") from None
    if payload != _decoded(token.text.split(".")[1], "the token's claims"):
        raise TokenError("the token was read in two ways")


def check_times(
    claims: Mapping[str, Any], now: int, *, leeway: int = 0, max_age: int | None = None
) -> int:
    """The end of a token, in seconds since 1970 (RFC 7519 section 4.1).

    ``exp`` has to be there, and with ``max_age`` (seconds) ``iat``, too. ``leeway`` (seconds) is
    how far clocks may differ. Raises TokenError.
    """
    end = _time(claims, "exp")
    if end is None:
        raise TokenError("the token has no exp: it would be good for ever")
    if now >= end + leeway:
        raise TokenError("the token has expired")
    for name in ("nbf", "iat"):
        start = _time(claims, name)
        if start is not None and start > now + leeway:
            raise TokenError(f"the token's {name} is in the future")
    if max_age is not None:
        issued = _time(claims, "iat")
        if issued is None:
            raise TokenError("the token has no iat, and its age is limited")
        if now - issued > max_age + leeway:
            raise TokenError(f"the token is older than {max_age} seconds")
        end = min(end, issued + max_age)
    return end


def parse_key_set(raw: bytes, what: str = "the set of keys") -> dict[str, VerificationKey]:
    """The keys of a JWK set by their ``kid``, as far as they verify one of ALGORITHMS.

    Others are passed over (RFC 7517 section 5). A set with a private key or a secret in it, or with
    a ``kid`` twice, is refused as a whole: somebody made a mistake there. Raises TokenError.
    """
    try:
        document = strictjson.load_object(raw, what, max_bytes=MAX_KEY_SET_BYTES)
    except BoltsealError as error:
        raise TokenError(error.message) from None
    entries = document.get("keys")
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise TokenError(f"{what} has no list of keys")
    if len(entries) > MAX_KEYS:
        raise TokenError(f"{what} has {len(entries)} keys, over the limit of {MAX_KEYS}")
    found: dict[str, VerificationKey] = {}
    seen: set[str] = set()
    for entry in entries:
        if not _PRIVATE.isdisjoint(entry):
            raise TokenError(f"{what} has a private key or a secret in it")
        kid = entry.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
            continue
        if kid in seen:
            raise TokenError(f"{what} has one kid twice")
        seen.add(kid)
        key = _key(entry, kid, what)
        if key is not None:
            found[kid] = key
    return found


def _key(entry: Mapping[str, Any], kid: str, what: str) -> VerificationKey | None:
    kty, curve = entry.get("kty"), entry.get("crv")
    fitting = tuple(
        name
        for name, (needed, on) in _ALGORITHMS.items()
        if kty == needed and (on is None or on == curve) and entry.get("alg", name) == name
    )
    if not fitting or not _verifies(entry):
        return None
    from jwcrypto.jwk import JWK

    try:
        jwk = JWK(kty=kty, **{name: entry[name] for name in _MEMBERS[str(kty)]})
        public = jwk.get_op_key("verify")  # finds a point that is not on its curve
        bits = int(public.key_size) if kty == "RSA" else MIN_RSA_BITS
    except Exception:  # noqa: BLE001  whatever the library raises
        raise TokenError(f"{what} has a key that is not valid") from None
    return VerificationKey(kid, fitting, jwk) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS else None


def _verifies(entry: Mapping[str, Any]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    )


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        return strictjson.load_object(_decoded(text, what), what, max_bytes=MAX_TOKEN_CHARACTERS)
    except TokenError:
        raise
    except BoltsealError:
        # its message would name a member of the token
        raise TokenError(f"{what} is not one strict JSON object") from None


def _decoded(text: str, what: str) -> bytes:
    try:
        raw = b64.decode_url(text, what)
    except BoltsealError as error:
        raise TokenError(error.message) from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise TokenError(f"{what} is not canonical base64url")
    return raw


def _time(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TokenError(f"the token's {name} is not a time")
    if not 0 <= value <= MAX_TIME:
        raise TokenError(f"the token's {name} is not a time")
    return int(value)
