"""Client certificates: which are taken, what they say, and every way in which one is not good."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from boltseal._io import der
from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.model import Assurance, PrincipalKind, RefusedError
from support import certificates
from support.broker_identity import (
    CLIENT,
    NOW,
    SIGNS,
    FixedSnapshot,
    authority,
    client,
    presented,
    sans,
    trust,
)
from support.certificates import AUTHORITY, constraints, issue, usage

if TYPE_CHECKING:
    from boltseal.broker.model import Principal
    from support.certificates import Issued

ROOT = authority("EU clusters")
OTHER = authority("US clusters", 1)


def pem(*some: Issued) -> str:
    return b"".join(one.pem() for one in some).decode()


def snapshot(**config: Any) -> FixedSnapshot:
    return FixedSnapshot([trust("eu", "x509", ca=pem(ROOT), **config)])


def ask(*chain: Issued, now: int = NOW, **config: Any) -> Principal:
    return authenticate(snapshot(**config), presented(*chain), now, Known())


def refused(*chain: Issued, **config: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        ask(*chain, **config)
    assert caught.value.code == "unauthenticated"
    return caught.value.detail


def test_a_host_of_the_authority() -> None:
    leaf = client(ROOT, sans("urn:boltseal:label:region=eu"), days=(-1, 5))
    one = ask(leaf, labels={"env": "prod"}, label_uris=["region"], cluster="eu-1")
    assert (one.kind, one.tenant, one.id) == (PrincipalKind.HOST, "default", "x509:eu:host-1")
    assert one.labels == {"env": "prod", "region": "eu"}
    assert one.cluster == "eu-1"
    assert one.assurance is Assurance.SIGNED
    assert {claim.name: claim.value for claim in one.claims}["name"] == "host-1"
    fingerprint = leaf.certificate.fingerprint(hashes.SHA256()).hex()
    wanted = {
        "identity:x509:eu:host-1",
        f"certificate:{fingerprint}",
        f"serial:eu:{leaf.certificate.serial_number:x}",
        "trust:eu",
    }
    assert wanted <= set(one.credentials)
    assert one.not_after == int(leaf.certificate.not_valid_after_utc.timestamp())


def test_an_intermediate_has_to_be_sent() -> None:
    middle = authority("middle", 2, by=ROOT)
    leaf = client(middle)
    assert ask(leaf, middle).id == "x509:eu:host-1"
    refused(leaf)


def test_an_authority_need_not_be_a_root() -> None:
    middle = authority("middle", 2, by=OTHER)
    found = FixedSnapshot([trust("eu", "x509", ca=pem(middle))])
    one = authenticate(found, presented(client(middle), middle), NOW, Known())
    assert one.id == "x509:eu:host-1"


def no_authority() -> list[Issued]:
    middle = authority("middle", 2, by=ROOT, extensions=(constraints(ca=False), SIGNS))
    return [client(middle), middle]


def no_constraints() -> list[Issued]:
    middle = authority("middle", 2, by=ROOT, extensions=(usage("key_cert_sign"),))
    return [client(middle), middle]


def may_not_sign() -> list[Issued]:
    middle = authority("middle", 2, by=ROOT, extensions=(constraints(ca=True), SIGNS))
    return [client(middle), middle]


def for_servers() -> list[Issued]:
    servers = extended(ExtendedKeyUsageOID.SERVER_AUTH)
    middle = authority("middle", 2, by=ROOT, extensions=(*AUTHORITY, servers))
    return [client(middle), middle]


def too_long() -> list[Issued]:
    short = (constraints(ca=True, path_length=0), usage("key_cert_sign"))
    first = authority("first", 2, by=ROOT, extensions=short)
    second = authority("second", 3, by=first)
    return [client(second), second, first]


def weak_middle() -> list[Issued]:
    middle = issue("middle", certificates.private_key("rsa1024"), by=ROOT, extensions=AUTHORITY)
    return [client(middle), middle]


def constrained(permitted: x509.GeneralName, *names: Any) -> list[Issued]:
    limits = x509.NameConstraints([permitted], None), True
    middle = authority("middle", 2, by=ROOT, extensions=(*AUTHORITY, limits))
    return [client(middle, *names), middle]


def same_name() -> list[Issued]:
    """An authority that calls itself what the real one is called."""
    forged = authority("EU clusters", 9)
    return [client(forged), forged]


def extended(oid: x509.ObjectIdentifier) -> Any:
    return x509.ExtendedKeyUsage([oid]), False


def unknown_critical() -> Any:
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    return x509.UnrecognizedExtension(oid, b"\x05\x00"), True


BAD = {
    "another authority": (lambda: [client(OTHER)], "no trust has its issuer"),
    "another authority, sent along": (lambda: [client(OTHER), OTHER], "no trust has its issuer"),
    "a forged authority": (same_name, "validation failed"),
    "signed by itself": (lambda: [client(None)], "no trust has its issuer"),
    "the authority itself": (lambda: [ROOT], "CA:TRUE"),
    "expired": (lambda: [client(ROOT, days=(-9, -1))], "not valid at validation time"),
    "not yet valid": (lambda: [client(ROOT, days=(1, 9))], "not valid at validation time"),
    "no usage": (lambda: [client(ROOT, usages=(SIGNS,))], "no usage clientAuth"),
    "usage for servers": (
        lambda: [client(ROOT, usages=(extended(ExtendedKeyUsageOID.SERVER_AUTH), SIGNS))],
        "no usage clientAuth",
    ),
    "any usage": (
        lambda: [
            client(ROOT, usages=(extended(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE), SIGNS))
        ],
        "no usage clientAuth",
    ),
    "a key that may not sign": (
        lambda: [client(ROOT, usages=(CLIENT, usage("key_agreement")))],
        "key may not sign",
    ),
    "CA:TRUE": (lambda: [client(ROOT, constraints(ca=True))], "CA:TRUE"),
    "a weak key": (lambda: [client(ROOT, key="rsa1024")], "too weak"),
    "an unknown critical extension": (
        lambda: [client(ROOT, unknown_critical())],
        "unaccounted-for critical",
    ),
    "no common name": (
        lambda: [client(ROOT, sans(dns=["a.example"]), name=None)],
        "0 names of kind common-name",
    ),
    "control characters": (lambda: [client(ROOT, name="host-1\x1b[2J")], "control characters"),
    "an intermediate that is none": (no_authority, "cA must be asserted"),
    "an intermediate without constraints": (no_constraints, "no basicConstraints"),
    "an intermediate that may not sign": (may_not_sign, "may not sign certificates"),
    "an intermediate for servers": (for_servers, "may not vouch for clients"),
    "a path that is too long": (too_long, "path length"),
    "an intermediate with a weak key": (weak_middle, "too weak"),
    "another DNS name": (
        lambda: constrained(x509.DNSName("eu.example"), sans(dns=["a.us.example"])),
        "no permitted name constraints",
    ),
    "a common name round the constraints": (
        lambda: constrained(x509.DNSName("eu.example")),
        "common name is no DNS name",
    ),
    "constraints that nobody checks": (
        lambda: constrained(
            x509.UniformResourceIdentifier("eu.example"), sans("https://a.eu.example/")
        ),
        "unsupported name constraint",
    ),
    "too many": (lambda: [client(ROOT), *[OTHER] * 8], "over 8 certificates"),
    "several of one name": (
        lambda: [client(ROOT), *(authority("EU clusters", place) for place in (3, 4))],
        "two authorities of one name",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_certificate_that_is_not_good(what: str) -> None:
    make, reason = BAD[what]
    found = refused(*make())
    assert reason in found
    assert "Certificate(" not in found


def test_sha1() -> None:
    """The library does not make such a certificate: the signature is put into another one."""
    good = client(ROOT)
    tbs = good.certificate.tbs_certificate_bytes
    rsa_root = issue("RSA", certificates.private_key("rsa2048"), extensions=AUTHORITY)
    found = FixedSnapshot([trust("rsa", "x509", ca=pem(rsa_root))])
    leaf = client(rsa_root)
    assert authenticate(found, presented(leaf), NOW, Known()).id == "x509:rsa:host-1"
    sha256 = bytes.fromhex("2a864886f70d01010b")
    sha1 = bytes.fromhex("2a864886f70d010105")
    tbs = leaf.certificate.tbs_certificate_bytes.replace(sha256, sha1)
    from cryptography.hazmat.primitives.asymmetric import padding

    signature = rsa_root.key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    algorithm = der.encode(der.SEQUENCE, b"\x06\x09" + sha1 + b"\x05\x00")
    raw = der.encode(der.SEQUENCE, tbs + algorithm + der.encode(3, b"\x00" + signature))
    made = x509.load_der_x509_certificate(raw)
    assert isinstance(made.signature_hash_algorithm, hashes.SHA1)
    request = dataclasses.replace(presented(leaf), chain=(raw,))
    with pytest.raises(RefusedError, match=r"(?i)signature algorithm|forbidden"):
        authenticate(found, request, NOW, Known())


def test_what_is_no_certificate() -> None:
    for chain in ((b"",), (b"\x30\x00",), (b"x" * 70_000,), (b"\x30\x82\x01\x00" + bytes(256),)):
        request = dataclasses.replace(presented(), chain=chain)
        with pytest.raises(RefusedError) as caught:
            authenticate(snapshot(), request, NOW, Known())
        assert caught.value.code == "unauthenticated"


def test_names() -> None:
    both = sans("https://a.example/x", "urn:boltseal:label:env=prod", dns=["a"], email=["m@a.b"])
    leaf = client(ROOT, both, name="J. Müller/1%")
    assert ask(leaf).id == "x509:eu:J.%20M%C3%BCller/1%25"
    assert ask(leaf, name="dns").id == "x509:eu:a"
    assert ask(leaf, name="email", kind="Person").kind is PrincipalKind.PERSON
    assert ask(leaf, name="uri").id == "x509:eu:https://a.example/x"
    key = leaf.certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert ask(leaf, name="key").id == f"x509:eu:sha256:{hashlib.sha256(key).hexdigest()}"
    refused(client(ROOT, sans(dns=["a", "b"])), name="dns")
    assert "names" in refused(leaf, names=["host-*", "*.example"])
    assert ask(client(ROOT), names=["host-*"]).id == "x509:eu:host-1"
    assert refused(client(ROOT), usages=["1.2.3"]).endswith("usage 1.2.3")
    inside = constrained(x509.DNSName("eu.example"), sans(dns=["a.eu.example"]))
    assert ask(*inside, name="dns").id == "x509:eu:a.eu.example"


LABELS = "urn:boltseal:label:"
BAD_LABELS = {
    "two in one": [LABELS + "env=prod,region=eu"],
    "another value": [LABELS + "env=prod", LABELS + "env=dev"],
    "no value": [LABELS + "env="],
    "no name": [LABELS + "=prod"],
    "no equals": [LABELS + "env"],
    "an escape": [LABELS + "env=pr%6Fd"],
    "a NUL": [LABELS + "env=prod\x00.example"],
    "a line": [LABELS + "env=prod\n"],
    "a space": [LABELS + "env= prod"],
    "two equals": [LABELS + "env=prod=dev"],
    "capitals": [LABELS + "ENV=prod"],
    "a look-alike of the prefix": ["URN:boltseal:label:env=prod"],
    "another word": ["urn:boltseal:labels:env=prod"],
    "a point": [LABELS + "host.env=prod"],
    "too long": [LABELS + "env=" + "a" * 256],
    "too many": [f"https://a.example/{place}" for place in range(65)],
}


@pytest.mark.parametrize("what", BAD_LABELS)
def test_labels_that_are_none(what: str) -> None:
    refused(client(ROOT, sans(*BAD_LABELS[what])), label_uris=["env", "region"])


def test_a_look_alike_in_a_label() -> None:
    """The library writes ASCII alone, so a letter is changed afterwards, and it is signed again."""
    leaf = client(ROOT, sans(LABELS + "env=prod"))
    tbs = leaf.certificate.tbs_certificate_bytes.replace(b"env=prod", b"env=pr\xd0\xbe")
    assert tbs != leaf.certificate.tbs_certificate_bytes
    request = dataclasses.replace(presented(leaf), chain=(_signed(tbs),))
    with pytest.raises(RefusedError, match="a label 'env' that is none"):
        authenticate(snapshot(label_uris=["env"]), request, NOW, Known())


def test_the_same_label_twice_is_one() -> None:
    leaf = client(ROOT, sans(LABELS + "env=prod", LABELS + "env=prod"))
    assert ask(leaf, label_uris=["env"]).labels == {"env": "prod"}


def test_labels_that_the_trust_does_not_list_do_not_count() -> None:
    leaf = client(ROOT, sans(LABELS + "env=prod", LABELS + "region=eu"))
    one = ask(leaf, label_uris=["region"])
    assert one.labels == {"region": "eu"}
    assert "prod" not in str(one.claims)
    assert ask(leaf).labels == {}


def test_an_authority_for_some_names_gives_no_labels() -> None:
    chain = constrained(x509.DNSName("eu.example"), sans(LABELS + "env=prod", dns=["a.eu.example"]))
    assert ask(*chain, name="dns").labels == {}
    assert "may not give labels" in refused(*chain, name="dns", label_uris=["env"])


def _signed(tbs: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = ROOT.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return der.encode(der.SEQUENCE, tbs + algorithm + der.encode(3, b"\x00" + signature))
