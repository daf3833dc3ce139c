"""CRC-32C (Castagnoli; RFC 3720 appendix B.4), which Google Cloud KMS has beside every value.

It finds accidents on the way, nothing else. The values here are under a hundred bytes.
"""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78  # reflected


def crc32c(data: bytes) -> int:
    """The checksum as an unsigned number of 32 bits."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF
