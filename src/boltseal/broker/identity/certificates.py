"""Chains of certificates: reading them, and verifying one against the authorities of one trust.

The TLS server has already had the client prove that it holds the leaf's key, and has verified the
chain against all authorities together. Here it is verified again, against each trust by itself, so
that it is known which of them vouches (RFC 5280 section 6, with the library's path validation).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boltseal._io import der
from boltseal.broker.model import RefusedError
from boltseal.errors import BoltsealError, UsageError
from boltseal.jose.algorithms import MAX_RSA_BITS, MIN_RSA_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

MAX_CHAIN = 8  # certificates that a client may send
MAX_CHAIN_BYTES = 64 * 1024
MAX_DEPTH = 5  # certificates of authorities above a leaf
MAX_AUTHORITIES = 50  # of one trust
MAX_PEM = 256 * 1024  # characters
_BIT_STRING = 0x03
_MARK = "-----BEGIN CERTIFICATE-----"
_PEM = "one or several certificates of authorities (CA:TRUE) in PEM"


def load(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """The certificates that a client sent, its own first; raises RefusedError."""
    from cryptography import x509

    if len(chain) > MAX_CHAIN or sum(map(len, chain)) > MAX_CHAIN_BYTES:
        raise RefusedError(
            "unauthenticated",
            f"a client sent over {MAX_CHAIN} certificates, or over {MAX_CHAIN_BYTES} bytes of them",
        )
    try:
        found = [x509.load_der_x509_certificate(one) for one in chain]
        for one in found:
            # the library reads these when they are asked for
            _ = one.subject, one.issuer, one.extensions, one.not_valid_after_utc
            _check_spelling(one)
        subjects = {one.subject.public_bytes() for one in found[1:]}
    except Exception:  # noqa: BLE001  whatever the library raises
        raise RefusedError("unauthenticated", "a client certificate cannot be read") from None
    if len(subjects) < len(found) - 1:
        # with several of one name there are as many paths to try as there are ways to order them
        raise RefusedError("unauthenticated", "a client sent two authorities of one name")
    return found


def authorities(pem: str, what: str) -> tuple[x509.Certificate, ...]:
    """The authorities of a trust; raises UsageError."""
    from cryptography import x509
    from cryptography.x509.oid import ExtensionOID

    if len(pem) > MAX_PEM or not 0 < pem.count(_MARK) <= MAX_AUTHORITIES:
        raise UsageError(f"{what} does not have 1 to {MAX_AUTHORITIES} certificates", hint=_PEM)
    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii"))
        for one in found:
            _ = one.subject, one.issuer, one.not_valid_after_utc
            constraints = one.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
            if not constraints.value.ca:  # type: ignore[attr-defined]
                raise ValueError("no authority")
            _check_usage_of_authority(one)
            _check_key(one)
    except RefusedError as error:
        raise UsageError(f"{what}: {error.detail}", hint=f"give {_PEM}") from None
    except Exception:  # noqa: BLE001  whatever the library raises
        raise UsageError(
            f"{what} has a certificate that is no authority's", hint=f"give {_PEM}"
        ) from None
    return tuple(found)


def verify(
    chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], now: int
) -> list[x509.Certificate]:
    """The path from the leaf to one of ``anchors``, both included; raises RefusedError.

    Times, signatures (no SHA-1), lengths of paths and constraints of names are the library's work.
    Constraints of a kind that it does not know refuse the path. Revocation is looked up elsewhere.
    """
    from cryptography.x509 import BasicConstraints, verification

    # what the Web's rules demand beyond RFC 5280 (a SAN, key identifiers) authorities of one's own
    # seldom do; what matters of it is checked below
    lax = verification.ExtensionPolicy.permit_all()
    authority = lax.require_present(
        BasicConstraints, verification.Criticality.AGNOSTIC, lambda *_: None
    )
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(anchors)))
        .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        .max_chain_depth(MAX_DEPTH)
        .extension_policies(ca_policy=authority, ee_policy=lax)
        .build_client_verifier()
    )
    try:
        path = list(verifier.verify(chain[0], list(chain[1:])).chain)
    except verification.VerificationError as error:
        # the library's text goes on to print the certificate
        reason = str(error).partition(" (encountered")[0][:200]
        raise RefusedError("unauthenticated", reason) from None
    except Exception:  # noqa: BLE001  whatever the library raises
        raise RefusedError("unauthenticated", "the chain cannot be verified") from None
    _check_leaf(path[0])
    for one in path[1:]:
        _check_usage_of_authority(one)
    for one in path:
        _check_key(one)
    return path


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> object | None:
    """The value of an extension, or None."""
    from cryptography.x509 import ExtensionNotFound

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except ExtensionNotFound:
        return None


def has_name_constraints(path: Sequence[x509.Certificate]) -> bool:
    """Whether one of the authorities may vouch for some names only."""
    from cryptography.x509 import NameConstraints

    return any(extension(one, NameConstraints) is not None for one in path[1:])


def names(certificate: x509.Certificate, kind: type[x509.GeneralName]) -> list[str]:
    """The subject alternative names of one kind, whose value is a text."""
    from cryptography.x509 import SubjectAlternativeName

    found = extension(certificate, SubjectAlternativeName)
    return [] if found is None else found.get_values_for_type(kind)  # type: ignore[attr-defined]


def credentials(path: Sequence[x509.Certificate], trust: str) -> tuple[str, ...]:
    """What can be revoked: each certificate of the path, its serial number, the trust."""
    digests: list[str] = []
    # the last one is as the trust has it, and its issuer may be unknown
    for one, issuer in zip(path, [*path[1:], None], strict=True):
        digests += [f"certificate:{digest}" for digest in _fingerprints(one, issuer)]
    return (*digests, f"serial:{trust}:{path[0].serial_number:x}", f"trust:{trust}")


def not_after(path: Sequence[x509.Certificate]) -> int:
    """When the first certificate of the path ends, in seconds since 1970."""
    return min(int(one.not_valid_after_utc.timestamp()) for one in path)


def _fingerprints(certificate: x509.Certificate, issuer: x509.Certificate | None) -> list[str]:
    """SHA-256 of the certificate, and of its twin where its issuer is known.

    An ECDSA signature (r, s) is as good as (r, n - s): whoever holds a certificate can make another
    of it that has another fingerprint. Revoking either one has to hit both.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.serialization import Encoding

    raw = certificate.public_bytes(Encoding.DER)
    found = [hashlib.sha256(raw).hexdigest()]
    key = None if issuer is None else issuer.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        try:
            r, s = utils.decode_dss_signature(certificate.signature)
            other = utils.encode_dss_signature(r, key.curve.group_order - s)
            signed, algorithm, _ = _parts(certificate)
        except (BoltsealError, ValueError):
            raise RefusedError("unauthenticated", "a client certificate cannot be read") from None
        bits = der.encode(_BIT_STRING, b"\x00" + other)
        twin = der.encode(der.SEQUENCE, signed + algorithm + bits)
        found.append(hashlib.sha256(twin).hexdigest())
    return found


def _parts(certificate: x509.Certificate) -> list[bytes]:
    """What is signed, the algorithm, and the signature, each in DER. Raises BoltsealError."""
    from cryptography.hazmat.primitives.serialization import Encoding

    what = "the certificate"
    (whole,) = der.read(certificate.public_bytes(Encoding.DER), what)
    return [der.encode(one.tag, one.value) for one in der.children(whole, der.SEQUENCE, what)]


def _check_spelling(certificate: x509.Certificate) -> None:
    """Signatures are whole bytes; the library ignores a count of unused bits, which nothing signs.

    With it the holder of a certificate could give it another fingerprint. Raises ValueError.
    """
    if _parts(certificate)[2] != der.encode(_BIT_STRING, b"\x00" + certificate.signature):
        raise ValueError("unused bits")


def _check_leaf(leaf: x509.Certificate) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    constraints = extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:  # type: ignore[attr-defined]
        raise RefusedError("unauthenticated", "the certificate is an authority's own (CA:TRUE)")
    usages = extension(leaf, x509.ExtendedKeyUsage)
    if usages is None or ExtendedKeyUsageOID.CLIENT_AUTH not in usages:  # type: ignore[operator]
        raise RefusedError("unauthenticated", "the certificate has no usage clientAuth")
    usage = extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:  # type: ignore[attr-defined]
        raise RefusedError("unauthenticated", "the certificate's key may not sign")


def _check_usage_of_authority(one: x509.Certificate) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usages

    usage = extension(one, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:  # type: ignore[attr-defined]
        raise RefusedError("unauthenticated", "an authority's key may not sign certificates")
    usages = extension(one, x509.ExtendedKeyUsage)
    if usages is not None and not {Usages.CLIENT_AUTH, Usages.ANY_EXTENDED_KEY_USAGE} & set(
        usages  # type: ignore[call-overload]
    ):
        raise RefusedError("unauthenticated", "an authority may not vouch for clients")


def _check_key(certificate: x509.Certificate) -> None:
    """RSA from 2,048 bits, the NIST curves of 256 bits and more, Ed25519."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = certificate.public_key()
    except Exception:  # noqa: BLE001  whatever the library raises
        raise RefusedError("unauthenticated", "a certificate's key cannot be read") from None
    if isinstance(key, rsa.RSAPublicKey):
        good = MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    elif isinstance(key, ec.EllipticCurvePublicKey):
        good = isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
    else:
        good = isinstance(key, ed25519.Ed25519PublicKey)
    if not good:
        raise RefusedError(
            "unauthenticated", "a certificate's key is too weak, or of a kind that is not taken"
        )
