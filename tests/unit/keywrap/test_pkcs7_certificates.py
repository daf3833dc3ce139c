"""Which certificates may be recipients, and which roots vouch for them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from boltseal.errors import KeyFileError, NotFoundError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_recipient
from boltseal.keywrap.pkcs7 import certificates, paths
from support.certificates import (
    AUTHORITY,
    RECIPIENT,
    Extension,
    Issued,
    constraints,
    issue,
    named,
    private_key,
    usage,
)
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEAF, FIRST, SECOND, OTHER = (private_key("rsa2048", n) for n in range(4))
EXPIRED, FUTURE = (-20.0, -10.0), (10.0, 20.0)


def take(path: Path, **options: Any) -> str:
    """The recipient's description; raises KeyFileError."""
    return parse_recipient(f"pkcs7:{path}", KeyOptions(**options)).describe()


def refused(path: Path, **options: Any) -> KeyFileError:
    with pytest.raises(KeyFileError) as failed:
        take(path, **options)
    assert str(path) in failed.value.message
    return failed.value


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize(
    "extensions",
    [
        (),
        (constraints(ca=False),),
        (usage("key_encipherment"),),
        (usage("key_encipherment", "digital_signature", critical=False),),
    ],
)
def test_usual_certificates_are_taken(
    tmp_path: Path, extensions: tuple[Extension, ...], critical: bool
) -> None:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    more: tuple[Extension, ...] = (*extensions, (x509.ExtendedKeyUsage(purposes), critical))
    made = issue("alice", LEAF, extensions=more)
    thumbprint = certificates.thumbprint(made.certificate)
    number = f"{made.certificate.serial_number:x}"
    shown = f"pkcs7 CN=alice, serial {number}, {thumbprint}"
    assert take(made.write(tmp_path, "alice")) == shown
    (tmp_path / "alice.der").write_bytes(made.certificate.public_bytes(Encoding.DER))
    assert take(tmp_path / "alice.der") == shown
    both = tmp_path / "both.pem"
    both.write_bytes(made.key_pem() + made.pem())
    assert take(both) == shown


@pytest.mark.parametrize(
    ("days", "reason"),
    [(EXPIRED, "the certificate expired on 2"), (FUTURE, "is not valid before 2")],
)
def test_certificates_out_of_their_time(
    tmp_path: Path, days: tuple[float, float], reason: str
) -> None:
    path = issue("alice", LEAF, extensions=RECIPIENT, days=days).write(tmp_path, "alice")
    error = refused(path)
    assert reason in error.message
    assert "--allow-expired" in str(error)
    assert "CN=alice" in take(path, allow_expired=True)


@pytest.mark.parametrize(
    "extension", [usage("digital_signature"), usage("key_agreement", critical=False), usage()]
)
def test_key_usages_that_forbid_encryption(tmp_path: Path, extension: Extension) -> None:
    path = issue("alice", LEAF, extensions=[extension]).write(tmp_path, "alice")
    error = refused(path)
    assert "key usage does not allow key encipherment" in error.message
    assert "--allow-expired" in str(error)
    assert "CN=alice" in take(path, allow_expired=True)


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_other_keys(tmp_path: Path, kind: str) -> None:
    path = issue("alice", private_key(kind)).write(tmp_path, "alice")
    assert "needs a certificate with an RSA key" in refused(path, allow_expired=True).message


def test_small_keys(tmp_path: Path) -> None:
    path = issue("alice", private_key("rsa1024")).write(tmp_path, "alice")
    assert "1024 bits is refused" in refused(path, allow_expired=True).message


def test_keys_that_are_for_signatures_alone(tmp_path: Path) -> None:
    path = tmp_path / "pss.pem"
    subprocess.run(
        [require("openssl"), "req", "-x509", "-newkey", "rsa-pss", "-nodes", "-subj", "/CN=pss",
         "-pkeyopt", "rsa_keygen_bits:2048", "-keyout", tmp_path / "key.pem", "-out", path],
        check=True,
        capture_output=True,
    )  # fmt: skip
    assert "for signatures (RSASSA-PSS) alone" in refused(path, allow_expired=True).message


def unknown(*, critical: bool) -> Extension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical


def test_critical_extensions_that_are_not_known(tmp_path: Path) -> None:
    """RFC 5280 section 4.2: such a certificate must be rejected."""
    path = issue("alice", LEAF, extensions=[unknown(critical=True)]).write(tmp_path, "alice")
    assert "critical extension that is not known (1.2.3.4)" in refused(path).message
    path = issue("bob", LEAF, extensions=[unknown(critical=False)]).write(tmp_path, "bob")
    assert "CN=bob" in take(path)


def test_extensions_that_cannot_be_read(tmp_path: Path) -> None:
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.15"), b"\x30\x00")
    path = issue("alice", LEAF, extensions=[(broken, False)]).write(tmp_path, "alice")
    assert "extensions cannot be read" in refused(path).message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no certificate"),
        (b"junk", "holds no certificate"),
        (b"\x30\x03\x02\x01\x05", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n!\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n" * 201, "over 200 certificates"),
    ],
)
def test_files_without_a_certificate(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert reason in refused(path).message


def test_a_public_key_is_no_certificate(tmp_path: Path, keys: Path) -> None:
    error = refused(keys / "rsa2048.pub.pem")
    assert "holds no certificate" in error.message
    assert error.hint is not None
    assert error.hint == f"it is a public key: write jwe:{keys}/rsa2048.pub.pem"


def test_names_from_outside_are_shown_on_one_line(tmp_path: Path) -> None:
    name = named("a\nb\x1b[31m", ORGANIZATION_NAME="o" * 64)
    described = take(issue(name, LEAF).write(tmp_path, "alice"))
    assert described.isprintable()
    assert "a?b?[31m" in described
    assert "a certificate without a name" in take(issue(x509.Name([]), LEAF).write(tmp_path, "bob"))


ROOT = issue("root", FIRST, extensions=AUTHORITY)
MIDDLE = issue("middle", SECOND, by=ROOT, extensions=AUTHORITY)


def leaf(by: Issued = MIDDLE, extensions: Sequence[Extension] = RECIPIENT) -> Issued:
    return issue("alice", LEAF, by=by, extensions=extensions)


SCHEMES = ("pkcs7", "jwe", "pkcs11")


def test_a_file_is_for_one_recipient(tmp_path: Path) -> None:
    """Otherwise the others would be left out, or an authority would be the recipient."""
    alice = leaf()
    renewed = issue("root", FIRST, extensions=AUTHORITY, days=(-2, 90))
    alone = {one: parse_recipient(f"{one}:{alice.write(tmp_path, 'alone')}") for one in SCHEMES}
    for name, behind in (
        ("chain", (MIDDLE, ROOT)),
        ("any-order", (ROOT, MIDDLE, alice)),
        ("middle", (MIDDLE,)),
        ("two-roots", (MIDDLE, ROOT, renewed)),
    ):
        path = alice.write(tmp_path, name, *behind)
        for scheme in SCHEMES:
            found = parse_recipient(f"{scheme}:{path}").describe()
            assert found.replace(str(path), "") == alone[scheme].describe().replace(
                str(tmp_path / "alone.crt.pem"), ""
            )


# an authority's own certificate may be used by itself, if its usage allows that
FREE = issue("root", FIRST, extensions=[constraints(ca=True)])
TWICE = [issue("twin", key, extensions=RECIPIENT) for key in (LEAF, OTHER)]
STRANGERS: dict[str, tuple[tuple[Issued, ...], str]] = {
    "two": ((leaf(), issue("bob", OTHER, by=MIDDLE, extensions=RECIPIENT)), "CN=bob"),
    "two and their chain": (
        (leaf(), MIDDLE, issue("bob", OTHER, by=MIDDLE, extensions=RECIPIENT), ROOT),
        "CN=bob",
    ),
    "a gap": ((leaf(), ROOT), "CN=root"),
    "the authority first": ((FREE, leaf(FREE)), "CN=alice"),
    "two of one name": (tuple(TWICE), "CN=twin"),
    "an issuer by name alone": (
        (leaf(), issue("middle", OTHER, by=ROOT, extensions=AUTHORITY), ROOT),
        "CN=middle",
    ),
    "a root by name alone": (
        (leaf(), MIDDLE, issue("root", OTHER, extensions=AUTHORITY)),
        "CN=root",
    ),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("case", STRANGERS)
def test_what_is_behind_a_certificate_has_signed_it(tmp_path: Path, case: str, scheme: str) -> None:
    chain, stranger = STRANGERS[case]
    path = chain[0].write(tmp_path, "file", *chain[1:])
    with pytest.raises(KeyFileError) as failed:
        parse_recipient(f"{scheme}:{path}")
    first = certificates.describe(chain[0].certificate)
    assert f"{stranger} is no issuer of the first, {first}" in failed.value.message
    assert str(path) in failed.value.message
    assert failed.value.hint == (
        "put the recipient's first, then its issuers; one file for each recipient"
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_recipients_chain_is_short(tmp_path: Path, scheme: str) -> None:
    """Each of them may be a signature to verify."""
    path = leaf().write(tmp_path, "long", *[MIDDLE] * 32)
    with pytest.raises(KeyFileError, match="33 certificates, and one recipient's are 32 at most"):
        parse_recipient(f"{scheme}:{path}")


@pytest.mark.parametrize("scheme", ["jwe", "pkcs11"])
def test_a_key_beside_its_certificate(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "both.pem"
    made = leaf()
    for key, fits in ((LEAF, True), (OTHER, False)):
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(public + made.pem())
        if fits:
            assert parse_recipient(f"{scheme}:{path}")
        else:
            with pytest.raises(KeyFileError, match="and a certificate of another one"):
                parse_recipient(f"{scheme}:{path}")


def roots(folder: Path, *trusted: Issued) -> tuple[str, ...]:
    path = folder / "roots.pem"
    path.write_bytes(b"".join(one.pem() for one in trusted))
    return (str(path),)


IDENTIFIED = (
    (x509.SubjectKeyIdentifier.from_public_key(FIRST.public_key()), False),
    (x509.AuthorityKeyIdentifier.from_issuer_public_key(FIRST.public_key()), False),
)
P256, P521 = private_key("p256"), private_key("p521")


def purpose(*which: Any, critical: bool = False) -> Extension:
    return x509.ExtendedKeyUsage(which), critical


@pytest.mark.parametrize(
    "root",
    [
        ROOT,
        issue("root", FIRST, extensions=[constraints(ca=True)]),
        issue("root", FIRST, extensions=[constraints(ca=True, critical=False)]),
        issue("root", FIRST, extensions=[*AUTHORITY, *IDENTIFIED]),
        issue("root", FIRST, extensions=[constraints(ca=True, path_length=1), *AUTHORITY[1:]]),
        issue("root", P256, extensions=AUTHORITY),
        issue("root", P521, extensions=AUTHORITY),
        issue("root", private_key("rsa3072"), extensions=AUTHORITY),
    ],
    ids=["usual", "openssl's", "not critical", "identifiers", "path 1", "P-256", "P-521", "3072"],
)
@pytest.mark.parametrize(
    "middle_extensions",
    [
        AUTHORITY,
        (constraints(ca=True, path_length=0), *AUTHORITY[1:]),
        (*AUTHORITY, purpose(ExtendedKeyUsageOID.EMAIL_PROTECTION)),
    ],
    ids=["usual", "path 0", "mail"],
)
def test_a_companys_chains_are_accepted(
    tmp_path: Path, root: Issued, middle_extensions: tuple[Extension, ...]
) -> None:
    middle = issue("middle", SECOND, by=root, extensions=middle_extensions)
    authorities = roots(tmp_path, issue("unrelated", OTHER, extensions=AUTHORITY), root)
    for extensions in (
        (),
        RECIPIENT,
        (*RECIPIENT, purpose(ExtendedKeyUsageOID.CLIENT_AUTH)),
        (*RECIPIENT, purpose(ExtendedKeyUsageOID.EMAIL_PROTECTION, critical=True)),
        (*RECIPIENT, (x509.SubjectAlternativeName([x509.RFC822Name("a@example.org")]), False)),
    ):
        alice = leaf(middle, extensions)
        assert "CN=alice" in take(alice.write(tmp_path, "a", middle), authorities=authorities)
        assert "CN=alice" in take(alice.write(tmp_path, "b", middle, root), authorities=authorities)
    direct = leaf(root)
    assert "CN=alice" in take(direct.write(tmp_path, "c"), authorities=authorities)


def constrained(**names: list[x509.GeneralName]) -> Issued:
    limits = x509.NameConstraints(
        permitted_subtrees=names.get("permitted"), excluded_subtrees=names.get("excluded")
    )
    return issue("middle", SECOND, by=ROOT, extensions=[*AUTHORITY, (limits, True)])


def with_name(by: Issued, name: x509.GeneralName) -> Issued:
    return leaf(by, [*RECIPIENT, (x509.SubjectAlternativeName([name]), False)])


MAIL_ONLY = constrained(permitted=[x509.RFC822Name("example.org")])
NOT_EVIL = constrained(excluded=[x509.DNSName("evil.example")])
DIRECTORY = constrained(permitted=[x509.DirectoryName(named("other"))])
NO_BASIC = issue("middle", SECOND, by=ROOT, extensions=RECIPIENT)
PLAIN = issue("middle", SECOND, by=ROOT, extensions=[constraints(ca=False), *RECIPIENT])
SHORT = issue("root", FIRST, extensions=[constraints(ca=True, path_length=0), *AUTHORITY[1:]])
BELOW_SHORT = issue("middle", SECOND, by=SHORT, extensions=AUTHORITY)
NO_SIGNER = issue("middle", SECOND, by=ROOT, extensions=[constraints(ca=True), *RECIPIENT])
STRANGE = issue("middle", SECOND, by=ROOT, extensions=[*AUTHORITY, unknown(critical=True)])
SMALL = issue("root", private_key("rsa1024"), extensions=AUTHORITY)
ED25519 = issue("root", private_key("ed25519"), extensions=AUTHORITY)
FALSE_ROOT = issue("root", OTHER, extensions=AUTHORITY)
OLD = issue("middle", SECOND, by=ROOT, extensions=AUTHORITY, days=EXPIRED)
OLD_ROOT = issue("root", FIRST, extensions=AUTHORITY, days=EXPIRED)
SELF_MADE = issue("alice", LEAF, extensions=RECIPIENT)

REFUSED: dict[str, tuple[Issued, tuple[Issued, ...], str]] = {
    "another root of the same name": (FALSE_ROOT, (leaf(), MIDDLE), ""),
    "another root": (issue("other", OTHER, extensions=AUTHORITY), (leaf(), MIDDLE), ""),
    "no intermediate": (ROOT, (leaf(),), ""),
    "expired intermediate": (ROOT, (leaf(OLD), OLD), "out of its time"),
    "expired root": (OLD_ROOT, (leaf(), MIDDLE), "out of its time"),
    "a recipient as issuer": (ROOT, (leaf(NO_BASIC), NO_BASIC), "not an issuer's"),
    "a recipient as issuer, and says so": (ROOT, (leaf(PLAIN), PLAIN), "not an issuer's"),
    "an issuer that may not sign": (ROOT, (leaf(NO_SIGNER), NO_SIGNER), "not an issuer's"),
    "too long": (SHORT, (leaf(BELOW_SHORT), BELOW_SHORT), "may not have issuers below"),
    "a name that is not permitted": (
        ROOT,
        (with_name(MAIL_ONLY, x509.RFC822Name("a@evil.example")), MAIL_ONLY),
        "name constraints",
    ),
    "a name that is excluded": (
        ROOT,
        (with_name(NOT_EVIL, x509.DNSName("a.evil.example")), NOT_EVIL),
        "name constraints",
    ),
    "a constraint on directory names": (ROOT, (leaf(DIRECTORY), DIRECTORY), "name constraints"),
    "a critical extension": (ROOT, (leaf(STRANGE), STRANGE), "critical extension"),
    "a small root": (SMALL, (leaf(SMALL),), "too small"),
    "an Ed25519 root": (ED25519, (leaf(ED25519),), "of a kind that is not accepted"),
    "self-signed": (ROOT, (SELF_MADE,), ""),
    "self-signed, same name in the store": (issue("alice", LEAF, days=(-2, 9)), (SELF_MADE,), ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_chains_that_lead_nowhere(tmp_path: Path, case: str) -> None:
    root, chain, reason = REFUSED[case]
    path = chain[0].write(tmp_path, "alice", *chain[1:])
    error = refused(path, authorities=roots(tmp_path, root))
    assert "no root given with --ca vouches for CN=alice" in error.message
    assert reason in error.message
    assert "\n" not in str(error)
    assert "CN=alice" in take(path), "without --ca nobody has to vouch"


def test_names_that_are_permitted(tmp_path: Path) -> None:
    authorities = roots(tmp_path, ROOT)
    for made, by in (
        (with_name(MAIL_ONLY, x509.RFC822Name("a@example.org")), MAIL_ONLY),
        (with_name(NOT_EVIL, x509.DNSName("a.good.example")), NOT_EVIL),
    ):
        assert "CN=alice" in take(made.write(tmp_path, "alice", by), authorities=authorities)


def test_a_certificate_that_is_trusted_itself(tmp_path: Path) -> None:
    path = SELF_MADE.write(tmp_path, "alice")
    assert "CN=alice" in take(path, authorities=(str(path),))
    # that does not make up for its time or its usage
    old = issue("old", LEAF, days=EXPIRED).write(tmp_path, "old")
    assert "expired" in refused(old, authorities=(str(old),)).message
    signing = issue("signing", LEAF, extensions=[usage("digital_signature")])
    path = signing.write(tmp_path, "signing")
    assert "key usage" in refused(path, authorities=(str(path),)).message


@pytest.mark.parametrize("days", [EXPIRED, FUTURE])
def test_the_time_that_counts_with_allow_expired(tmp_path: Path, days: tuple[float, float]) -> None:
    """The path is looked at as it was when the certificate was valid; it still has to be there."""
    root = issue("root", FIRST, extensions=AUTHORITY, days=(-30, 30))
    made = issue("alice", LEAF, by=root, extensions=RECIPIENT, days=days)
    path = made.write(tmp_path, "alice")
    refused(path, authorities=roots(tmp_path, root))
    assert "CN=alice" in take(path, authorities=roots(tmp_path, root), allow_expired=True)
    error = refused(path, authorities=roots(tmp_path, FALSE_ROOT), allow_expired=True)
    assert "vouches" in error.message


def test_certificates_of_version_1(tmp_path: Path) -> None:
    """What OpenSSL makes of a request when no extensions are given."""
    ROOT.write(tmp_path, "root")
    openssl = require("openssl")
    for arguments in (
        ["req", "-new", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=alice", "-keyout",
         "key.pem", "-out", "alice.csr"],
        ["x509", "-req", "-in", "alice.csr", "-CA", "root.crt.pem", "-CAkey", "root.pem",
         "-set_serial", "5", "-out", "alice.pem"],
    ):  # fmt: skip
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=tmp_path)
    path = tmp_path / "alice.pem"
    assert "CN=alice, serial 5" in take(path)
    error = refused(path, authorities=(str(tmp_path / "root.crt.pem"),))
    assert "not of version 3" in error.message


def test_files_of_roots(tmp_path: Path) -> None:
    alice = leaf(ROOT).write(tmp_path, "alice")
    (tmp_path / "root.der").write_bytes(ROOT.certificate.public_bytes(Encoding.DER))
    (tmp_path / "empty").write_bytes(b"")
    take(alice, authorities=(str(tmp_path / "root.der"),))
    other = roots(tmp_path, FALSE_ROOT)
    take(alice, authorities=(*other, str(tmp_path / "root.der")))
    with pytest.raises(KeyFileError, match="empty holds no certificate"):
        take(alice, authorities=(str(tmp_path / "empty"),))
    with pytest.raises(NotFoundError, match="does not exist"):
        take(alice, authorities=(str(tmp_path / "missing"),))


def test_every_reason_of_the_validator_is_one_it_gives() -> None:
    """The words are the library's: a new version that changes them fails here."""
    told = {reason for _, _, reason in REFUSED.values()} | {"not of version 3"}
    for _, ours in paths._REASONS:
        assert any(reason and reason in ours for reason in told), ours
