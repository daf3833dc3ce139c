"""Gather identities from files and folders into a keyring."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, KeyFileError
from boltseal.keywrap import identity_files, keydir, secrets
from boltseal.keywrap.identity_files import FileIdentity, Loaded
from boltseal.keywrap.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from boltseal.keywrap.base import Identity
    from boltseal.keywrap.options import KeyOptions


class Collection:
    """Identities in order, and the certificates that belong to some of them."""

    def __init__(self, options: KeyOptions) -> None:
        self._options = options
        self._identities: list[Identity] = []
        self._certificates: list[x509.Certificate] = []
        self._alone: list[str] = []  # files of certificates that were named by themselves
        self._skipped: dict[str, str] = {}

    def add(self, identity: Identity) -> None:
        """One more identity."""
        self._identities.append(identity)

    def has(self, identity: Identity) -> bool:
        """Whether an equal one is there already."""
        return identity in self._identities

    def add_path(self, text: str) -> None:
        """A file or folder, perhaps with the passphrase of its keys. Raises BoltsealError."""
        path, how = identity_files.split(text)
        if path and os.path.isdir(path):
            self._add_folder(path, how)
        else:
            loaded = identity_files.load(text, self._options)
            self._take(loaded)
            if loaded.identity is None:
                self._alone.append(loaded.label)

    def add_content(
        self, content: bytes, label: str, passphrase: Callable[[], bytes | None]
    ) -> bool:
        """What a key file holds. Content that is no key is skipped with a note; False for that,
        and for certificates alone."""
        try:
            loaded = identity_files.load_bytes(content, label, passphrase, self._options)
        except BoltsealError as error:
            reason = error.message.replace(f"{label}: ", "").replace(label, "it")
            self.skip(label, reason)
            return False
        self._take(loaded)
        return loaded.identity is not None

    def skip(self, label: str, reason: str) -> None:
        """Say why something that was named is not among the keys."""
        self._skipped[label] = reason

    def keyring(self) -> Keyring:
        """All of it, with each certificate beside its key.

        Raises KeyFileError when there are certificates alone: they open nothing.
        """
        if self._alone and not self._identities:
            raise identity_files.only_a_certificate(self._alone[0])
        mine = [self._with_certificates(one) for one in self._identities]
        return Keyring(tuple(mine), tuple(self._skipped.items()))

    def _take(self, loaded: Loaded) -> None:
        if loaded.identity is not None:
            self._identities.append(loaded.identity)
        self._certificates += loaded.certificates

    def _add_folder(self, folder: str, how: str | None) -> None:
        """Every key below a folder. What is no key is skipped with a note."""
        passphrase = None if how is None else secrets.reader(how, self._options)()
        found = 0
        for file in keydir.walk(folder):
            if file.problem is not None:
                self.skip(file.path, file.problem)
            else:
                found += self.add_content(file.content, file.path, lambda: passphrase)
        if not found:
            raise KeyFileError(
                f"there is no key that can be used below {folder}",
                hint="; ".join(f"{name}: {why}" for name, why in list(self._skipped.items())[:3])
                or "it is empty: copy a private key into it",
            )

    def _with_certificates(self, identity: Identity) -> Identity:
        if not self._certificates or not isinstance(identity, FileIdentity):
            return identity
        from boltseal.keywrap.pkcs7.keys import subjects_of
        from boltseal.keywrap.pkcs7.later import LaterIdentity

        members: list[Identity] = []
        for member in identity.members:
            if isinstance(member, LaterIdentity):
                loaded = member.loaded()
                mine = [one for one in self._certificates if loaded.fits(one)]
                members.append(replace(loaded, subjects=subjects_of(mine)))
            else:
                members.append(member)
        return FileIdentity(tuple(members))
