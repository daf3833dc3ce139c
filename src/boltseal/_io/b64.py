"""Strict base64, both alphabets: canonical, bounded, no whitespace."""

from __future__ import annotations

import base64
import binascii

from boltseal.errors import MalformedError


def decode(text: str, what: str) -> bytes:
    """Standard alphabet with padding (RFC 4648 section 4), as annotations use it."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"{what} is not base64") from None
    # every three bytes have one way to be written, four characters; what ends the text has several
    groups = len(raw) // 3
    if text[4 * groups :] != encode(raw[3 * groups :]):
        raise MalformedError(f"{what} is not canonical base64")
    return raw


def decode_url(text: str, what: str) -> bytes:
    """URL-safe alphabet without padding (RFC 7515 section 2), as JOSE uses it."""
    if "=" in text or "+" in text or "/" in text:
        raise MalformedError(f"{what} is not unpadded base64url")
    try:
        return base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError):
        raise MalformedError(f"{what} is not unpadded base64url") from None


def encode(raw: bytes) -> str:
    """Standard alphabet with padding."""
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


def encode_url(raw: bytes) -> str:
    """URL-safe alphabet without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
