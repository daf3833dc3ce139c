"""Packets and key files of the post-quantum scheme: the published vectors, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal._io import b64, der
from boltseal.errors import (
    IntegrityError,
    KeyFileError,
    LimitExceededError,
    MalformedError,
    NoMatchingKeyError,
    UsageError,
)
from boltseal.keywrap import envelope, packets
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.keyring import Keyring, check_addition, wrap
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_identity, parse_keyring, parse_recipient
from boltseal.keywrap.pq.hybrid import PrivateKey, PublicKey, load_private, load_public
from boltseal.keywrap.pq.keys import (
    KIND,
    SUITE,
    HybridIdentity,
    HybridRecipient,
    HybridWrapper,
    describe_packet,
)
from boltseal.spec import annotations as names

DATA = Path(__file__).parents[2] / "vectors" / "data" / "pq"
VECTORS: dict[str, Any] = json.loads((DATA / "packets.json").read_text())
PACKETS: dict[str, dict[str, str]] = {one["name"]: one for one in VECTORS["packets"]}
ALICE, BOB = (PrivateKey(bytes.fromhex(VECTORS["keys"][name]["seed"])) for name in ("alice", "bob"))
SECRET = b'{"symkey":"AAAA"}'


@pytest.mark.parametrize("name", PACKETS)
def test_published_packets(name: str) -> None:
    vector = PACKETS[name]
    packet = vector["packet"].encode()
    identity = parse_identity(str(DATA / vector["key"]))
    ring = Keyring((identity,))
    if vector["outcome"] == "opens":
        secret = base64.b64decode(vector["secret"])
        assert identity.unwrap(names.QUANTUM_SAFE, packet) == secret
        assert ring.unwrap_packets([(names.QUANTUM_SAFE, packet)]).secret == secret
        (told,) = describe_packet(packet)
        thumbprint = VECTORS["keys"][vector["key"].removesuffix(".pem")]["thumbprint"]
        assert told.recipient == (None if "without a name" in name else thumbprint)
        assert packets.is_quantum_safe(names.QUANTUM_SAFE, packet)
    elif vector["outcome"] == "not-my-key":
        with pytest.raises(NotMyKeyError):
            identity.unwrap(names.QUANTUM_SAFE, packet)
        with pytest.raises(NoMatchingKeyError):
            ring.unwrap_packets([(names.QUANTUM_SAFE, packet)])
    else:
        assert vector["outcome"] == "malformed"
        for look in (
            lambda: identity.unwrap(names.QUANTUM_SAFE, packet),
            lambda: ring.unwrap_packets([(names.QUANTUM_SAFE, packet)]),
            lambda: describe_packet(packet),
        ):
            with pytest.raises(MalformedError):
                look()


def test_the_published_keys() -> None:
    for about in VECTORS["keys"].values():
        key = load_private((DATA / about["private"]).read_bytes())
        assert key == PrivateKey(bytes.fromhex(about["seed"]))
        assert key is not None
        assert key.public_key().thumbprint == about["thumbprint"]
        assert load_public((DATA / about["public"]).read_bytes()) == key.public_key()
        assert key.to_pem() == (DATA / about["private"]).read_bytes()
        assert key.public_key().to_pem() == (DATA / about["public"]).read_bytes()
    assert VECTORS["suite"] == SUITE
    assert {one["outcome"] for one in PACKETS.values()} == {"opens", "not-my-key", "malformed"}


@pytest.mark.parametrize("size", [1, 2, 3, 16, 255, 256, 257, 65_536])
def test_round_trips(size: int) -> None:
    secret = bytes(range(256)) * (size // 256) + bytes(size % 256)
    who = [HybridRecipient(ALICE.public_key()), HybridRecipient(BOB.public_key())]
    made = HybridWrapper().wrap(who, secret)
    assert len(made) == 2
    for key, packet in zip((ALICE, BOB), made, strict=True):
        assert HybridIdentity(key).unwrap(names.QUANTUM_SAFE, packet) == secret
        document = json.loads(packet)
        assert list(document) == ["boltseal", "suite", "recipient", "sealed"]
        assert len(b64.decode(document["sealed"], "")) == 1120 + len(secret) + 16
        assert packet == json.dumps(document, separators=(",", ":")).encode()
    assert HybridWrapper().wrap(who, secret) != made


def test_a_packet_is_bounded() -> None:
    (packet,) = HybridWrapper().wrap([HybridRecipient(ALICE.public_key())], bytes(100_000))
    with pytest.raises(LimitExceededError, match="over the limit of 131072"):
        HybridIdentity(ALICE).unwrap(names.QUANTUM_SAFE, packet)


def test_names_may_be_left_out() -> None:
    """As ``--no-kid`` asks for."""
    options = KeyOptions(with_kid=False)
    who = [parse_recipient(f"pq:{DATA}/{name}.pub.pem", options) for name in ("alice", "bob")]
    wrapped = wrap(who, SECRET)[names.QUANTUM_SAFE]
    assert [describe_packet(one)[0].recipient for one in wrapped] == [None, None]
    for about in VECTORS["keys"].values():
        assert about["thumbprint"].encode() not in b"".join(wrapped)
    for key in (ALICE, BOB):
        ring = Keyring((HybridIdentity(key),))
        assert ring.unwrap(annotation(**{names.QUANTUM_SAFE: wrapped})).secret == SECRET
    with pytest.raises(NotMyKeyError, match="wrapped for another key"):
        HybridIdentity(PrivateKey(bytes(32))).unwrap("", wrapped[0])


def test_what_is_said_of_keys() -> None:
    recipient = parse_recipient(f"pq:{DATA}/alice.pub.pem")
    thumbprint = VECTORS["keys"]["alice"]["thumbprint"]
    assert recipient.describe() == f"pq X-Wing {thumbprint}"
    identity = parse_identity(f"{DATA}/alice.pem")
    assert identity.describe() == f"{DATA}/alice.pem (X-Wing, {thumbprint})"
    assert identity.handles(names.QUANTUM_SAFE)
    assert not identity.handles("jwe")
    seed = VECTORS["keys"]["alice"]["seed"]
    for one in (recipient, identity, ALICE, ALICE.public_key()):
        assert seed[:16] not in repr(one)
        assert repr(ALICE.seed)[2:12] not in repr(one)


def pem(kind: str, *parts: bytes) -> bytes:
    text = base64.b64encode(der.encode(der.SEQUENCE, *parts)).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind} KEY-----\n{lines}\n-----END {kind} KEY-----\n".encode()


OID = der.encode(der.OBJECT_ID, bytes.fromhex("2b0601040183e62d81c87a"))
ALGORITHM = der.encode(der.SEQUENCE, OID)
VERSION, SEED = der.integer(0), der.encode(der.OCTET_STRING, bytes(32))
RAW = ALICE.public_key().raw
BITS = der.encode(der.BIT_STRING, b"\x00", RAW)
TOO_LARGE = der.encode(der.BIT_STRING, b"\x00", b"\xff" * 1184, RAW[-32:])


def test_the_object_identifier() -> None:
    """1.3.6.1.4.1.62253.25722, in both files."""
    assert pem("PRIVATE", VERSION, ALGORITHM, SEED) == PrivateKey(bytes(32)).to_pem()
    assert load_public(pem("PUBLIC", ALGORITHM, BITS)) == ALICE.public_key()
    start = bytes.fromhex("308204d4300d060b2b0601040183e62d81c87a038204c1")
    assert ALICE.public_key().to_der() == start + b"\x00" + RAW, "as ADR 0009 has it"
    arcs, number = [], 0
    for byte in bytes.fromhex("0601040183e62d81c87a"):
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            arcs.append(number)
            number = 0
    assert arcs == [6, 1, 4, 1, 62253, 25722]


@pytest.mark.parametrize(
    "content",
    [
        pem("PRIVATE", VERSION, ALGORITHM),
        pem("PRIVATE", der.integer(1), ALGORITHM, SEED),
        pem("PRIVATE", VERSION, ALGORITHM, SEED, der.encode(0x81, b"\x00", RAW)),
        pem("PRIVATE", VERSION, ALGORITHM, BITS),
        pem("PRIVATE", VERSION, ALGORITHM, der.encode(der.OCTET_STRING, bytes(31))),
        pem("PRIVATE", VERSION, ALGORITHM, der.encode(der.OCTET_STRING, bytes(33))),
        pem("PRIVATE", VERSION, ALGORITHM, der.encode(der.OCTET_STRING, SEED)),
        pem("PRIVATE", VERSION, ALGORITHM, der.encode(der.OCTET_STRING, bytes(2432))),
    ],
)
def test_private_keys_that_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    with pytest.raises(KeyFileError, match="this X-Wing private key"):
        parse_identity(str(file))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pem("PUBLIC", ALGORITHM), "structure"),
        (pem("PUBLIC", ALGORITHM, BITS, VERSION), "structure"),
        (pem("PUBLIC", ALGORITHM, der.encode(der.BIT_STRING, b"\x01", RAW)), "structure"),
        (pem("PUBLIC", ALGORITHM, der.encode(der.OCTET_STRING, b"\x00", RAW)), "structure"),
        (pem("PUBLIC", ALGORITHM, der.encode(der.BIT_STRING)), "structure"),
        (pem("PUBLIC", ALGORITHM, der.encode(der.BIT_STRING, b"\x00", RAW[:-1])), "1216 bytes"),
        (pem("PUBLIC", ALGORITHM, der.encode(der.BIT_STRING, b"\x00", RAW, b"x")), "1216 bytes"),
        # FIPS 203 section 7.2: coefficients have to be below the modulus
        (
            pem(
                "PUBLIC", ALGORITHM, der.encode(der.BIT_STRING, b"\x00", b"\xff" * 1184, RAW[-32:])
            ),
            "no X-Wing public key",
        ),
    ],
)
def test_public_keys_that_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    with pytest.raises(KeyFileError, match=reason):
        parse_recipient(f"pq:{file}")


def test_other_files_are_no_xwing_keys(tmp_path: Path, data: Path) -> None:
    null = der.encode(der.NULL)
    others = [
        b"",
        b"junk",
        (data / "keys" / "rsa2048.pem").read_bytes(),
        (data / "keys" / "ec-prime256v1.pub.pem").read_bytes(),
        (data / "keys" / "rsa2048.crt.pem").read_bytes(),
        ALICE.to_pem().replace(b"PRIVATE", b"PUBLIC"),
        pem("PRIVATE", VERSION, der.encode(der.SEQUENCE, OID, null), SEED),
        ALICE.to_pem()[:-30],
        ALICE.to_pem().replace(b"MDQ", b"!!!"),
        b"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
    ]
    for content in others:
        assert load_private(content) is None
        assert load_public(content) is None
    file = tmp_path / "file"
    for content in others:
        file.write_bytes(content)
        with pytest.raises(KeyFileError) as failed:
            parse_recipient(f"pq:{file}")
        assert str(file) in failed.value.message
        assert failed.value.hint is not None


def test_the_wrong_half_of_a_key_pair() -> None:
    with pytest.raises(KeyFileError, match="private key, and recipients are public"):
        parse_recipient(f"pq:{DATA}/alice.pem")
    with pytest.raises(KeyFileError, match="not a private key"):
        parse_identity(f"{DATA}/alice.pub.pem")
    with pytest.raises(UsageError, match="named without pq:"):
        parse_identity(f"pq:{DATA}/alice.pem")


def test_both_halves_in_one_file(tmp_path: Path) -> None:
    for order in ((ALICE.public_key().to_pem(), ALICE.to_pem()), (ALICE.to_pem(), b"\n")):
        file = tmp_path / "both.pem"
        file.write_bytes(b"# a comment\r\n" + b"".join(order).replace(b"\n", b"\r\n"))
        assert parse_identity(str(file)) == HybridIdentity(ALICE, str(file))


def encrypted_pem(key: PrivateKey, passphrase: bytes) -> bytes:
    """PKCS#8 with PBES2 (RFC 8018 section 6.2), as other programs may write it."""
    from cryptography.hazmat.primitives import hashes, padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    plain = base64.b64decode(b"".join(key.to_pem().splitlines()[1:-1]))
    secret = PBKDF2HMAC(hashes.SHA256(), 32, bytes(16), 2048).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(secret), modes.CBC(bytes(16))).encryptor()
    sealed = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()

    def oid(digits: str) -> bytes:
        return der.encode(der.OBJECT_ID, bytes.fromhex(digits))

    def sequence(*parts: bytes) -> bytes:
        return der.encode(der.SEQUENCE, *parts)

    octets = der.encode(der.OCTET_STRING, bytes(16))
    hmac = sequence(oid("2a864886f70d0209"), der.encode(der.NULL))
    derivation = sequence(oid("2a864886f70d01050c"), sequence(octets, der.integer(2048), hmac))
    cipher_id = sequence(oid("60864801650304012a"), octets)
    algorithm = sequence(oid("2a864886f70d01050d"), sequence(derivation, cipher_id))
    return pem("ENCRYPTED PRIVATE", algorithm, der.encode(der.OCTET_STRING, sealed))


def test_encrypted_files_are_not_supported_and_say_so(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(encrypted_pem(ALICE, b"s3cret"))
    with pytest.raises(KeyFileError, match="not supported") as failed:
        parse_identity(f"{file}:pass=s3cret")
    assert "X-Wing" in str(failed.value)
    assert "s3cret" not in str(failed.value)
    with pytest.raises(KeyFileError, match="does not open with the passphrase"):
        parse_identity(f"{file}:pass=wrong")
    with pytest.raises(KeyFileError, match="is encrypted"):
        parse_identity(str(file))


def annotation(**packed: list[bytes]) -> dict[str, str]:
    return {
        names.KEYS + scheme.replace("__", "."): names.join_packets(them)
        for scheme, them in packed.items()
    }


def test_what_counts_is_what_a_packet_is(data: Path) -> None:
    """Names are chosen by whoever writes an image; a weak key must not pass under a strong name."""
    strong = HybridRecipient(ALICE.public_key()), HybridRecipient(BOB.public_key())
    weak = parse_recipient(f"jwe:{data}/keys/rsa2048.pub.pem")
    safe = wrap(strong, SECRET)
    unsafe = wrap([weak], SECRET)
    (jwe,) = unsafe["jwe"]
    for good in (
        annotation(provider__acme=[envelope.pack(safe)]),
        annotation(provider__acme=safe[names.QUANTUM_SAFE]),
        annotation(**{names.QUANTUM_SAFE: [envelope.pack(safe)]}),
    ):
        check_addition(good, strong)
        with pytest.raises(UsageError, match="is not known to"):
            check_addition(good, [weak])
        assert Keyring((HybridIdentity(BOB),)).unwrap(good).secret == SECRET
        with pytest.raises(NoMatchingKeyError):
            Keyring((HybridIdentity(PrivateKey(bytes(32))),)).unwrap(good)
    for bad in (
        annotation(provider__acme=[envelope.pack({**safe, **unsafe})]),
        annotation(**{names.QUANTUM_SAFE: [envelope.pack(unsafe)]}),
        annotation(**{names.QUANTUM_SAFE: [jwe]}),
        annotation(**{names.QUANTUM_SAFE: [b"junk"]}),
        annotation(**{names.QUANTUM_SAFE: [b'{"boltseal":"pq/2"}']}),
        annotation(**{names.QUANTUM_SAFE: [envelope.pack({names.QUANTUM_SAFE: [jwe]})]}),
        annotation(**{names.QUANTUM_SAFE: [b'{"boltseal":"envelope/1","keys":{}}']}),
        annotation(**{names.QUANTUM_SAFE: [*safe[names.QUANTUM_SAFE], b"junk"]}),
        annotation(provider__acme=[b"junk"]),
    ):
        with pytest.raises(UsageError, match="would not make it safer"):
            check_addition(bad, strong)
        check_addition(bad, [weak])


def test_a_folder_of_keys_may_hold_one(tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.pem").write_bytes((data / "keys" / "rsa2048.pem").read_bytes())
    (tmp_path / "b.pem").write_bytes(BOB.to_pem())
    (tmp_path / "b.pub.pem").write_bytes(BOB.public_key().to_pem())
    ring = parse_keyring([tmp_path], KeyOptions())
    wrapped = wrap([HybridRecipient(BOB.public_key())], SECRET)[names.QUANTUM_SAFE]
    assert ring.unwrap(annotation(**{names.QUANTUM_SAFE: wrapped})).secret == SECRET


GOOD = PACKETS["as it is written"]["packet"].encode()


@given(st.binary(max_size=300))
def test_junk_never_crashes(data: bytes) -> None:
    never_crashes(data)
    never_crashes(b'{"boltseal":"' + KIND.encode() + b'",' + data + b"}")


@settings(max_examples=150)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3), st.integers(0, 40))
def test_changed_packets_never_open(at: int, insert: bytes, cut: int) -> None:
    never_crashes(GOOD[:at] + insert + GOOD[at + cut :])


def never_crashes(packet: bytes) -> None:
    """Only JSON's own freedom (spaces) leaves a changed packet what it was."""
    try:
        describe_packet(packet)
        HybridIdentity(ALICE).unwrap(names.QUANTUM_SAFE, packet)
    except (IntegrityError, NotMyKeyError):
        return
    assert json.loads(packet) == json.loads(GOOD)


@given(st.binary(max_size=200), st.sampled_from(["PRIVATE", "PUBLIC"]))
def test_junk_in_key_files_never_crashes(body: bytes, kind: str) -> None:
    text = b"-----BEGIN %s KEY-----\n%s-----END %s KEY-----\n"
    for content in (body, text % (kind.encode(), base64.encodebytes(body), kind.encode())):
        for load in (load_private, load_public):
            try:
                assert load(content) is None
            except KeyFileError:
                pass


def test_bytes_that_are_no_public_key() -> None:
    with pytest.raises(KeyFileError, match="no X-Wing public key"):
        PublicKey(b"short").load()
