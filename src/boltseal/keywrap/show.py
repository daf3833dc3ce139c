"""What a key file is: kind, size, names, and the protocols it serves."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal.errors import IntegrityError, KeyFileError
from boltseal.keywrap import envelope, identity_files, packets, secrets
from boltseal.keywrap.options import KeyOptions
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from cryptography import x509

    from boltseal.jose.jwk import Key
    from boltseal.keywrap.base import Identity, WrappedKey

_PRIVATE = b"PRIVATE KEY"
_SCHEMES = (
    *("jwe", "pkcs7", "pgp", "pkcs11"),
    *(names.QUANTUM_SAFE, names.KEY_SERVICE, names.BROKER),
)


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """One certificate; days as ``YYYY-MM-DD``."""

    subject: str
    issuer: str
    serial: str
    not_before: str
    not_after: str
    problem: str | None = None  # why it may not be a recipient


@dataclass(frozen=True, slots=True)
class KeyReport:
    """One key. ``thumbprint`` is how ``inspect`` names it; ``recipients`` and ``opens`` are how it
    may be named with ``-r``, and the protocols whose packets it opens.
    """

    name: str
    kind: str
    private: bool
    thumbprint: str | None = None
    recipients: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    certificates: tuple[CertificateReport, ...] = ()
    in_packets: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    """Scheme and name, as packets have them."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        document = asdict(self)
        del document["in_packets"]
        return document

    def is_named_by(self, key: WrappedKey) -> bool:
        """Whether a wrapped key of an image names this key."""
        # a provider's packet is named with the scheme inside of it
        scheme = key.scheme.rpartition(" (")[2].rstrip(")")
        return key.recipient is not None and (scheme, key.recipient) in self.in_packets


def show_key(text: str, options: KeyOptions | None = None) -> KeyReport:
    """What a file, or anything else that ``-k`` takes, is.

    Raises KeyFileError for what is no key, and what reading raises.
    """
    options = options or KeyOptions()
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("jwe", "pkcs7", "pq") and not os.path.exists(scheme):
        text = rest  # a recipient, as it is named elsewhere
    elif scheme == "broker" and os.path.isfile(rest):
        raw = identity_files.read_key_file(rest)
        text = rest if envelope.kind(raw.strip()) == envelope.BROKER_KEY else text  # or settings
    from boltseal.keywrap.parse import special_identity

    special = special_identity(text, options)
    if special is not None:
        return _identity(text, special, "a key that is not in a file")
    path, how = identity_files.split(text)
    if os.path.isdir(path):
        raise KeyFileError(f"{path} is a folder of keys", hint="name one key of it")
    raw = identity_files.read_key_file(path)

    def passphrase() -> bytes | None:
        if how is not None:
            return secrets.read(how, options.environment)
        return options.ask(path) if options.ask is not None else None

    public = _public(raw, path, options)
    if public is not None:
        return public
    loaded = identity_files.load_bytes(raw, path, passphrase, options, given=how is not None)
    if loaded.identity is None:
        raise KeyFileError(f"{path} holds no key")
    found = _private(loaded.identity, path)
    return _with_certificates(found, loaded.certificates, path, options)


def _public(raw: bytes, path: str, options: KeyOptions) -> KeyReport | None:
    """A public key or certificates; None for what has to be read as a private key."""
    if _PRIVATE in raw or (raw.lstrip()[:1] == b"{" and b'"d"' in raw):
        return None
    if envelope.kind(raw.strip()) == envelope.BROKER_KEY:
        return _broker(raw, path)
    from boltseal.keywrap.keyfiles import load_public
    from boltseal.keywrap.pkcs7 import certificates
    from boltseal.keywrap.pq import hybrid

    quantum_safe = hybrid.load_public(raw)
    if quantum_safe is not None:
        return KeyReport(
            path,
            hybrid.KIND,
            private=False,
            thumbprint=quantum_safe.thumbprint,
            recipients=(f"pq:{path}",),
            in_packets=frozenset({(names.QUANTUM_SAFE, quantum_safe.thumbprint)}),
        )
    try:
        key = load_public(raw, path)
    except KeyFileError:
        if certificates.load(raw, path):
            raise  # why it is no recipient; as a private key it would be read in vain
        return None
    found = _jwe(key, path, private=False)
    return _with_certificates(found, tuple(certificates.load(raw, path)), path, options)


def _broker(raw: bytes, path: str) -> KeyReport:
    """The public half of a key that a broker holds."""
    from boltseal.keywrap.broker import public

    try:
        found = public.parse(raw, path)
    except IntegrityError as error:
        raise KeyFileError(error.message, hint=error.hint) from None
    named = f"{found.key}@{found.version}"
    return KeyReport(
        path,
        f"key broker's {found.algorithm}, {named} at {', '.join(found.brokers[:3])}",
        private=False,
        thumbprint=found.fingerprint,
        recipients=(f"broker:{path}",),
        in_packets=frozenset({(names.BROKER, named), (names.BROKER, found.fingerprint)}),
    )


def _jwe(key: Key, path: str, *, private: bool) -> KeyReport:
    is_rsa = key.kty == "RSA"
    return KeyReport(
        path,
        key.describe(),
        private=private,
        thumbprint=key.thumbprint,
        recipients=() if private else (f"jwe:{path}", *((f"pkcs11:{path}",) if is_rsa else ())),
        opens=(("jwe", "pkcs7") if is_rsa else ("jwe",)) if private else (),
        in_packets=frozenset({("jwe", key.thumbprint), ("pkcs11", key.thumbprint)}),
    )


def _private(identity: Identity, path: str) -> KeyReport:
    from boltseal.keywrap.identity_files import FileIdentity
    from boltseal.keywrap.jwe import JweIdentity
    from boltseal.keywrap.pq.keys import HybridIdentity

    if isinstance(identity, FileIdentity) and isinstance(identity.members[0], JweIdentity):
        return _jwe(identity.members[0].key, path, private=True)
    if isinstance(identity, HybridIdentity):
        from boltseal.keywrap.pq import hybrid

        thumbprint = identity.key.public_key().thumbprint
        return KeyReport(
            path,
            hybrid.KIND,
            private=True,
            thumbprint=thumbprint,
            opens=("pq",),
            in_packets=frozenset({(names.QUANTUM_SAFE, thumbprint)}),
        )
    if identity.handles("pgp"):
        return _openpgp(identity, path)
    return _identity(path, identity, "a key in a token")


def _openpgp(identity: Identity, path: str) -> KeyReport:
    from boltseal.keywrap.pgp.files import PgpFileIdentity

    assert isinstance(identity, PgpFileIdentity), "an exported key"
    found = identity.exported
    return KeyReport(
        path,
        f"OpenPGP, {found.name or 'without a name'}",
        private=True,
        thumbprint=", ".join(found.keys),
        opens=("pgp",),
        in_packets=frozenset(("pgp", key_id) for key_id in found.keys),
    )


def _identity(text: str, identity: Identity, kind: str) -> KeyReport:
    opens = tuple(scheme for scheme in _SCHEMES if identity.handles(scheme))
    if text.startswith("provider:"):
        opens = ("provider",)
    return KeyReport(identity.describe(), kind, private=True, opens=opens)


def _with_certificates(
    report: KeyReport, found: tuple[x509.Certificate, ...], path: str, options: KeyOptions
) -> KeyReport:
    """The same key, with what its certificates add."""
    if not found:
        return report
    from dataclasses import replace

    from boltseal.keywrap.pkcs7 import certificates, packet

    packet_names = set(report.in_packets)
    for one in found[:1]:  # those behind it are its issuers'
        subject = certificates.subject_of(one)
        issuer = packet.common_name(subject.issuer)
        info = packet.RecipientInfo(subject.issuer, subject.serial, b"")
        packet_names.add(("pkcs7", packet.exact_name(info)))
        packet_names.add(("pkcs7", str(packets.cut(f"serial {subject.serial:x}, issuer {issuer}"))))
    reports = tuple(_certificate(one, path, options) for one in found)
    is_recipient = reports[0].problem is None and not report.private
    more = (f"pkcs7:{path}",) if is_recipient else ()
    return replace(
        report,
        recipients=(*report.recipients, *more),
        certificates=reports,
        in_packets=frozenset(packet_names),
    )


def _certificate(one: x509.Certificate, path: str, options: KeyOptions) -> CertificateReport:
    from boltseal.keywrap.pkcs7 import certificates

    problem = None
    try:
        certificates.rsa_key(one, path, options)
        certificates.check([one], path, options)
    except KeyFileError as error:
        problem = error.message.removeprefix(f"{path}: ")
    return CertificateReport(
        subject=certificates.describe(one),
        issuer=one.issuer.rfc4514_string()[:200],
        serial=f"{one.serial_number:x}",
        not_before=str(one.not_valid_before_utc.date()),
        not_after=str(one.not_valid_after_utc.date()),
        problem=problem,
    )
