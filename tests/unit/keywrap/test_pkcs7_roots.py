"""Which roots vouch for a certificate."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from boltseal.errors import KeyFileError, NotFoundError
from boltseal.keywrap.pkcs7 import paths
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
from support.chains import (
    EXPIRED,
    FIRST,
    FUTURE,
    LEAF,
    MIDDLE,
    OTHER,
    ROOT,
    SECOND,
    leaf,
    refused,
    take,
    unknown,
)
from support.peers import require

if TYPE_CHECKING:
    from pathlib import Path


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
