"""The algorithms that Boltseal reads and writes; nothing outside these lists is ever tried."""

from __future__ import annotations

# RFC 7518 section 4.1
RSA_OAEP = "RSA-OAEP"
RSA_OAEP_256 = "RSA-OAEP-256"
ECDH_A256KW = "ECDH-ES+A256KW"
RSA_ALGORITHMS = (RSA_OAEP, RSA_OAEP_256)
EC_ALGORITHMS = ("ECDH-ES+A128KW", "ECDH-ES+A192KW", ECDH_A256KW)
KEY_ALGORITHMS = RSA_ALGORITHMS + EC_ALGORITHMS

# RFC 7518 section 5.1
CONTENT_ENCRYPTION = "A256GCM"
CONTENT_ENCRYPTIONS = (
    "A128CBC-HS256",
    "A192CBC-HS384",
    "A256CBC-HS512",
    "A128GCM",
    "A192GCM",
    CONTENT_ENCRYPTION,
)

# RFC 7518 section 6.2.1.1, by the library's names
CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
CURVES = tuple(CURVE_NAMES.values())
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384


def algorithms_for(kty: str) -> tuple[str, ...]:
    """The key algorithms that fit a key type, the default first."""
    return RSA_ALGORITHMS if kty == "RSA" else (ECDH_A256KW, *EC_ALGORITHMS[:2])
