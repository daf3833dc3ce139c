"""RSA keys whose numbers are none: refused by us, since the library is not asked about primes."""

from __future__ import annotations

from pathlib import Path

import pytest

from boltseal.errors import KeyFileError
from boltseal.keywrap.parse import parse_identity, parse_recipient

FUZZED = Path(__file__).parents[2] / "fuzz/regressions/key-file/4691cc72f459c13a8c8a"


def test_an_even_exponent() -> None:
    with pytest.raises(KeyFileError, match="is even"):
        parse_identity(str(FUZZED))


def test_an_even_modulus(tmp_path: Path) -> None:
    from boltseal._io import der

    number = der.integer((1 << 2047) | 2)
    file = tmp_path / "even.der"
    file.write_bytes(der.encode(der.SEQUENCE, number, der.integer(65537)))
    with pytest.raises(KeyFileError):
        parse_recipient(f"jwe:{file}")
