"""Read RSA and EC keys from every file form that users have.

Public: PEM or DER (PKIX, PKCS#1), JWK, certificate. Private: PEM or DER (PKCS#1, SEC 1, PKCS#8),
encrypted PKCS#1, SEC 1 and PKCS#8, JWK.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from boltseal.errors import KeyFileError
from boltseal.jose import jwk
from boltseal.keywrap import advice, privateform

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.jose.jwk import Key, PyCaKey
    from boltseal.keywrap.privateform import PrivateForm

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_PUBLIC_PEM = re.compile(rb"-----BEGIN (?:RSA )?PUBLIC KEY-----")
_OPENSSH = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")
_PUBLIC_FORMS = "PEM, DER, JWK or a certificate"


def load_public(raw: bytes, label: str) -> Key:
    """A recipient's public key, or the key in its certificate. Raises KeyFileError."""
    if raw.lstrip()[:1] == b"{":
        return _labelled(label, lambda: jwk.from_json(raw))
    _refuse_openssh(raw, label)
    if len(_PUBLIC_PEM.findall(raw)) > 1:
        raise KeyFileError(
            f"{label} holds several public keys", hint="put each into a file of its own"
        )
    name = _pem_name(raw)
    if name is not None and "PRIVATE KEY" in name:
        raise KeyFileError(
            f"{label} holds a private key, and recipients are public keys",
            hint=advice.public_half(label),
        )
    certified = _certificate_key(raw, label)
    if certified is not None and name in (None, "CERTIFICATE"):
        key: PyCaKey | None = certified
    else:
        key = _public_key(raw, name)
        if key is not None and certified is not None and key != certified:
            raise KeyFileError(
                f"{label} holds a public key, and a certificate of another one",
                hint="put each into a file of its own",
            )
    if key is None:
        raise KeyFileError(
            f"{label} holds no RSA or EC public key",
            hint=advice.for_recipient(raw, label) or f"give an RSA or EC key as {_PUBLIC_FORMS}",
        )
    found = key
    return _labelled(label, lambda: jwk.from_pyca(found))


def load_private(raw: bytes, label: str, passphrase: Callable[[], bytes | None]) -> Key:
    """An identity's private key; ``passphrase`` is asked only when the key is encrypted."""
    if raw.lstrip()[:1] == b"{":
        key = _labelled(label, lambda: jwk.from_json(raw))
        if not key.is_private:
            raise KeyFileError(
                f"{label} is a public key", hint="opening an image takes the private one"
            )
        return key
    _refuse_openssh(raw, label)
    name = _pem_name(raw)
    if name is not None and "PRIVATE KEY" not in name and b"PRIVATE KEY-----" not in raw:
        raise KeyFileError(
            f"{label} holds a {name.lower()}, not a private key",
            hint="opening an image takes the private key",
        )
    form = privateform.find(raw, label)
    if form is None:
        raise _no_private(label)
    secret = _passphrase(label, passphrase) if form.is_encrypted else None
    loaded = _private_key(form, label, secret)
    return _labelled(label, lambda: jwk.from_pyca(loaded))


def _passphrase(label: str, ask: Callable[[], bytes | None]) -> bytes:
    secret = ask()
    if secret is None:
        raise KeyFileError(
            f"{label} is encrypted",
            hint="add its passphrase: FILE:file=PATH, FILE:fd=N or FILE:env=NAME",
        )
    return secret


def _private_key(form: PrivateForm, label: str, secret: bytes | None) -> PyCaKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_private_key if form.is_pem else serialization.load_der_private_key
    try:
        # whether RSA's numbers fit together is looked at in jose.jwk, at a price that is known
        return cast("PyCaKey", load(form.content, secret, unsafe_skip_rsa_key_validation=True))
    except UnsupportedAlgorithm:
        wrong = privateform.not_supported if secret is not None else privateform.other_kind
        raise wrong(label) from None
    except Exception:  # noqa: BLE001  whatever the library raises
        if secret is None:
            raise _no_private(label) from None
        raise KeyFileError(
            f"{label} does not open with the passphrase given",
            hint="what stands behind FILE: is taken for the passphrase itself, unless it is "
            "file=PATH, fd=N, env=NAME or pass=TEXT",
        ) from None


def _public_key(raw: bytes, name: str | None) -> PyCaKey | None:
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_der_public_key if name is None else serialization.load_pem_public_key
    try:
        return cast("PyCaKey", load(raw))
    except Exception:  # noqa: BLE001  whatever the library raises
        return None


def _certificate_key(raw: bytes, label: str) -> PyCaKey | None:
    """The key of the one recipient whose certificate, perhaps with its issuers', this is."""
    from boltseal.keywrap.pkcs7 import certificates

    chain = certificates.load(raw, label)
    if not chain:
        return None
    certificates.check_issuers(chain, label)
    try:
        return cast("PyCaKey", chain[0].public_key())
    except Exception:  # noqa: BLE001  whatever the library raises
        return None


def _refuse_openssh(raw: bytes, label: str) -> None:
    if raw.startswith(_OPENSSH):
        raise KeyFileError(f"{label} is an OpenSSH public key", hint=advice.openssh(raw))
    if b"-----BEGIN OPENSSH PRIVATE KEY-----" in raw:
        raise KeyFileError(f"{label} is an OpenSSH private key", hint=advice.openssh(raw))


def _pem_name(raw: bytes) -> str | None:
    match = _PEM.search(raw)
    return match.group(1).decode("ascii") if match else None


def _labelled(label: str, make: Callable[[], Key]) -> Key:
    try:
        return make()
    except KeyFileError as error:
        raise KeyFileError(f"{label}: {error.message}", hint=error.hint) from None


def _no_private(label: str) -> KeyFileError:
    return KeyFileError(
        f"{label} holds no private key that can be read",
        hint="give a private key as PEM, DER or JWK, an exported OpenPGP key, or the YAML of a "
        "token's key",
    )
