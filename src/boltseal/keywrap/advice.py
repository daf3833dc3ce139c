"""What a file seems to be, and how to name it: for hints, when it was named as something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_XWING_OID = bytes.fromhex("060a2b0601040183e62d81c87a")  # as DER; see boltseal.keywrap.pq.hybrid
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PKCS12 = re.compile(rb"\x30.{1,5}\x02\x01\x03\x30", re.DOTALL)  # RFC 7292 section 4: version 3
_OPENSSH = re.compile(rb"(?:sk-)?(?:ssh-|ecdsa-sha2-)|-----BEGIN OPENSSH")


def for_recipient(raw: bytes, path: str) -> str | None:
    """How a file can be made a recipient of; None when nothing is known to help."""
    for is_it, hint in _KINDS:
        if is_it(raw):
            return hint.format(path=path)
    return None


def public_half(path: str) -> str:
    """Where the public half of a private key is, which is beside it when keygen made it."""
    import os

    from boltseal.keywrap.generate import sibling_name

    beside = sibling_name(path, "pub")
    if os.path.isfile(beside):
        return f"name its public half, which is beside it: {beside}"
    return f"take its public half: openssl pkey -in {path} -pubout"


def openssh(raw: bytes) -> str:
    """What to do with a key of OpenSSH's."""
    if b"ssh-ed25519" in raw or b"AAAAC3NzaC1lZDI1NTE5" in raw or _holds_ed25519(raw):
        return "Ed25519 keys sign and cannot decrypt; make another one: boltseal keygen FILE"
    if b"PRIVATE KEY" in raw:
        return "convert a copy of it: ssh-keygen -p -m PEM -f COPY"
    return "convert it: ssh-keygen -e -m PKCS8 -f KEY"


def _holds_ed25519(raw: bytes) -> bool:
    import base64

    body = raw.partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")[2].partition(b"-----END")[0]
    try:
        return b"ssh-ed25519" in base64.b64decode(body[:4096])
    except ValueError:
        return False


def _is_pem(*names: bytes) -> Callable[[bytes], bool]:
    return lambda raw: any(
        any(name in found for name in names) for found in _PEM.findall(raw[:65536])
    )


def _is_xwing(raw: bytes) -> bool:
    import binascii

    body = raw.partition(b"KEY-----")[2].partition(b"-----END")[0]
    try:
        return _XWING_OID in binascii.a2b_base64(body)
    except ValueError:
        return False


def _is_openpgp(raw: bytes) -> bool:
    return raw.startswith(b"-----BEGIN PGP ") or raw[:1] in (b"\x98", b"\x99", b"\xc6", b"\x95")


_KINDS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (
        lambda raw: raw.lstrip()[:1] == b"{" and b'"broker-key/1"' in raw[:4096],
        "it is the public half of a key broker's key: write broker:{path}",
    ),
    (
        lambda raw: b"PRIVATE KEY" in raw and _is_xwing(raw),
        "it is a private key: name its public half, which keygen wrote beside it",
    ),
    (_is_xwing, "it is an X-Wing key: write pq:{path}"),
    (_is_openpgp, "it is an OpenPGP key: gpg --import {path}, then write pgp:WHO"),
    (lambda raw: bool(_OPENSSH.match(raw)), "it is an OpenSSH key"),
    (
        _is_pem(b"PRIVATE KEY"),
        "it is a private key; take its public half: openssl pkey -in {path} -pubout",
    ),
    (_is_pem(b"CERTIFICATE"), "it is a certificate: write pkcs7:{path}, or jwe:{path}"),
    (_is_pem(b"PUBLIC KEY"), "it is a public key: write jwe:{path}"),
    (
        lambda raw: bool(_PKCS12.match(raw)),
        "it looks like PKCS#12; take out what is in it: openssl pkcs12 -in {path} -nodes",
    ),
    (lambda raw: raw.lstrip()[:1] == b"{" and b'"kty"' in raw, "it is a JWK: write jwe:{path}"),
    (lambda raw: b"pkcs11:" in raw[:4096], "it names a token's key: write pkcs11:{path}"),
)
