"""A root, an authority below it and its recipients, and how a recipient's file is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from boltseal.errors import KeyFileError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_recipient
from support.certificates import AUTHORITY, RECIPIENT, Extension, Issued, issue, private_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEAF, FIRST, SECOND, OTHER = (private_key("rsa2048", n) for n in range(4))
EXPIRED, FUTURE = (-20.0, -10.0), (10.0, 20.0)


def take(path: Path, **options: Any) -> str:
    """The recipient's description; raises KeyFileError."""
    return parse_recipient(f"pkcs7:{path}", KeyOptions(**options)).describe()


def refused(path: Path, **options: Any) -> KeyFileError:
    with pytest.raises(KeyFileError) as failed:
        take(path, **options)
    assert str(path) in failed.value.message
    return failed.value


def unknown(*, critical: bool) -> Extension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical


ROOT = issue("root", FIRST, extensions=AUTHORITY)
MIDDLE = issue("middle", SECOND, by=ROOT, extensions=AUTHORITY)


def leaf(by: Issued = MIDDLE, extensions: Sequence[Extension] = RECIPIENT) -> Issued:
    return issue("alice", LEAF, by=by, extensions=extensions)
