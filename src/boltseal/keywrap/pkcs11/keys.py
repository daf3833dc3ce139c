"""Recipients and identities of the ``pkcs11`` scheme.

Wrapping needs the public key alone and is done here; unwrapping is done by the token.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from boltseal.errors import BoltsealError, KeyFileError, UsageError
from boltseal.keywrap import identity_files, jwe, keyfiles, secrets, tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs11 import document, packet, problems
from boltseal.keywrap.pkcs11 import uri as uris
from boltseal.keywrap.pkcs11.token import HashMissingError, Pin, TokenKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.jose.jwk import Key
    from boltseal.keywrap.options import KeyOptions

SCHEME = packet.SCHEME
SECRET_BYTES = 192  # of the private options that every implementation wraps, with SHA-256 digest
_HASH_BYTES = {"sha1": 20, "sha256": 32}


@dataclass(frozen=True, slots=True)
class Pkcs11Wrapper:
    """Puts all recipients into one packet, as other implementations do."""

    scheme: str = SCHEME

    def wrap(self, recipients: Sequence[Pkcs11Recipient], secret: bytes) -> list[bytes]:
        """One packet for the first recipients, another for the next, and so on."""
        step = packet.MAX_RECIPIENTS
        return [
            packet.build([one.wrap(secret) for one in recipients[at : at + step]])
            for at in range(0, len(recipients), step)
        ]


@dataclass(frozen=True, slots=True)
class Pkcs11Recipient:
    """An RSA public key, and the OAEP hash to wrap for it with."""

    key: rsa.RSAPublicKey = field(repr=False)
    thumbprint: str
    hash: str
    with_kid: bool = True
    wrapper: Pkcs11Wrapper = Pkcs11Wrapper()

    def wrap(self, secret: bytes) -> packet.Wrapped:
        """RSA-OAEP (RFC 8017 section 7.1.1), the empty label, MGF1 with the same hash."""
        _check_room(self.key, self.hash, len(secret), "pkcs11")
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        kind = hashes.SHA1() if self.hash == "sha1" else hashes.SHA256()  # noqa: S303
        blob = self.key.encrypt(secret, padding.OAEP(padding.MGF1(kind), kind, None))
        return packet.Wrapped(blob, self.hash, self.thumbprint if self.with_kid else None)

    def describe(self) -> str:
        return f"pkcs11 RSA {self.key.key_size} {self.thumbprint}"


@dataclass(frozen=True, slots=True)
class Pkcs11Identity:
    """A private key that stays in its token."""

    token: TokenKey = field(repr=False)
    is_remote: ClassVar[bool] = True

    def handles(self, scheme: str) -> bool:
        return scheme == SCHEME

    def unwrap(self, scheme: str, data: bytes) -> bytes:
        found = packet.parse(data)
        public = self.token.open()
        usable, own = list(found), None
        if public is not None:
            size = (public.key_size + 7) // 8
            usable = [one for one in found if len(one.blob) == size]
            if not usable:
                raise NotMyKeyError(f"no recipient has an RSA key of {public.key_size} bits")
            own = _thumbprint(public)
        if own is not None:  # ours by its name first; and those that do not say whose they are
            usable = [one for one in usable if one.kid in (None, own)]
            usable.sort(key=lambda one: one.kid != own)
        return self._first(usable, own)

    def _first(self, usable: Sequence[packet.Wrapped], own: str | None) -> bytes:
        wanted = [(one, name) for one in usable for name in one.hashes]
        bound = tries.may_try(len(wanted))
        missing: str | None = None
        for one, name in wanted[:bound]:
            tries.tried()
            try:
                return self.token.decrypt(one.blob, name)
            except NotMyKeyError:
                continue
            except HashMissingError:
                if one.hash is not None and (own is None or one.kid in (None, own)):
                    missing = missing or name
        if missing is not None:
            raise problems.no_hash(self.describe(), missing)
        raise NotMyKeyError(
            "it was wrapped for another key"
            if len(wanted) == bound
            else f"a token is asked about {tries.MAX_TRIES} wrapped keys of a layer at most"
        )

    def describe(self) -> str:
        return self.token.describe()


def recipient(rest: str, options: KeyOptions) -> Pkcs11Recipient:
    """``pkcs11:FILE`` with a public key, a certificate or the YAML of a key; or ``pkcs11:URI``.

    Raises KeyFileError, KeyServiceError, UsageError, NotFoundError or MissingExtraError.
    """
    if not os.path.exists(rest) and uris.looks_like(rest):
        return _from_token(_from_uri(rest, options), options)
    if identity_files.split(rest)[1] is not None and not os.path.exists(rest):
        # what is behind it may be a PIN, and is not shown
        raise UsageError("a recipient's file has no PIN behind it", hint="write pkcs11:FILE")
    raw = identity_files.read_key_file(rest)
    if document.is_key_file(raw):
        return _from_token(_from_yaml(raw, rest, options, None, None), options)
    return _recipient(keyfiles.load_public(raw, rest), rest, options)


def identity(rest: str, options: KeyOptions) -> Pkcs11Identity:
    """``pkcs11:FILE`` with the YAML of a key, perhaps with its PIN behind it, or ``pkcs11:URI``.

    Raises KeyFileError, KeyServiceError, UsageError, NotFoundError or MissingExtraError. The token
    is not looked at before it is needed.
    """
    path, how = identity_files.split(rest)
    if not os.path.exists(path) and uris.looks_like(rest):
        return Pkcs11Identity(_from_uri(rest, options))
    raw = identity_files.read_key_file(path)
    if not document.is_key_file(raw):
        raise KeyFileError(
            f"{path} is not the YAML of a PKCS#11 key",
            hint="write pkcs11: with uri: below it; other private keys are named without pkcs11:",
        )
    given = None if how is None else secrets.reader(how, options, bare=False)
    return identity_from_yaml(raw, path, options, given=given)


def identity_from_yaml(
    raw: bytes,
    label: str,
    options: KeyOptions,
    *,
    given: Callable[[], bytes | None] | None = None,
    passphrase: Callable[[], bytes | None] | None = None,
) -> Pkcs11Identity:
    """The key that a YAML file names. A PIN that is ``given`` goes before one in the URI; what
    ``passphrase`` says is for keys whose URI has none.

    Raises KeyFileError, KeyServiceError or MissingExtraError.
    """
    return Pkcs11Identity(_from_yaml(raw, label, options, given, passphrase))


def _from_uri(rest: str, options: KeyOptions) -> TokenKey:
    uri = uris.parse(uris.SCHEME + rest)
    pin = Pin(uri, last=_asking(uri, options))
    return TokenKey(uri, pin, options, label="pkcs11", environment={})


def _from_yaml(
    raw: bytes,
    label: str,
    options: KeyOptions,
    given: Callable[[], bytes | None] | None,
    passphrase: Callable[[], bytes | None] | None,
) -> TokenKey:
    about = document.key_file(raw, label)
    try:
        uri = uris.parse(about.uri)
    except UsageError as error:
        raise KeyFileError(f"{label}: {error.message}", hint=error.hint) from None
    pin = Pin(uri, first=given, last=passphrase or _asking(uri, options))
    return TokenKey(uri, pin, options, label=label, environment=about.environment)


def _asking(uri: uris.TokenUri, options: KeyOptions) -> Callable[[], bytes | None] | None:
    ask = options.ask
    return None if ask is None else lambda: ask(f"{uri.describe()} (its PIN)")


def _from_token(token: TokenKey, options: KeyOptions) -> Pkcs11Recipient:
    found = token.public()
    label = token.describe()
    if isinstance(found, bytes):
        return _recipient(keyfiles.load_public(found, label), label, options)
    try:
        key = jwe.key_of(found)
    except KeyFileError as error:
        raise KeyFileError(f"{label}: {error.message}", hint=error.hint) from None
    return _recipient(key, label, options)


def _recipient(key: Key, label: str, options: KeyOptions) -> Pkcs11Recipient:
    if key.kty != "RSA":
        raise KeyFileError(
            f"{label}: PKCS#11 needs an RSA key", hint="for an EC key write jwe:FILE"
        )
    if key.is_private:
        raise KeyFileError(
            f"{label} holds a private key, and recipients are public keys",
            hint="take its public half: openssl pkey -in KEY -pubout",
        )
    public = key.rsa_public()
    _check_room(public, options.oaep_hash, SECRET_BYTES, label)
    return Pkcs11Recipient(public, key.thumbprint, options.oaep_hash, options.with_kid)


def _check_room(key: rsa.RSAPublicKey, name: str, size: int, label: str) -> None:
    """OAEP takes two hashes and two bytes of the modulus (RFC 8017 section 7.1.1)."""
    room = (key.key_size + 7) // 8 - 2 * _HASH_BYTES[name] - 2
    if size > room:
        shown = name.upper().replace("SHA", "SHA-")
        hint = "use an RSA key of 3072 bits or more"
        raise KeyFileError(
            f"{label}: an RSA key of {key.key_size} bits holds {room} bytes with {shown}, and a "
            f"layer's key takes {size}",
            hint=hint if name == "sha1" else f"{hint}, or --oaep-hash sha1",
        )


def _thumbprint(key: rsa.RSAPublicKey) -> str | None:
    try:
        return jwe.key_of(key).thumbprint
    except BoltsealError:  # a size that we would not encrypt for
        return None
