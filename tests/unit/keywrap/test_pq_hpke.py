"""X-Wing and HPKE a second time, from their parts: our packets are what the drafts say.

The second implementation is here, straight from draft-connolly-cfrg-xwing-kem and RFC 9180. It is
first held against the vectors that their authors published, then against ours, both ways.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from boltseal._io import b64
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pq.hybrid import PrivateKey, PublicKey, load_private, load_public
from boltseal.keywrap.pq.keys import SUITE, HybridIdentity, HybridRecipient, HybridWrapper

DATA = Path(__file__).parents[2] / "vectors" / "data" / "pq"
DRAFTS: dict[str, Any] = json.loads((DATA / "drafts.json").read_text())
XWING: list[dict[str, str]] = DRAFTS["xwing"]
LABEL = bytes.fromhex("5c2e2f2f5e5c")
KEM, HKDF_SHA256, AES_256_GCM, CHACHA20 = 0x647A, 1, 2, 3


def keys_of(seed: bytes) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    """Section 5.2 of the X-Wing draft."""
    expanded = hashlib.shake_256(seed).digest(96)
    return (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def combined(ml: bytes, dh: bytes, share: bytes, public: bytes) -> bytes:
    """Section 5.3."""
    return hashlib.sha3_256(ml + dh + share + public + LABEL).digest()


def decapsulated(seed: bytes, encapsulated: bytes) -> bytes:
    """Section 5.5."""
    ml, dh = keys_of(seed)
    share = encapsulated[1088:]
    return combined(
        ml.decapsulate(encapsulated[:1088]),
        dh.exchange(x25519.X25519PublicKey.from_public_bytes(share)),
        share,
        dh.public_key().public_bytes_raw(),
    )


def encapsulated(public: bytes) -> tuple[bytes, bytes]:
    """Section 5.4: the shared secret and what is sent."""
    ephemeral = x25519.X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    ml_secret, ml_sent = mlkem.MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    dh_secret = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(public[1184:]))
    return combined(ml_secret, dh_secret, share, public[1184:]), ml_sent + share


@dataclass(frozen=True)
class Schedule:
    """RFC 9180 section 5.1, base mode, with HKDF-SHA256."""

    shared: bytes
    info: bytes
    aead: int

    def _labelled(self, label: str, material: bytes) -> bytes:
        suite = b"HPKE" + b"".join(n.to_bytes(2) for n in (KEM, HKDF_SHA256, self.aead))
        return b"HPKE-v1" + suite + label.encode() + material

    def _extract(self, salt: bytes, label: str, material: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), self._labelled(label, material), "sha256")

    def _expand(self, label: str, size: int) -> bytes:
        context = (
            b"\x00"
            + self._extract(b"", "psk_id_hash", b"")
            + self._extract(b"", "info_hash", self.info)
        )
        secret = self._extract(self.shared, "secret", b"")
        info = size.to_bytes(2) + self._labelled(label, context)
        return hmac.digest(secret, info + b"\x01", "sha256")[:size]

    @property
    def key(self) -> bytes:
        return self._expand("key", 32)

    @property
    def nonce(self) -> bytes:
        return self._expand("base_nonce", 12)


@pytest.mark.parametrize("vector", XWING, ids=lambda vector: vector["seed"][:8])
def test_the_second_implementation_is_xwing(vector: dict[str, str]) -> None:
    seed, sent = bytes.fromhex(vector["seed"]), bytes.fromhex(vector["ct"])
    ml, dh = keys_of(seed)
    public = ml.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw()
    assert public.hex() == vector["pk"]
    assert decapsulated(seed, sent).hex() == vector["ss"]
    secret, sent = encapsulated(public)
    assert len(sent) == 1120
    assert decapsulated(seed, sent) == secret
    # the vector's share of X25519 is that of its own random bytes
    ephemeral = x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["eseed"])[32:])
    assert vector["ct"].endswith(ephemeral.public_key().public_bytes_raw().hex())


def test_the_second_implementation_is_hpke() -> None:
    vector: dict[str, Any] = DRAFTS["hpke"]
    assert (vector["mode"], vector["kem_id"], vector["kdf_id"]) == (0, KEM, HKDF_SHA256)
    assert vector["aead_id"] == CHACHA20
    seed, sent = bytes.fromhex(vector["skRm"]), bytes.fromhex(vector["enc"])
    shared = decapsulated(seed, sent)
    assert shared.hex() == vector["shared_secret"]
    schedule = Schedule(shared, bytes.fromhex(vector["info"]), CHACHA20)
    assert schedule.key.hex() == vector["key"]
    assert schedule.nonce.hex() == vector["base_nonce"]
    first = vector["encryptions"][0]
    cipher = ChaCha20Poly1305(schedule.key)
    plain = cipher.decrypt(schedule.nonce, bytes.fromhex(first["ct"]), bytes.fromhex(first["aad"]))
    assert plain.hex() == first["pt"]


@pytest.mark.parametrize("vector", XWING, ids=lambda vector: vector["seed"][:8])
def test_our_keys_are_the_drafts(vector: dict[str, str]) -> None:
    key = PrivateKey(bytes.fromhex(vector["seed"]))
    assert key.public_key().raw.hex() == vector["pk"]
    for private, public in (
        (load_private(key.to_pem()), load_public(key.public_key().to_pem())),
        (PrivateKey(key.seed), PublicKey(bytes.fromhex(vector["pk"]))),
    ):
        assert private == key
        assert public == key.public_key()


def test_our_key_files_are_the_drafts() -> None:
    files: dict[str, str] = DRAFTS["key_files"]
    private, public = load_private(files["private"].encode()), load_public(files["public"].encode())
    assert private == PrivateKey(bytes(range(32)))
    assert private is not None
    assert public == private.public_key()
    assert private.to_pem().decode() == files["private"]
    assert private.public_key().to_pem().decode() == files["public"]


ALICE = load_private((DATA / "alice.pem").read_bytes())
assert ALICE is not None
SECRET = b'{"symkey":"AAAA"}'


def info_of(thumbprint: str) -> bytes:
    """As ADR 0009 has it."""
    return f"boltseal pq/1 MLKEM768-X25519,HKDF-SHA256,AES-256-GCM {thumbprint}".encode()


def opened(packet: bytes, key: PrivateKey) -> bytes:
    """What is in a packet, by the second implementation."""
    document = json.loads(packet)
    assert list(document) == ["boltseal", "suite", "recipient", "sealed"]
    sealed = b64.decode(document["sealed"], "")
    schedule = Schedule(
        decapsulated(key.seed, sealed[:1120]), info_of(key.public_key().thumbprint), AES_256_GCM
    )
    return AESGCM(schedule.key).decrypt(schedule.nonce, sealed[1120:], b"")


def sealed(
    key: PublicKey, secret: bytes, *, aead: int = AES_256_GCM, info: bytes | None = None
) -> bytes:
    """A packet, by the second implementation."""
    shared, sent = encapsulated(key.raw)
    schedule = Schedule(shared, info_of(key.thumbprint) if info is None else info, aead)
    content = AESGCM(schedule.key).encrypt(schedule.nonce, secret, b"")
    return json.dumps(
        {
            "boltseal": "pq/1",
            "suite": SUITE,
            "recipient": key.thumbprint,
            "sealed": b64.encode(sent + content),
        }
    ).encode()


def test_each_opens_what_the_other_sealed() -> None:
    assert ALICE is not None
    public = ALICE.public_key()
    (packet,) = HybridWrapper().wrap([HybridRecipient(public)], SECRET)
    assert opened(packet, ALICE) == SECRET
    identity = HybridIdentity(ALICE)
    assert identity.unwrap("", sealed(public, SECRET)) == SECRET
    for changed in (
        sealed(public, SECRET, aead=CHACHA20),  # another suite in the schedule
        sealed(public, SECRET, info=b""),
        sealed(public, SECRET, info=info_of(public.thumbprint[:-1] + "x")),
    ):
        with pytest.raises(NotMyKeyError, match="does not open with it"):
            identity.unwrap("", changed)


def test_the_published_packets_open_with_the_second_implementation() -> None:
    vectors = json.loads((DATA / "packets.json").read_text())
    seen = 0
    for one in vectors["packets"]:
        key = load_private((DATA / one["key"]).read_bytes())
        assert key is not None
        if one["outcome"] == "opens" and "order" not in one["name"]:
            assert opened(one["packet"].encode(), key) == b64.decode(one["secret"], "")
            seen += 1
        elif one["outcome"] == "not-my-key":
            with pytest.raises((InvalidTag, ValueError)):
                opened(one["packet"].encode(), key)
    assert seen >= 4
