"""Whom a user means who is to be taken out of an image.

A thumbprint, a key id, a fingerprint, a key file or certificate, ``pgp:WHO``, ``provider:NAME`` or
the URI of a key service. Where an image does not name its recipients, a private key finds its part.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import (
    IntegrityError,
    KeyFileError,
    LimitExceededError,
    NotFoundError,
    UsageError,
)
from boltseal.keywrap import amend, identity_files, packets, tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import KEY_SERVICES, parse_identity
from boltseal.keywrap.show import show_key
from boltseal.spec.annotations import BROKER, QUANTUM_SAFE
from boltseal.spec.reference import shown

if TYPE_CHECKING:
    from boltseal.keywrap.base import Identity
    from boltseal.keywrap.packets import Listed

_FINGERPRINT = (40, 64)  # hexadecimal digits of an OpenPGP fingerprint, whose end is the key id
_OF_FILES = {
    "jwe": "jwe",
    "pkcs7": "pkcs7",
    "pkcs11": "pkcs11",
    "pq": QUANTUM_SAFE,
    "broker": BROKER,
}
_HEX = frozenset("0123456789ABCDEF")
_BROKER_KEY = re.compile(r"[a-z0-9-]{1,63}(/[a-z0-9-]{1,63}){2}(@[0-9]{1,10})?|sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient to find: by names, each with its scheme or for any, or by its private key."""

    label: str
    names: frozenset[tuple[str, str]] = frozenset()
    scheme: str | None = None
    identity: Identity | None = field(default=None, repr=False)

    def places(self, scheme: str, packet: bytes) -> set[int]:
        """Which recipients of a packet are the one that is meant.

        A private key is tried on every recipient that it may be: what an image calls them, somebody
        may have written to keep one in it. Raises what asking the key raises: one that could not be
        asked (a wrong PIN, a token that is gone) must not pass for one that does not fit.
        """
        found: set[int] = set()
        start = 0
        for home, inner in packets.inside(scheme, packet):
            listed = packets.listed_in(scheme, home, inner)
            here = {at for at, one in enumerate(listed) if self._is(one)}
            here |= self._opened(home, inner, len(listed))
            found |= {start + at for at in here}
            start += len(listed)
        return found

    def _is(self, one: Listed) -> bool:
        if self.scheme is not None:
            return self.scheme in (one.outer, one.scheme)
        return any(
            (kind, name) in self.names
            for kind in (one.scheme, "")
            for name in _names_of(one)
            if name is not None
        )

    def _opened(self, scheme: str, packet: bytes, count: int) -> set[int]:
        """The recipients of a packet whose part the private key opens; most packets it does not."""
        if self.identity is None or not self.identity.handles(scheme):
            return set()
        if getattr(self.identity, "is_remote", False) and count > tries.MAX_TRIES:
            raise LimitExceededError(
                f"a packet has {count} recipients, and {self.label} is asked about "
                f"{tries.MAX_TRIES} at most",
                hint="name those who stay: boltseal recipients set",
            )
        if not self._opens(scheme, packet):
            return set()
        return {
            at
            for at in range(count)
            if (alone := amend.alone(scheme, packet, at)) and self._opens(scheme, alone)
        }

    def _opens(self, scheme: str, packet: bytes) -> bool:
        assert self.identity is not None
        try:
            self.identity.unwrap(scheme, packet)
        except (NotMyKeyError, IntegrityError):
            return False
        return True


def _names_of(one: Listed) -> list[str | None]:
    """What a recipient may be called; a broker's key also without its version."""
    found = [one.recipient, packets.cut(one.recipient), one.exact]
    if one.scheme == BROKER and one.recipient is not None:
        found.append(one.recipient.rpartition("@")[0])
    return found


def parse(text: str, options: KeyOptions | None = None) -> Target:
    """Understand a spelling. Raises UsageError, KeyFileError and what reading a key raises."""
    options = options or KeyOptions()
    scheme, colon, rest = text.partition(":")
    if scheme == "provider" and colon:
        return Target(text, scheme=f"provider.{rest.partition(':')[0]}")
    if scheme == "pgp" and colon:
        return Target(text, _openpgp(rest, options))
    if scheme in _OF_FILES and colon and os.path.exists(rest):
        return _file(text, rest, options, _OF_FILES[scheme])
    if os.path.exists(identity_files.split(text)[0]) and not (colon and scheme in KEY_SERVICES):
        return _file(text, text, options, None)
    if text.startswith("provider.") and " " not in text:  # as lists show it
        return Target(text, scheme=text)
    return Target(text, frozenset({_name(text)}))


def _name(text: str) -> tuple[str, str]:
    """A name as ``inspect`` shows it, the fingerprint of an OpenPGP key or a key service's URI."""
    if text.startswith(("broker:http:", "broker:https:")):
        from boltseal.keywrap.broker.keys import Named

        named = Named.parse(text.partition(":")[2])
        version = f"@{named.version}" if named.version else ""
        return BROKER, named.pin or named.key + version
    if _BROKER_KEY.fullmatch(text):  # as inspect shows it, or of any version
        return BROKER, text
    if text.partition(":")[0] in KEY_SERVICES and ":" in text:
        from boltseal.keywrap.kms import uri

        return "", uri.parse(text).canonical
    bare = text.upper().removeprefix("0X").replace(" ", "")
    if _HEX.issuperset(bare) and len(bare) in (16, *_FINGERPRINT):
        return "pgp", bare[-16:]
    if len(text) == 43 or text.startswith("serial "):
        return "", text
    kind, colon, path = text.partition(":")
    if colon and kind in _OF_FILES:
        raise NotFoundError(
            f"there is no file {shown(path)}",
            hint="without it, give the name that `boltseal recipients list` shows",
        )
    raise UsageError(
        f"{shown(text)!r} names no recipient",
        hint="give a whole name as `boltseal recipients list` shows it, a key file that is there, "
        "pgp:WHO or provider:NAME",
    )


def _file(label: str, text: str, options: KeyOptions, scheme: str | None) -> Target:
    report = show_key(text, options)
    names = frozenset(
        (kind, name)
        for kind, name in report.in_packets
        # certificates of two authorities, and keys of two brokers, may look alike: what tells them
        # apart counts
        if scheme in (None, kind)
        and (kind != "pkcs7" or not name.startswith("serial "))
        and (kind != BROKER or name.startswith("sha256:"))
    )
    identity = parse_identity(text, options) if report.private else None
    return Target(label, names, identity=identity)


def _openpgp(who: str, options: KeyOptions) -> frozenset[tuple[str, str]]:
    """Every part of the keys that a name means: also those that are not used for encryption now."""
    from boltseal.keywrap.pgp import gnupg, listing

    found, _ = listing.public_keys(gnupg.find(options), listing.understand(who))
    if not found:
        raise KeyFileError(
            f"GnuPG has no key for {shown(who)}", hint="name it by its key id, as inspect shows it"
        )
    if len(found) > 1:
        raise KeyFileError(
            f"{shown(who)} fits several keys", hint="name one of them by its fingerprint"
        )
    return frozenset(("pgp", part.key_id) for part in found[0].parts)
