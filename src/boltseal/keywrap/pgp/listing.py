"""GnuPG's listing of keys (``--with-colons``), and which key a name means.

GnuPG finds candidates, and what a name means is decided here: parts of names and addresses never
count, so that nobody encrypts for ``notbob@example.org`` because there is no key for ``bob@…``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boltseal.errors import KeyServiceError, UsageError
from boltseal.keywrap.pgp import gnupg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.keywrap.pgp.child import Ended
    from boltseal.keywrap.pgp.gnupg import GnuPG

_NO_KEYS = (9, 17, 27)  # libgpg-error: no public key, no secret key, not found
_NO_FILE = 0x8000 | 81  # libgpg-error's ENOENT
_HEX = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{8}|[0-9A-Fa-f]{16}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})(!?)")
_SPACED = re.compile(r"(?:[0-9A-Fa-f]{4} {1,2}){9}[0-9A-Fa-f]{4}")
_ADDRESS = re.compile(r"<?([^<>\s]+@[^<>\s]+)>?")
_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_MAX_TIME = 1 << 36  # seconds since 1970; OpenPGP's own end with 32 bits
_MAX_DIGITS = 20
_MAX_WHO = 500  # characters of a name
_GONE = frozenset("rei")  # revoked, expired, not valid
_TAKEN_BACK = frozenset("ri")  # a name that its owner does not have any more
_STATES = {"r": "is revoked", "e": "has expired", "i": "is not valid", "d": "is disabled"}


@dataclass(frozen=True, slots=True)
class Part:
    """A primary key or a subkey. ``state`` is GnuPG's letter, ``where`` where its secret is."""

    fingerprint: str
    key_id: str
    state: str
    created: int
    usage: str
    where: str = ""
    algorithm: int = 0
    expires: int = 0

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, to be said of it; None where nothing is wrong."""
        if self.state == "e" and 0 < self.expires < _MAX_TIME:
            return f"expired on {datetime.fromtimestamp(self.expires, UTC).date()}"
        return _STATES.get("d" if "D" in self.usage else self.state)

    @property
    def can_encrypt(self) -> bool:
        """Whether it is meant for encryption, usable or not."""
        return "e" in self.usage


@dataclass(frozen=True, slots=True)
class Key:
    """A key with its parts, the primary one first, and its user ids, each with its state."""

    parts: tuple[Part, ...]
    users: tuple[tuple[str, str], ...]

    @property
    def primary(self) -> Part:
        """What names the whole key."""
        return self.parts[0]

    @property
    def name(self) -> str:
        """The first user id that is valid, for people."""
        valid = [name for state, name in self.users if state not in _GONE]
        found = valid or [name for _, name in self.users] or ["a key without a name"]
        return gnupg.printable(found[0])[:120]

    def describe(self) -> str:
        """Fingerprint and name."""
        return f"{self.primary.fingerprint} ({self.name})"


@dataclass(frozen=True, slots=True)
class Who:
    """A name of a key: what GnuPG is asked for, and what has to fit."""

    kind: str  # id, address or name
    wanted: str
    exact: bool = False
    """Just this subkey, as ``!`` behind an id says."""

    @property
    def query(self) -> str:
        """The way in which GnuPG finds candidates; never an option."""
        if self.kind == "id":
            return "0x" + self.wanted
        return f"<{self.wanted}>" if self.kind == "address" else "*" + self.wanted

    def fits(self, key: Key) -> bool:
        """Whether the key may be the one that is meant; one that has expired may be, too."""
        if self.kind == "id":
            return any(self.is_part(part) for part in key.parts)
        # of a key that is gone as a whole so are the names: which one is meant can still be said
        without = frozenset[str]() if key.primary.state in _GONE else _TAKEN_BACK
        return self._is_name(key, without)

    def is_current(self, key: Key) -> bool:
        """Whether a key that fits has the name today."""
        return self.kind == "id" or self._is_name(key, _GONE)

    def _is_name(self, key: Key, without: frozenset[str]) -> bool:
        wanted = self.wanted.casefold()
        return any(
            wanted in map(str.casefold, self._names(user))
            for state, user in key.users
            if state not in without
        )

    def _names(self, user: str) -> tuple[str, ...]:
        """What has to be equal; by custom a user id is ``NAME (COMMENT) <ADDRESS>``."""
        name, bracket, address = user.strip().removesuffix(">").rpartition("<")
        if self.kind == "address":
            return (address if bracket else user,)
        name = (name if bracket else user).strip()
        if name.endswith(")"):
            name = name.rpartition("(")[0].strip()
        return name, user

    def is_part(self, part: Part) -> bool:
        """Whether an id is this part's fingerprint, or the end of it."""
        return self.wanted in (part.key_id, part.fingerprint, part.key_id[-len(self.wanted) :])


def understand(text: str) -> Who:
    """An address, a name, a key id or a fingerprint. Raises UsageError."""
    text = text.strip()
    if not text or len(text) > _MAX_WHO or not text.isprintable():
        raise UsageError(
            "pgp: names a key by address, name, key id or fingerprint",
            hint="see which ones there are: gpg --list-keys",
        )
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if match := _HEX.fullmatch(text):
        return Who("id", match[1].upper(), exact=bool(match[2]))
    if match := _ADDRESS.fullmatch(text):
        return Who("address", match[1])
    return Who("name", text)


def public_keys(program: GnuPG, who: Who) -> tuple[list[Key], list[Key]]:
    """Keys that fit, and those that GnuPG found similar. Raises KeyServiceError."""
    found = _list(program, "--list-keys", who)
    return [one for one in found if who.fits(one)], [one for one in found if not who.fits(one)]


def secret_keys(program: GnuPG, who: Who | None) -> list[Key]:
    """Keys whose secret part GnuPG can reach, all or those that fit. Raises KeyServiceError."""
    return [
        one for one in _list(program, "--list-secret-keys", who) if who is None or who.fits(one)
    ]


def _list(program: GnuPG, command: str, who: Who | None) -> list[Key]:
    query = ("--", who.query) if who is not None else ()
    ended = program.run("--with-colons", "--fixed-list-mode", "--with-fingerprint",
                        "--with-fingerprint", command, *query)  # fmt: skip
    keys = list(_parse(ended.output))
    if ended.code and not keys and not _has_none(ended):
        raise gnupg.failed("list its keys", ended)
    return keys


def _has_none(ended: Ended) -> bool:
    """Whether it failed because there is no such key, or no keyring yet."""
    for keyword, rest in gnupg.statuses(ended):
        if keyword == "ERROR" and len(rest) > 1 and rest[1].isdigit():
            code = int(rest[1]) & 0xFFFF
            if code in _NO_KEYS or (rest[0] == "add_keyblock_resource" and code == _NO_FILE):
                return True
    return False


def _parse(output: bytes) -> Iterator[Key]:
    """The records of each key (GnuPG's doc/DETAILS, "Format of colon listings")."""
    parts: list[Part] = []
    users: list[tuple[str, str]] = []
    for line in output.split(b"\n"):
        fields = [_unescaped(field) for field in line.split(b":")]
        fields += [""] * (15 - len(fields))
        match fields[0]:
            case "pub" | "sec":
                if parts:
                    yield Key(tuple(parts), tuple(users))
                parts, users = [_part(fields)], []
            case "sub" | "ssb":
                parts.append(_part(fields))
            case "fpr" if parts and not parts[-1].fingerprint:
                parts[-1] = replace(parts[-1], fingerprint=fields[9])
            case "uid":
                users.append((fields[1][:1], fields[9]))
    if parts:
        yield Key(tuple(parts), tuple(users))


def _part(fields: list[str]) -> Part:
    if not re.fullmatch(r"[0-9A-F]{16}", fields[4]):
        raise KeyServiceError("GnuPG lists a key without a key id")
    algorithm, created, expires = (
        int(one) if one.isdigit() and len(one) < _MAX_DIGITS else 0
        for one in (fields[3], fields[5], fields[6])
    )
    return Part("", fields[4], fields[1][:1], created, fields[11], fields[14], algorithm, expires)


def _unescaped(field: bytes) -> str:
    raw = _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), field)
    return raw.decode("utf-8", "replace")
