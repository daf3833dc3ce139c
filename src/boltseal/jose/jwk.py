"""RSA and EC keys as JSON Web Keys (RFC 7517, RFC 7518 section 6)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from boltseal._io import b64, strictjson
from boltseal.errors import KeyFileError, MalformedError
from boltseal.jose import algorithms

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from jwcrypto.jwk import JWK

    PyCaKey = (
        rsa.RSAPublicKey
        | rsa.RSAPrivateKey
        | ec.EllipticCurvePublicKey
        | ec.EllipticCurvePrivateKey
    )

_MEMBERS = {
    "RSA": ("kty", "n", "e", "d", "p", "q", "dp", "dq", "qi"),
    "EC": ("kty", "crv", "x", "y", "d"),
}
_MAX_JWK_BYTES = 64 * 1024
WANTED = (
    f"use an RSA key of {algorithms.MIN_RSA_BITS} to {algorithms.MAX_RSA_BITS} bits, or an EC key "
    "on P-256, P-384 or P-521"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that JWE can use; ``algorithm`` is the key algorithm that its JWK asks for."""

    key: PyCaKey = field(repr=False)
    kty: str  # "RSA" or "EC"
    detail: str  # "3072" bits, or the curve's name
    is_private: bool
    algorithm: str | None = None
    _made: list[JWK] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def jwk(self) -> JWK:
        """The library's form of it, which is made when it is first asked for."""
        if not self._made:
            from jwcrypto.jwk import JWK

            jwk = JWK.from_pyca(self.key)
            jwk.unsafe_skip_rsa_key_validation = True  # see _check_rsa
            self._made.append(jwk)
        return self._made[0]

    @property
    def thumbprint(self) -> str:
        """RFC 7638 thumbprint with SHA-256, base64url: what goes into ``kid``."""
        from cryptography.hazmat.primitives.hashes import SHA256, Hash

        hasher = Hash(SHA256())
        members = json.dumps(_public(self.key), sort_keys=True, separators=(",", ":"))
        hasher.update(members.encode("ascii"))
        return b64.encode_url(hasher.finalize())

    def __hash__(self) -> int:
        """The library's keys have none of their own."""
        return hash((self.kty, self.is_private, self.thumbprint, self.algorithm))

    def rsa_private(self) -> rsa.RSAPrivateKey:
        """The private RSA key itself, for other protocols."""
        return cast("rsa.RSAPrivateKey", self.key)

    def rsa_public(self) -> rsa.RSAPublicKey:
        """The public half of an RSA key, for other protocols."""
        return cast("rsa.RSAPublicKey", _half(self.key))

    def describe(self) -> str:
        """For people: ``RSA 3072`` or ``EC P-256``."""
        return f"{self.kty} {self.detail}"


def from_pyca(key: PyCaKey) -> Key:
    """From a key object of ``cryptography``; raises KeyFileError for sizes that are refused."""
    return _checked(key, None)


def from_json(raw: bytes) -> Key:
    """From the text of a JWK; raises KeyFileError."""
    from jwcrypto.jwk import JWK

    try:
        document = strictjson.load_object(raw, "the JWK", max_bytes=_MAX_JWK_BYTES)
    except MalformedError as error:
        raise KeyFileError(error.message) from None
    if "keys" in document:
        raise KeyFileError("this is a JWK set", hint="put the one key into a file of its own")
    names = _MEMBERS.get(str(document.get("kty")))
    if names is None:
        raise KeyFileError("the JWK's kty is neither RSA nor EC", hint=WANTED)
    if document.get("use", "enc") != "enc":
        raise KeyFileError("the JWK's use is not enc: it is not meant for encryption")
    algorithm = document.get("alg")
    if algorithm is not None and algorithm not in algorithms.KEY_ALGORITHMS:
        raise KeyFileError(
            f"the JWK's alg {str(algorithm)[:40]!r} is not a key algorithm that Boltseal uses"
        )
    material = {name: document[name] for name in names if name in document}
    try:
        jwk = JWK(**material)
        jwk.unsafe_skip_rsa_key_validation = True  # see _check_rsa
        jwk.thumbprint()
        # only this builds the key, and finds a point that is not on its curve
        key: PyCaKey = jwk.get_op_key("sign" if jwk.has_private else "verify")
    except Exception:  # noqa: BLE001  whatever the library raises
        raise KeyFileError("the JWK is not a valid key") from None
    return _checked(key, algorithm)


def _checked(key: PyCaKey, algorithm: str | None) -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    is_private = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        kty = "RSA"
        bits = _rsa_bits(key)
        if not algorithms.MIN_RSA_BITS <= bits <= algorithms.MAX_RSA_BITS:
            raise KeyFileError(f"an RSA key of {bits} bits is refused", hint=WANTED)
        if isinstance(key, rsa.RSAPrivateKey):
            _check_rsa(key)
        detail = str(bits)
    elif getattr(getattr(key, "curve", None), "name", None) in algorithms.CURVE_NAMES:
        kty, detail = "EC", algorithms.CURVE_NAMES[key.curve.name]
    else:
        raise KeyFileError("this kind of key is not supported", hint=WANTED)
    if algorithm is not None and algorithm not in algorithms.algorithms_for(kty):
        raise KeyFileError(f"the JWK's alg {algorithm} does not fit its kty {kty}")
    return Key(key, kty, detail, is_private, algorithm)


def _public(key: PyCaKey) -> dict[str, str]:
    """The members of a JWK that its thumbprint is made of (RFC 7638 section 3.2)."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    public = _half(key)
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    assert isinstance(public, ec.EllipticCurvePublicKey)
    place = public.public_numbers()
    size = (public.curve.key_size + 7) // 8
    name = algorithms.CURVE_NAMES[public.curve.name]
    return {"kty": "EC", "crv": name, "x": _number(place.x, size), "y": _number(place.y, size)}


def _half(key: PyCaKey) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """The public half of a key, which may be all there is."""
    private = getattr(key, "public_key", None)
    return key if private is None else private()  # type: ignore[return-value]


def _number(value: int, size: int | None = None) -> str:
    return b64.encode_url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _rsa_bits(key: rsa.RSAPrivateKey | rsa.RSAPublicKey) -> int:
    """The size of a modulus, which is odd as the exponent is."""
    try:
        # made again of its numbers, which the library looks at then
        public = cast("rsa.RSAPublicKey", _half(key)).public_numbers().public_key()
        size, is_odd = int(public.key_size), bool(public.public_numbers().n & 1)
    except Exception:  # noqa: BLE001  whatever the library raises
        size, is_odd = 0, False
    if not is_odd:
        raise KeyFileError("this is no RSA key: its modulus or its exponent is even")
    return size


def _check_rsa(key: rsa.RSAPrivateKey) -> None:
    """See whether the numbers of a private key fit together (RFC 8017 section 3.2).

    The library would also look whether the primes are prime. That takes four seconds for 8,192
    bits, for crafted numbers any time, and nothing stops it. A key that has other factors opens
    nothing, and what is computed with it is no more than wrong.
    """
    misfit = KeyFileError("the numbers of the RSA key do not fit together")
    try:
        one = key.private_numbers()
    except Exception:  # noqa: BLE001  whatever the library raises
        raise misfit from None
    n, e = one.public_numbers.n, one.public_numbers.e
    fits = (
        min(one.p, one.q) > 1
        and one.p * one.q == n
        and e * one.d % (one.p - 1) == 1
        and e * one.d % (one.q - 1) == 1
        and one.dmp1 == one.d % (one.p - 1)
        and one.dmq1 == one.d % (one.q - 1)
        and one.iqmp * one.q % one.p == 1
    )
    if not fits:
        raise misfit
