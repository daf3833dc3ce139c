"""Which certificates may be recipients, and what may be behind one in its file."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from boltseal.errors import KeyFileError
from boltseal.keywrap.parse import parse_recipient
from boltseal.keywrap.pkcs7 import certificates
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
    leaf,
    refused,
    take,
    unknown,
)
from support.peers import require

if TYPE_CHECKING:
    from pathlib import Path


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
