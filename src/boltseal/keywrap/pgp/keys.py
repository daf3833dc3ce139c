"""``pgp:WHO``: recipients and identities that GnuPG holds."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from boltseal.errors import IntegrityError, KeyFileError, KeyServiceError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pgp import ballast, gnupg, listing, opening, packet
from boltseal.keywrap.pgp.child import Bounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pgp.gnupg import GnuPG
    from boltseal.keywrap.pgp.listing import Key, Part, Who
    from boltseal.keywrap.pgp.packet import Message

SCHEME = packet.SCHEME
_MAX_CANDIDATES = 6  # keys that a message lists
_NO_SUBKEY = "has no encryption subkey"
_SHAPE = (
    *("--no-armor", "--no-throw-keyids", "--no-encrypt-to", "--no-for-your-eyes-only"),
    *("--cipher-algo", "AES256", "--compress-algo", "none", "--set-filename", ""),
)
_BOUNDS = Bounds(seconds=60, output=packet.MAX_BYTES)


@dataclass(frozen=True, slots=True)
class PgpWrapper:
    """Puts all recipients into one message."""

    program: GnuPG
    scheme: str = SCHEME

    def wrap(self, recipients: Sequence[PgpRecipient], secret: bytes) -> list[bytes]:
        """One packet for the first recipients, another for the next, and so on."""
        step = packet.MAX_RECIPIENTS - 1  # and the ballast
        return [
            self._packet(recipients[at : at + step], secret)
            for at in range(0, len(recipients), step)
        ]

    def _packet(self, recipients: Sequence[PgpRecipient], secret: bytes) -> bytes:
        wanted = {one.key_id for one in recipients}
        try:
            written = self._encrypt(recipients, secret, None)
            if not packet.is_newer_form(written):
                _check(packet.parse(written), wanted)
                return written
            message = packet.parse(self._encrypt(recipients, secret, ballast.PUBLIC_KEY))
        except IntegrityError as error:
            raise KeyServiceError(f"GnuPG wrote what the format does not have: {error}") from None
        _check(message, wanted | {ballast.KEY_ID})
        return message.only([one for one in message.keys if one.key_id in wanted])

    def _encrypt(
        self, recipients: Sequence[PgpRecipient], secret: bytes, further: bytes | None
    ) -> bytes:
        # the exclamation mark: this subkey, whatever else the key may have got meanwhile
        named = [text for one in recipients for text in ("--recipient", one.subkey + "!")]
        ended = self.program.run(
            *(*_SHAPE, *named, "--output", "-", "--encrypt"),
            given=secret,
            public_key=further,
            bounds=_BOUNDS,
        )
        if ended.code:
            lines = gnupg.statuses(ended)
            refused = [rest[-1] for keyword, rest in lines if keyword == "INV_RECP"]
            for one in recipients:
                if one.subkey + "!" in refused:
                    raise KeyServiceError(f"GnuPG does not encrypt for {one.describe()}")
            raise gnupg.failed("encrypt", ended)
        return ended.output


@dataclass(frozen=True, slots=True)
class PgpRecipient:
    """An encryption subkey in GnuPG's keyring, by its fingerprint."""

    fingerprint: str
    subkey: str
    key_id: str
    name: str
    wrapper: PgpWrapper = field(repr=False)

    def describe(self) -> str:
        return f"pgp {self.name} {self.fingerprint} (key {self.key_id})"


def recipient(who: str, options: KeyOptions) -> PgpRecipient:
    """The one key in GnuPG's keyring that ``who`` names and that can be encrypted to.

    Keys that have expired or are revoked count as well: when the right one has expired, whoever
    made another one with its name must not get in its place.

    Raises UsageError, KeyServiceError, and KeyFileError when there is no such key or several.
    """
    named = listing.understand(who)
    program = gnupg.find(options)
    found, similar = listing.public_keys(program, named)
    if not found:
        raise KeyFileError(
            f"GnuPG has no key for {_shown(who)}",
            hint=f"similar ones are: {_listed(similar)}" if similar else _how_to_get(who),
        )
    if len(found) > 1:
        raise KeyFileError(
            f"{_shown(who)} fits several keys: {_listed(found, named)}",
            hint="name one of them by its fingerprint",
        )
    [key] = found
    subkey, problem = _encryption_subkey(key, named)
    if subkey is None:
        raise KeyFileError(
            f"the key {key.describe()} {problem}",
            hint="add one: gpg --quick-add-key FINGERPRINT" if problem == _NO_SUBKEY else None,
        )
    return PgpRecipient(
        key.primary.fingerprint, subkey.fingerprint, subkey.key_id, key.name, PgpWrapper(program)
    )


def _encryption_subkey(key: Key, named: Who) -> tuple[Part | None, str]:
    """The newest subkey that can be encrypted to, as GnuPG would choose; or why there is none."""
    if key.primary.problem is not None:
        return None, key.primary.problem
    if not named.is_current(key):
        return None, "has this name no longer: it has expired"
    meant = [one for one in key.parts if one.can_encrypt]
    if named.exact:
        meant = [one for one in meant if named.is_part(one)]
    if not meant:
        return None, _NO_SUBKEY
    now = time.time()
    # a primary key that can be encrypted to is used when no subkey can
    meant.sort(key=lambda one: (one is not key.primary, one.created))
    usable = [one for one in meant if one.problem is None and one.created <= now]
    if usable:
        return usable[-1], ""
    last = meant[-1]
    return None, f"has an encryption subkey that {last.problem or 'is not valid yet'}"


def _check(message: Message, wanted: set[str]) -> None:
    """Nobody was left out, and nobody was added."""
    found = {one.key_id for one in message.keys}
    if found != wanted:
        raise KeyServiceError(
            "GnuPG encrypted for others than the recipients named",
            hint=f"asked for {', '.join(sorted(wanted))}, got {', '.join(sorted(found))}",
        )


@dataclass(frozen=True, slots=True)
class PgpIdentity:
    """Secret keys that GnuPG, its agent or a smart card holds; they never leave it."""

    is_remote: ClassVar[bool] = True

    label: str
    keys: Mapping[str, int]
    """Key ids and algorithms."""
    program: GnuPG = field(repr=False)

    def handles(self, scheme: str) -> bool:
        return scheme == SCHEME

    def unwrap(self, scheme: str, data: bytes) -> bytes:
        message = packet.parse(data)
        if not self.keys:
            raise NotMyKeyError("GnuPG holds no secret key")
        mine = opening.ours(message, self.keys)
        return opening.decrypt(self.program, message.only(mine))

    def describe(self) -> str:
        return self.label


def identity(rest: str, options: KeyOptions) -> PgpIdentity:
    """``pgp:`` for everything that GnuPG can decrypt with, ``pgp:WHO`` for one key alone.

    Old keys open what was encrypted to them, so a key may be expired or revoked here. Raises
    UsageError, KeyServiceError, and KeyFileError when there is no such key.
    """
    who = listing.understand(rest) if rest else None
    program = gnupg.find(options)
    keys = listing.secret_keys(program, who)
    parts = [part for key in keys for part in key.parts if not part.where.startswith("#")]
    if who is not None and who.exact:
        parts = [part for part in parts if who.is_part(part)]
    if who is not None and not parts:
        raise KeyFileError(
            f"GnuPG has no secret key for {_shown(rest)}",
            hint="see which ones there are: gpg --list-secret-keys",
        )
    label = "pgp: (GnuPG's keys)"
    if who is not None:
        label = f"pgp:{_shown(rest)} (OpenPGP, {keys[0].name}, {keys[0].primary.fingerprint})"
    return PgpIdentity(label, {part.key_id: part.algorithm for part in parts}, program)


def _how_to_get(who: str) -> str:
    if os.path.isfile(who):
        return f"this is a file: gpg --import {_shown(who)}, then name the key by its address"
    return "import it first: gpg --import FILE"


def _listed(keys: Sequence[Key], named: Who | None = None) -> str:
    """Keys for a message, with what is wrong with them when one of them was named."""
    more = len(keys) - _MAX_CANDIDATES
    described = []
    for one in keys[:_MAX_CANDIDATES]:
        problem = _encryption_subkey(one, named)[1] if named is not None else ""
        described.append(one.describe() + (f", which {problem}" if problem else ""))
    return "; ".join(described) + (f" and {more} more" if more > 0 else "")


def _shown(who: str) -> str:
    return gnupg.printable(who.strip())[:120]
