"""The safe: data keys, opened once by the root key, that seal every private key in the database.

What is sealed is bound to its place and to its public half, so that a row which was exchanged for
another, or whose public key was, does not open. One byte of version (1), the data key's generation
(4, big-endian), a nonce (12), then AES-256-GCM.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, insert, select

from boltseal.broker.keys.root import ROOT_BYTES, check_root
from boltseal.broker.store import tables
from boltseal.errors import KeyServiceError, MalformedError
from boltseal.keywrap.base import NotMyKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from boltseal.broker.keys.root import RootKey
    from boltseal.broker.model import KeyVersion
    from boltseal.broker.store.database import Database

_HEADER: Final = struct.Struct(">BI")
_FORM: Final = 1
_NONCE_BYTES: Final = 12
_PURPOSE: Final = b"boltseal broker sealed/1\0"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a private key belongs; what is sealed for one place opens for no other."""

    text: str

    @classmethod
    def of_version(cls, version: KeyVersion) -> Place:
        """A version of a key, with its algorithm and public half."""
        public = hashlib.sha256(version.public.encode()).hexdigest()
        return cls(f"key {version.path}@{version.version} {version.algorithm} {public}")

    @classmethod
    def of_broker(cls, purpose: str, version: int, public: str) -> Place:
        """One of the broker's own keys."""
        return cls(f"own {purpose}@{version} {hashlib.sha256(public.encode()).hexdigest()}")


class Safe:
    """Seals with the newest data key, opens with any. Safe for threads."""

    def __init__(self, database: Database, root: RootKey) -> None:
        self._database = database
        self._root = root
        self._lock = threading.Lock()
        self._data_keys: dict[int, bytes] = {}

    @classmethod
    def open(cls, database: Database, root: RootKey) -> Safe:
        """Have the root key unwrap the data keys.

        Raises KeyServiceError when this root key wrapped none of them, and what the kind of key and
        the database raise.
        """
        safe = cls(database, root)
        safe.reload()
        return safe

    @property
    def root(self) -> RootKey:
        """What unwrapped the data keys."""
        return self._root

    def reload(self) -> dict[int, bytes]:
        """Have the data keys unwrapped again, as they are now."""
        with self._lock, self._database.read() as connection:
            return self.refresh(connection)

    def refresh(self, connection: Connection) -> dict[int, bytes]:
        """The same, as a transaction sees them; by the root key that is in the file now."""
        try:
            found = load_data_keys(connection, self._root)
        except KeyServiceError:
            other = self._root.again()
            if other is None:
                raise
            found = load_data_keys(connection, other)
            self._root = other
        self._data_keys = found
        return found

    def forget(self) -> None:
        """Drop what was refreshed in a transaction that came to nothing; it is loaded as needed."""
        self._data_keys = {}

    def data_keys(self) -> dict[int, bytes]:
        """All of them, for whoever wraps them anew."""
        return dict(self._data_keys)

    def seal(self, connection: Connection, place: Place, secret: bytes) -> bytes:
        """What goes into the database, in this writer's transaction.

        That has locked the head row: no data key can be exchanged between here and its commit.
        """
        return self.sealer(connection)(place, secret)

    def sealer(self, connection: Connection) -> Callable[[Place, bytes], bytes]:
        """The same for many, in this writer's transaction alone."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        generation, keys = newest_generation(connection), self._data_keys
        if generation not in keys:  # another replica exchanged it
            keys = self.refresh(connection)
        header = _HEADER.pack(_FORM, generation)
        cipher = AESGCM(keys[generation])

        def seal(place: Place, secret: bytes) -> bytes:
            nonce = os.urandom(_NONCE_BYTES)
            return header + nonce + cipher.encrypt(nonce, secret, _bound(header, place))

        return seal

    def unseal(self, place: Place, sealed: bytes) -> bytes:
        """What was sealed for this place.

        Raises MalformedError for what was not, KeyServiceError for a data key that the root key
        cannot unwrap.
        """
        return _unseal(place, sealed, self._data_key)

    def private(self, version: KeyVersion) -> bytes:
        """The private half: PKCS#8 DER, or an X-Wing key's seed. It never leaves the process."""
        return unseal_private(version, self._data_key)

    def _data_key(self, generation: int) -> bytes:
        found = self._data_keys.get(generation)
        if found is None:
            found = self.reload().get(generation)  # another replica exchanged it
        if found is None:
            raise KeyServiceError(f"there is no data key of generation {generation}")
        return found


def unseal_private(version: KeyVersion, data_key: Callable[[int], bytes]) -> bytes:
    """As :meth:`Safe.private`, with data keys by their generation from wherever."""
    if not version.wrapped:
        raise MalformedError(f"the private half of {version.path}@{version.version} is gone")
    return _unseal(Place.of_version(version), version.wrapped, data_key)


def _unseal(place: Place, sealed: bytes, data_key: Callable[[int], bytes]) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header, rest = sealed[: _HEADER.size], sealed[_HEADER.size :]
    if len(rest) <= _NONCE_BYTES or header[0] != _FORM:
        raise MalformedError("this is no sealed private key")
    cipher = AESGCM(data_key(_HEADER.unpack(header)[1]))
    try:
        return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _bound(header, place))
    except InvalidTag:
        raise MalformedError(
            "a sealed private key was changed, or belongs to another key",
            hint="restore the database from a backup",
        ) from None


def load_data_keys(connection: Connection, root: RootKey) -> dict[int, bytes]:
    """Generations to data keys. Raises KeyServiceError when one cannot be unwrapped."""
    table = tables.root_keys
    found: dict[int, bytes] = {}
    rows = connection.execute(select(table)).all()
    # its own rows first: another root key's may not even be of its kind
    for row in sorted(rows, key=lambda one: (one.generation, one.root != root.label)):
        if row.generation in found:
            continue
        try:
            packet = root.unwrap(bytes(row.wrapped))
        except (NotMyKeyError, MalformedError):
            continue
        if len(packet) == 4 + ROOT_BYTES and packet[:4] == row.generation.to_bytes(4, "big"):
            found[row.generation] = packet[4:]
    if not found or len(found) != len({row.generation for row in rows}):
        raise KeyServiceError(
            "this root key does not open the broker's database",
            hint="use the root key that it was made with, or was given last",
        )
    return found


def newest_generation(connection: Connection) -> int:
    """Of the data key that seals; 0 when there is none."""
    return connection.execute(select(func.max(tables.root_keys.c.generation))).scalar() or 0


def add_data_key(connection: Connection, root: RootKey, now: int) -> int:
    """Make the next data key, wrapped by this root key; its generation."""
    generation = newest_generation(connection) + 1
    store_data_key(connection, root, generation, os.urandom(ROOT_BYTES), now)
    return generation


def store_data_key(
    connection: Connection, root: RootKey, generation: int, key: bytes, now: int
) -> None:
    """Write down a data key, wrapped by this root key."""
    check_root(root)
    connection.execute(
        insert(tables.root_keys).values(
            generation=generation,
            root=root.label,
            wrapped=root.wrap(generation.to_bytes(4, "big") + key),
            created=now,
        )
    )


def _bound(header: bytes, place: Place) -> bytes:
    return _PURPOSE + header + place.text.encode()
