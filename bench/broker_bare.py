"""What a release computes and nothing else, over and over: no server, no database, no parsing.

    python -m bench.broker_bare xwing|p256 COUNT

Open the packet with the key's private half (which stays loaded, as in the broker), load the public
key of the request from its bytes, and seal the secret to it: HPKE with X-Wing both times for xwing;
for p256 a JWE's ECDH-ES+A256KW with A256GCM, and HPKE with X25519. In one thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = json.dumps({"symkey": "A" * 43 + "=", "cipheroptions": {}}).encode()
CLIENTS = 4  # public keys that are asked for in turn
_WARM = 64
_INFO = b"i" * 180  # about as long as what binds an answer to its request
_OTHER = b"\0\0\0\x0eECDH-ES+A256KW" + bytes(8) + (256).to_bytes(4, "big")  # RFC 7518 4.6.2
_MLKEM_BYTES = 1184  # of X-Wing's public key, before X25519's


def xwing() -> Callable[[int], None]:
    """One release of an X-Wing key, for the client of a number."""
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

    def pair() -> tuple[Any, bytes]:
        post, classic = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
        public = post.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw()
        return hpke.MLKEM768X25519PrivateKey(post, classic), public

    def load(raw: bytes) -> Any:
        return hpke.MLKEM768X25519PublicKey(
            mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_BYTES]),
            x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM_BYTES:]),
        )

    private, public = pair()
    packet = suite.encrypt(SECRET, load(public), info=_INFO)
    clients = [pair()[1] for _ in range(CLIENTS)]

    def release(number: int) -> None:
        secret = suite.decrypt(packet, private, info=_INFO)
        suite.encrypt(secret, load(clients[number % CLIENTS]), info=_INFO)

    return release


def p256() -> Callable[[int], None]:
    """One release of a P-256 key, for the client of a number."""
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    private = ec.generate_private_key(ec.SECP256R1())
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    numbers = ephemeral.public_key().public_numbers()
    content, nonce, header = os.urandom(32), os.urandom(12), b"h" * 300

    def kek(shared: bytes) -> bytes:
        return ConcatKDFHash(hashes.SHA256(), 32, _OTHER).derive(shared)

    wrapped = aes_key_wrap(kek(ephemeral.exchange(ec.ECDH(), private.public_key())), content)
    sealed = AESGCM(content).encrypt(nonce, SECRET, header)
    clients = [
        x25519.X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(CLIENTS)
    ]

    def release(number: int) -> None:
        theirs = ec.EllipticCurvePublicNumbers(numbers.x, numbers.y, numbers.curve).public_key()
        key = aes_key_unwrap(kek(private.exchange(ec.ECDH(), theirs)), wrapped)
        secret = AESGCM(key).decrypt(nonce, sealed, header)
        client = x25519.X25519PublicKey.from_public_bytes(clients[number % CLIENTS])
        suite.encrypt(secret, client, info=_INFO)

    return release


def run(release: Callable[[int], None], count: int) -> dict[str, float]:
    """Seconds of all, and milliseconds of one."""
    for number in range(_WARM):
        release(number)
    taken = []
    start = last = time.perf_counter()
    for number in range(count):
        release(number)
        now = time.perf_counter()
        taken.append(now - last)
        last = now
    taken.sort()
    return {
        "seconds": last - start,
        "p50_ms": 1000 * taken[count // 2],
        "p99_ms": 1000 * taken[count * 99 // 100],
    }


if __name__ == "__main__":
    print(json.dumps(run({"xwing": xwing, "p256": p256}[sys.argv[1]](), int(sys.argv[2]))))
