"""Wycheproof's cases for what wraps our keys, each inside a whole packet of ours.

RSA-OAEP and ECDH go through JWE, RSA-OAEP with SHA-1 through a PKCS#11 token, too, and PKCS#1 v1.5
through PKCS#7. A case that is not valid is put together as a careless reader would understand it:
the content is encrypted with what is there behind the broken padding, or agreed on with the point
that is on no curve. A careless reader opens that, and ours has to refuse it.

What is valid elsewhere and refused here: messages that are no content key of the packet's cipher (a
packet has nowhere to put them), and labels and other hashes for MGF1 (RFC 7518 section 4.3 has the
empty label and one hash). Files on RSA keys below 2048 bits and on other hashes are left out, since
no packet can have them. Wycheproof's own cases for JWE are not in the data; those in
``test_wycheproof_jwe.py`` are of the same kinds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from boltseal.errors import MalformedError
from boltseal.jose import jwk
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.jwe import JweIdentity
from boltseal.keywrap.pkcs7 import packet as pkcs7
from boltseal.keywrap.pkcs7.keys import Pkcs7Identity
from support.softhsm import SoftHsm
from support.wycheproof import (
    GCM,
    SECRET,
    cases,
    check,
    document,
    jwe,
    jwe_identity,
    opened,
    rsa_key,
)

if TYPE_CHECKING:
    from pathlib import Path

OAEP = {
    "rsa_oaep_2048_sha1_mgf1sha1": "RSA-OAEP",
    "rsa_oaep_2048_sha256_mgf1sha256": "RSA-OAEP-256",
    "rsa_oaep_3072_sha256_mgf1sha256": "RSA-OAEP-256",
    "rsa_oaep_4096_sha256_mgf1sha256": "RSA-OAEP-256",
    "rsa_oaep_2048_sha256_mgf1sha1": "RSA-OAEP-256",  # two hashes, which JWE does not know
}
CURVES = ("secp256r1", "secp384r1", "secp521r1")


# RSA


def raw_rsa(key: Any, ciphertext: bytes) -> bytes:
    numbers = key.private_numbers()
    number = int.from_bytes(ciphertext) % numbers.public_numbers.n
    one, two = pow(number, numbers.dmp1, numbers.p), pow(number, numbers.dmq1, numbers.q)
    found = two + numbers.q * ((numbers.iqmp * (one - two)) % numbers.p)
    return int(found).to_bytes((key.key_size + 7) // 8)


def mask(data: bytes, seed: bytes, name: str) -> bytes:
    """MGF1 (RFC 8017 appendix B.2.1), applied."""
    made = b""
    while len(made) < len(data):
        counter = len(made) // hashlib.new(name).digest_size
        made += hashlib.new(name, seed + counter.to_bytes(4)).digest()
    return bytes(one ^ two for one, two in zip(data, made, strict=False))


def careless_oaep(key: Any, ciphertext: bytes, hash_name: str, mgf_name: str) -> bytes:
    """The data block, whatever it is, as if nothing in it were checked."""
    encoded = raw_rsa(key, ciphertext)
    size = hashlib.new(hash_name).digest_size
    seed, block = encoded[1 : 1 + size], encoded[1 + size :]
    return mask(block, mask(seed, block, mgf_name), mgf_name)


def hash_of(name: str) -> str:
    return name.lower().replace("-", "")


@pytest.mark.parametrize("name", OAEP)
def test_rsa_oaep_in_jwe(name: str) -> None:
    wrong, valid = [], 0
    for group, case in cases(name):
        key = rsa_key(group["privateKeyPkcs8"])
        message, ciphertext = bytes.fromhex(case["msg"]), bytes.fromhex(case["ct"])
        fits = group["sha"] == group["mgfSha"] and not case.get("label")
        wanted = case["result"] == "valid" and fits and len(message) in GCM
        careless = careless_oaep(key, ciphertext, hash_of(group["sha"]), hash_of(group["mgfSha"]))
        # the last bytes of the block are the message, if there is one as long as that
        content_key = message if len(message) in GCM else careless[-32:]
        packet = jwe({"alg": OAEP[name]}, ciphertext, content_key)
        got = opened(jwe_identity(group["privateKeyPkcs8"]), "jwe", packet)
        wrong.append(check(wanted, got, name, case))
        valid += wanted
    assert list(filter(None, wrong)) == []
    assert valid == (name != "rsa_oaep_2048_sha256_mgf1sha1")


def test_rsa_oaep_in_a_token(tmp_path: Path) -> None:
    """The token does the padding here, and any message comes out."""
    from boltseal.keywrap.identity_files import load_bytes
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pkcs11 import packet as pkcs11

    name = "rsa_oaep_2048_sha1_mgf1sha1"
    (group,) = document(name)["testGroups"]
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(
        rsa_key(group["privateKeyPkcs8"]).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    token = SoftHsm(tmp_path)
    token.init("wycheproof")
    token.add("wycheproof", key_file, "key", 1)
    policy = tmp_path / "policy.conf"
    policy.write_text(
        f"pkcs11:\n  module-directories: []\n  allowed-module-paths: [{token.module}]\n"
    )
    yaml = token.yaml("key.yaml", "token=wycheproof;object=key")
    options = KeyOptions(environment=token.environment, module_policy=str(policy))
    identity = load_bytes(yaml.read_bytes(), "key.yaml", lambda: None, options).identity
    assert identity is not None
    opened_ones, wrong = 0, []
    for case in group["tests"]:
        message, ciphertext = bytes.fromhex(case["msg"]), bytes.fromhex(case["ct"])
        wanted = case["result"] == "valid" and not case.get("label")
        try:
            packet = pkcs11.build([pkcs11.Wrapped(ciphertext, "sha1")])
            got = identity.unwrap("pkcs11", packet) == message
        except (NotMyKeyError, MalformedError):
            got = False
        opened_ones += got
        if got != wanted:
            wrong.append(f"{case['tcId']} ({case['comment']}, {case['result']}): {got}")
    assert wrong == []
    assert opened_ones == 10


@pytest.mark.parametrize("name", ["rsa_pkcs1_2048", "rsa_pkcs1_3072", "rsa_pkcs1_4096"])
def test_pkcs1_in_pkcs7(name: str) -> None:
    wrong, words, valid = [], set(), 0
    for group, case in cases(name):
        key = rsa_key(group["privateKeyPkcs8"])
        message, ciphertext = bytes.fromhex(case["msg"]), bytes.fromhex(case["ct"])
        wanted = case["result"] == "valid" and len(message) in (16, 32)
        content_key = message if wanted else raw_rsa(key, ciphertext)[-16:]
        got = opened(Pkcs7Identity(key), "pkcs7", enveloped(ciphertext, content_key))
        wrong.append(check(wanted, got, name, case))
        valid += wanted
        if not wanted and len(ciphertext) == key.key_size // 8:
            words.add(got)
    assert list(filter(None, wrong)) == []
    assert valid == {"rsa_pkcs1_2048": 2}.get(name, 1)
    assert words == {"refused: it was wrapped for another certificate's key"}


@pytest.mark.parametrize("name", ["rsa_pkcs1_2048", "rsa_pkcs1_3072", "rsa_pkcs1_4096"])
def test_pkcs1_of_any_length(name: str) -> None:
    """The message itself, where its length is asked for; random bytes for what is not valid."""
    for group, case in cases(name):
        message = bytes.fromhex(case["msg"])
        identity = Pkcs7Identity(rsa_key(group["privateKeyPkcs8"]))
        info = pkcs7.RecipientInfo(b"", 1, bytes.fromhex(case["ct"]))
        got = identity._content_key(info, len(message))
        assert len(got) == len(message)
        assert (got == message) == (case["result"] == "valid"), case


def enveloped(encrypted_key: bytes, content_key: bytes) -> bytes:
    """EnvelopedData with AES-128-GCM or AES-256-GCM."""
    nonce = os.urandom(12)
    info = pkcs7.RecipientInfo(b"\x30\x00", 1, encrypted_key)
    packet = pkcs7.build([info], nonce, AESGCM(content_key).encrypt(nonce, SECRET, None))
    if len(content_key) == 32:  # the same identifier but for its last byte
        short, long = (bytes.fromhex(f"06096086480165030401{last}") for last in ("06", "2e"))
        assert packet.count(short) == 1
        packet = packet.replace(short, long)
    return packet


# ECDH


def agreed(shared: bytes, algorithm: str, bits: int) -> bytes:
    """Concat KDF (RFC 7518 section 4.6.2), one round, without party information."""
    parts = len(algorithm).to_bytes(4) + algorithm.encode() + bytes(8) + bits.to_bytes(4)
    return hashlib.sha256((1).to_bytes(4) + shared + parts).digest()[: bits // 8]


def careless_ecdh(private: dict[str, str], public: dict[str, str]) -> bytes:
    """Affine formulas for a = -3, which do not notice that a point is on no curve."""
    p = {
        "P-256": 2**256 - 2**224 + 2**192 + 2**96 - 1,
        "P-384": 2**384 - 2**128 - 2**96 + 2**32 - 1,
        "P-521": 2**521 - 1,
    }[private["crv"]]

    def add(one: tuple[int, int] | None, two: tuple[int, int] | None) -> tuple[int, int] | None:
        if one is None or two is None:
            return one or two
        if one == two:
            above, below = 3 * one[0] * one[0] - 3, 2 * one[1]
        else:
            above, below = two[1] - one[1], two[0] - one[0]
        if below % p == 0:
            return None
        slope = above * pow(below, -1, p)
        x = (slope * slope - one[0] - two[0]) % p
        return x, (slope * (one[0] - x) - one[1]) % p

    number, x, y = (
        int.from_bytes(base64.urlsafe_b64decode(text + "=="))
        for text in (private["d"], public["x"], public["y"])
    )
    found, power = None, (x % p, y % p)
    while number:
        if number & 1:
            found = add(found, power)
        power, number = add(power, power), number >> 1
    return (found[0] if found else 0).to_bytes((p.bit_length() + 7) // 8)


@pytest.mark.parametrize("name", CURVES)
def test_ecdh_in_jwe(name: str) -> None:
    wrong, count = [], {"valid": 0, "invalid": 0}
    for _, case in cases(f"ecdh_{name}_webcrypto"):
        private, public = case["private"], case["public"]
        identity = JweIdentity(jwk.from_json(json.dumps(private).encode()))
        shared = bytes.fromhex(case["shared"]) or careless_ecdh(private, public)
        epk = {member: public[member] for member in ("kty", "crv", "x", "y")}
        algorithm, content_key = "ECDH-ES+A256KW", os.urandom(32)
        wrapped = aes_key_wrap(agreed(shared, algorithm, 256), content_key)
        packet = jwe({"alg": algorithm, "epk": epk}, wrapped, content_key)
        wrong.append(check(case["result"] == "valid", opened(identity, "jwe", packet), name, case))
        count[case["result"]] += 1
    assert list(filter(None, wrong)) == []
    assert count["valid"] > 80
    assert count["invalid"] > 20


def test_the_careless_agreement_is_right_otherwise() -> None:
    """Or else the packets above would open for nobody."""
    for name in CURVES:
        for _, case in list(cases(f"ecdh_{name}_webcrypto"))[:3]:
            assert careless_ecdh(case["private"], case["public"]).hex() == case["shared"]
