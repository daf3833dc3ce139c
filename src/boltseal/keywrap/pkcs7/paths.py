"""Whether a root that the caller trusts vouches for a certificate (RFC 5280 section 6).

PyCA's validator finds and checks the path: signatures, time, basic constraints and path lengths,
name constraints, critical extensions, RSA keys of 2048 bits or more. It does not ask for
revocations, and neither do we.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boltseal._io.files import read_user_file
from boltseal.errors import KeyFileError
from boltseal.keywrap.pkcs7 import certificates
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.x509 import verification

    from boltseal.keywrap.options import KeyOptions

_MAX_ROOTS_BYTES = 8 * MAX_KEY_FILE_BYTES
_NO_SIGNER = "keyCertSign"
# What the validator's reasons say, and what we say; the first that fits counts.
_REASONS = (
    ("not valid at validation time", "a certificate on the way to the root is out of its time"),
    ("name constraint", "an issuer's name constraints do not allow it"),
    ("nameConstraints", "an issuer's name constraints do not allow it"),
    ("path length", "an issuer on the way may not have issuers below it"),
    ("basicConstraints", "a certificate on the way is not an issuer's"),
    (_NO_SIGNER, "a certificate on the way is not an issuer's"),
    ("critical extension", "a certificate on the way has a critical extension that is not known"),
    ("X509v3", "a certificate on the way is not of version 3"),
    ("Forbidden", "a key or signature on the way is of a kind that is not accepted"),
    ("too weak", "a key on the way is too small"),
)


def check(chain: Sequence[x509.Certificate], label: str, options: KeyOptions) -> None:
    """Lead the first of ``chain``, over any of the others, to one of ``options.authorities``.

    Raises KeyFileError when there is no way, NotFoundError for a file of roots that is missing.
    """
    roots = _roots(options.authorities)
    if chain[0] in roots:  # trusted by itself; the caller has looked at its time
        return
    now = datetime.now(UTC)
    if options.allow_expired:  # as it was when the certificate was valid
        now = max(min(now, chain[0].not_valid_after_utc), chain[0].not_valid_before_utc)
    verifier = _verifier(roots, now)
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except Exception as error:  # noqa: BLE001  whatever the library raises
        reason = next((ours for theirs, ours in _REASONS if theirs in str(error)), None)
        raise KeyFileError(
            f"{label}: no root given with --ca vouches for {certificates.describe(chain[0])}"
            + (f" ({reason})" if reason else ""),
            hint="put intermediate certificates behind it in the same file, and check the root",
        ) from None


def _roots(files: Sequence[str]) -> list[x509.Certificate]:
    roots: list[x509.Certificate] = []
    for name in files:
        found = certificates.load(
            read_user_file(name, "root certificates", max_bytes=_MAX_ROOTS_BYTES), name
        )
        if not found:
            raise KeyFileError(f"{name} holds no certificate", hint="--ca takes PEM or DER")
        roots += found
    return roots


def _verifier(roots: list[x509.Certificate], when: datetime) -> verification.ClientVerifier:
    """A validator for certificates that are not web servers'.

    The policies for the web want more of authorities than RFC 5280 does: a key usage, basic
    constraints that are critical, an extended usage for clients. Companies' own have often less.
    Any name and any extended usage of the recipient will do, and its key usage is checked
    elsewhere.
    """
    from cryptography import x509
    from cryptography.x509 import verification

    everything = verification.ExtensionPolicy.permit_all()
    either = verification.Criticality.AGNOSTIC
    authority = everything.require_present(x509.BasicConstraints, either, None).may_be_present(
        x509.KeyUsage, either, _may_sign_certificates
    )
    return (
        verification.PolicyBuilder()
        .store(verification.Store(roots))
        .time(when)
        .extension_policies(ca_policy=authority, ee_policy=everything)
        .build_client_verifier()
    )


def _may_sign_certificates(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    """RFC 5280 section 6.1.4 (n): the bit has to be set where the extension is there."""
    if usage is not None and not usage.key_cert_sign:
        raise ValueError(_NO_SIGNER)
