"""What can be revoked of a certificate, and that changing what nobody signed brings none back."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import utils

from boltseal._io import der
from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.model import RefusedError
from support import certificates
from support.broker_identity import NOW, FixedSnapshot, authority, client, presented, trust
from support.certificates import AUTHORITY, issue

if TYPE_CHECKING:
    from boltseal.broker.model import Principal

ROOT = authority("EU clusters")
RSA_ROOT = issue("RSA", certificates.private_key("rsa2048"), extensions=AUTHORITY)
RSA = bytes.fromhex("06092a864886f70d01010b")
ECDSA = bytes.fromhex("300a06082a8648ce3d040302")


def snapshot() -> FixedSnapshot:
    return FixedSnapshot(
        [
            trust("eu", "x509", ca=ROOT.pem().decode()),
            trust("rsa", "x509", ca=RSA_ROOT.pem().decode()),
        ]
    )


def ask(one: bytes) -> Principal:
    request = dataclasses.replace(presented(), chain=(one,))
    return authenticate(snapshot(), request, NOW, Known())


def certificate(signed: bytes, algorithm: bytes, bits: bytes, behind: bytes = b"") -> bytes:
    return der.encode(der.SEQUENCE, signed + algorithm + der.encode(3, bits) + behind)


def test_nothing_unsigned_around_an_rsa_signature_can_be_changed() -> None:
    """Each such change would be another fingerprint that nobody has revoked."""
    leaf = client(RSA_ROOT).certificate
    while leaf.signature[-1] & 3:
        leaf = client(RSA_ROOT).certificate  # its last two bits have to be zero for two of these
    tbs, signature = leaf.tbs_certificate_bytes, leaf.signature
    algorithm = der.encode(der.SEQUENCE, RSA + b"\x05\x00")
    good = certificate(tbs, algorithm, b"\x00" + signature)
    assert ask(good).id == "x509:rsa:host-1"
    for changed in (
        certificate(tbs, der.encode(der.SEQUENCE, RSA), b"\x00" + signature),
        certificate(tbs, algorithm, b"\x00\x00" + signature),
        certificate(tbs, algorithm, b"\x01" + signature),
        certificate(tbs, algorithm, b"\x02" + signature),
        certificate(tbs, algorithm, b"\x00" + signature) + b"\x00",
        certificate(tbs, algorithm, b"\x00" + signature, b"\x05\x00"),
        b"\x30\x83\x00" + good[2:],
    ):
        with pytest.raises(RefusedError) as caught:
            ask(changed)
        assert caught.value.code == "unauthenticated"


def test_nothing_unsigned_around_an_ecdsa_signature_can_be_changed() -> None:
    leaf = client(ROOT).certificate
    while leaf.signature[-1] & 1:
        leaf = client(ROOT).certificate
    tbs, signature = leaf.tbs_certificate_bytes, leaf.signature
    assert ask(certificate(tbs, ECDSA, b"\x00" + signature)).id == "x509:eu:host-1"
    r, s = utils.decode_dss_signature(signature)
    order = ROOT.key.curve.group_order
    padded = [b"\x00" + one.to_bytes(33, "big") for one in (r, s)]
    for bits in (
        b"\x01" + signature,
        b"\x00" + signature + b"\x00",
        b"\x00" + utils.encode_dss_signature(r, s + order),
        b"\x00" + utils.encode_dss_signature(r + order, s),
        b"\x00" + der.encode(der.SEQUENCE, b"".join(der.encode(2, one) for one in padded)),
    ):
        with pytest.raises(RefusedError) as caught:
            ask(certificate(tbs, ECDSA, bits))
        assert caught.value.code == "unauthenticated"


def test_an_authority_of_another_kind_above_it_does_not_matter() -> None:
    """Its own signature is made with a key that is not in the path."""
    for kind in ("rsa2048", "p521"):
        root = issue("root", certificates.private_key(kind), extensions=AUTHORITY)
        middle = authority("middle", 2, by=root)
        found = FixedSnapshot([trust("eu", "x509", ca=middle.pem().decode())])
        one = authenticate(found, presented(client(middle)), NOW, Known())
        digest = middle.certificate.fingerprint(hashes.SHA256()).hex()
        assert f"certificate:{digest}" in one.credentials


def test_the_twin_of_a_revoked_certificate_is_revoked() -> None:
    """Anybody can write an ECDSA signature in a second way, and so change the fingerprint."""
    leaf = client(ROOT)
    order = ROOT.key.curve.group_order
    r, s = utils.decode_dss_signature(leaf.certificate.signature)
    twin = der.encode(
        der.SEQUENCE,
        leaf.certificate.tbs_certificate_bytes
        + bytes.fromhex("300a06082a8648ce3d040302")
        + der.encode(3, b"\x00" + utils.encode_dss_signature(r, order - s)),
    )
    request = dataclasses.replace(presented(leaf), chain=(twin,))
    found = snapshot()
    assert authenticate(found, request, NOW, Known()).id == "x509:eu:host-1"
    fingerprint = leaf.certificate.fingerprint(hashes.SHA256()).hex()
    assert hashlib.sha256(twin).hexdigest() != fingerprint
    found.gone.add(("default", f"certificate:{fingerprint}"))
    with pytest.raises(RefusedError) as caught:
        authenticate(found, request, NOW, Known())
    assert caught.value.code == "revoked"


@pytest.mark.parametrize("of", ["leaf", "middle", "serial", "identity", "trust"])
def test_what_is_revoked_is_refused_at_once(of: str) -> None:
    middle = authority("middle", 2, by=ROOT)
    leaf = client(middle)
    prints = {
        name: one.certificate.fingerprint(hashes.SHA256()).hex()
        for name, one in (("leaf", leaf), ("middle", middle))
    }
    credential = {
        "leaf": f"certificate:{prints['leaf']}",
        "middle": f"certificate:{prints['middle']}",
        "serial": f"serial:eu:{leaf.certificate.serial_number:x}",
        "identity": "identity:x509:eu:host-1",
        "trust": "trust:eu",
    }[of]
    found, known = snapshot(), Known()
    assert authenticate(found, presented(leaf, middle), NOW, known)
    found.gone.add(("another", credential))
    assert authenticate(found, presented(leaf, middle), NOW, known)
    found.gone.add(("default", credential))  # the same epoch even: the chain is remembered
    with pytest.raises(RefusedError) as caught:
        authenticate(found, presented(leaf, middle), NOW, known)
    assert (caught.value.code, caught.value.detail) == ("revoked", f"{credential} is revoked")
