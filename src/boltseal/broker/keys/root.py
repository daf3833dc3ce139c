"""The root key: the one secret that is not in the database, and opens what is.

It wraps data keys, and those seal private keys: so a key service or a token is asked once when the
broker starts, and not at every release. A file's key is used through HKDF and AES-256-GCM; every
other kind is one of Boltseal's own, by its usual spelling.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from boltseal._io.files import open_regular, read_bounded, storage_errors, sync_directory, write_all
from boltseal.errors import (
    BoltsealError,
    KeyFileError,
    KeyServiceError,
    NotFoundError,
    UsageError,
)
from boltseal.keywrap import parse
from boltseal.keywrap.base import NotMyKeyError

if TYPE_CHECKING:
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.keywrap.options import KeyOptions

ROOT_BYTES: Final = 32
_INFO: Final = b"boltseal broker root/1 "
_NONCE_BYTES: Final = 12
_SAME_BOTH_WAYS = (*parse.KEY_SERVICES, "pkcs11")


class RootKey(Protocol):
    """What wraps data keys."""

    @property
    def label(self) -> str:
        """Which root key this is, at most 80 characters: stored beside what it wrapped."""

    def wrap(self, secret: bytes) -> bytes:
        """Raises KeyServiceError or what the kind of key raises."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises NotMyKeyError when another root key wrapped it."""

    def again(self) -> RootKey | None:
        """The root key that the same spelling names now, None when that is this one."""


@dataclass(frozen=True, slots=True)
class FileRoot:
    """32 random bytes in a file (``path``) that nobody but the broker may read."""

    key: bytes = field(repr=False)
    path: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        return "file:" + hashlib.sha256(_derived(self.key, b"label")).hexdigest()[:32]

    def wrap(self, secret: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(_derived(self.key, b"wrap")).encrypt(nonce, secret, _INFO)

    def unwrap(self, wrapped: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(_derived(self.key, b"wrap")).decrypt(nonce, sealed, _INFO)
        except (InvalidTag, ValueError):
            raise NotMyKeyError("another root key wrapped it, or it was changed") from None

    def again(self) -> FileRoot | None:
        """Another file is there now: so a broker that runs goes on with another root key.

        None, too, when it cannot be read: what this key does not open has an error of its own.
        """
        try:
            found = None if self.path is None else FileRoot(_read(self.path), self.path)
        except BoltsealError:
            return None
        return None if found == self else found


@dataclass(frozen=True, slots=True)
class NamedRoot:
    """A key in a token, in Vault, in a cloud's key service, or in a PEM file."""

    recipient: Recipient
    identity: Identity

    @property
    def label(self) -> str:
        return "key:" + hashlib.sha256(self.recipient.describe().encode()).hexdigest()[:32]

    def wrap(self, secret: bytes) -> bytes:
        wrapper = self.recipient.wrapper
        return wrapper.wrap([self.recipient], secret)[0]

    def unwrap(self, wrapped: bytes) -> bytes:
        return self.identity.unwrap(self.recipient.wrapper.scheme, wrapped)

    def again(self) -> None:
        """Who names another key starts the broker anew."""


def open_root(
    spelling: str, options: KeyOptions | None = None, *, recipient: str | None = None
) -> RootKey:
    """``file:PATH``; ``awskms:///…``, ``gcpkms://…``, ``azurekms://…``, ``hashivault://…`` or
    ``pkcs11:FILE``; or any private key, with its public half as ``recipient`` (``jwe:FILE``, …).

    Raises UsageError, NotFoundError, KeyFileError, KeyServiceError or MissingExtraError.
    """
    scheme, _, rest = spelling.partition(":")
    if scheme == "file":
        if recipient is not None:
            raise UsageError("a root key in a file has no recipient beside it")
        return FileRoot(_read(rest), os.path.abspath(rest))
    if recipient is None:
        if scheme not in _SAME_BOTH_WAYS:
            raise UsageError(
                "the root key's public half is not named",
                hint="root_recipient (--root-recipient) names it: jwe:FILE; "
                "a root key that init made is spelled file:FILE",
            )
        recipient = spelling
    return NamedRoot(
        parse.parse_recipient(recipient, options), parse.parse_identity(spelling, options)
    )


def check_root(root: RootKey) -> None:
    """Wrap something and open it again: before anything depends on this key.

    Raises KeyServiceError, and what the kind of key raises.
    """
    probe = os.urandom(ROOT_BYTES)
    try:
        if root.unwrap(root.wrap(probe)) == probe:
            return
    except NotMyKeyError:
        pass
    raise KeyServiceError(
        "the root key does not open what was wrapped for it",
        hint="its recipient and its private key have to be the two halves of one key",
    )


def create_file(path: str, *, like: str | None = None) -> None:
    """A new root key, mode 0600; never over an existing file. Raises StorageError.

    It gets the owner and the mode of ``like``, which another user's broker may have to read.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with storage_errors(f"creating the root key {path}"):
        fd = os.open(path, flags, 0o600)
        try:
            if like is not None:
                found = os.stat(like)
                if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, found.st_uid, found.st_gid)
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
            write_all(fd, os.urandom(ROOT_BYTES), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_directory(folder)
        finally:
            os.close(folder)


def _read(path: str) -> bytes:
    try:
        # Kubernetes mounts secrets as links
        fd = open_regular(path, follow=True)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no root key {path}",
            hint="look at the path; boltseal broker init makes the first one",
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyFileError(f"the root key {path} cannot be read: {reason}") from None
    try:
        found = os.fstat(fd)
        if not _is_private(found):
            raise KeyFileError(
                f"the root key {path} can be read by others", hint=f"run: chmod 600 {path}"
            )
        key = read_bounded(fd, f"the root key {path}", max_bytes=ROOT_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != ROOT_BYTES:
        raise KeyFileError(f"the root key {path} does not have {ROOT_BYTES} bytes")
    return key


def _is_private(found: os.stat_result) -> bool:
    """Its owner's alone; or root's, for the group of a process that is not root.

    The latter is how Kubernetes mounts a secret into a pod that has an fsGroup.
    """
    mode = stat.S_IMODE(found.st_mode)
    others = mode & 0o077
    if not others:
        return found.st_uid in (os.geteuid(), 0)
    return others == 0o040 and found.st_uid == 0 and os.geteuid() != 0


def _derived(key: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(hashes.SHA256(), ROOT_BYTES, salt=None, info=_INFO + purpose).derive(key)
