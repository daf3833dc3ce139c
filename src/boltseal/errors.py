"""Every error that Boltseal raises on purpose.

::

    BoltsealError                     exit code 1
    ├── UsageError                    2  arguments, references or selections that make no sense
    ├── NotFoundError                 1  an image, tag, platform or file that is not there
    ├── StorageError                  1  the disk is full, permission is missing, a write failed
    ├── KeyFileError                  1  a key file that cannot be read, or a wrong passphrase
    ├── KeyServiceError               1  a token, GnuPG, a key provider or key service failed
    ├── ClusterError                  1  a Dask cluster cannot be reached, or lost an image
    ├── MissingExtraError             1  an optional package that has to be installed first
    ├── ConflictError                 1  somebody else changed the same thing meanwhile
    ├── UnsupportedError              1  something valid that this version does not do
    ├── LikelySecretError             1  what stays readable of an image may hold secrets
    ├── RegistryError                 1  a registry refused, failed or could not be reached
    │   └── TransientError               what may go well when it is tried again
    ├── NoMatchingKeyError            3  none of the keys given opens a layer
    └── IntegrityError                4  what was read is not what it claims to be
        ├── DigestMismatchError
        ├── SizeMismatchError
        ├── AuthenticationError          the HMAC is missing or wrong
        ├── MalformedError               not the JSON, base64 or structure it has to be
        └── LimitExceededError           larger, longer or deeper than Boltseal reads

A message says what is wrong, in lower case; ``where`` says in which image, platform and layer,
outermost first; ``hint`` says what to do next. None of them ever carries a secret, a token or the
query of a URL.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_MAX_NAMED = 3  # recipients in one line


class Attempt:
    """One identity that was tried on a layer: on which protocol's packets, and why it failed.

    ``recipient`` is whom the wrapped key names; it and ``protocol`` are empty when no packet was of
    the identity's kind. ``layer`` is where it was. (No dataclass: this module is loaded by the
    shortest of commands.)
    """

    __slots__ = ("identity", "layer", "protocol", "reason", "recipient")

    def __init__(
        self, protocol: str, recipient: str, identity: str, reason: str, layer: str = ""
    ) -> None:
        self.protocol = protocol
        self.recipient = recipient
        self.identity = identity
        self.reason = reason
        self.layer = layer

    def at(self, layer: str) -> Attempt:
        """The same attempt, with its layer."""
        return Attempt(self.protocol, self.recipient, self.identity, self.reason, layer)

    def to_json(self) -> dict[str, str]:
        """Plain data for ``--json``."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attempt) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(tuple(self.to_json().values()))


class BoltsealError(Exception):
    """The root of the tree; ``exit_code`` is what the command line ends with."""

    exit_code = 1
    attempts: tuple[Attempt, ...] = ()  # what identities said, where some were tried
    is_at_destination = False
    findings: tuple[Any, ...] = ()  # likely secrets that were found, without their values

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = ", ".join(self.where)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}; {self.hint}" if self.hint else text


class UsageError(BoltsealError):
    """The caller asked for something that makes no sense."""

    exit_code = 2


class NotFoundError(BoltsealError):
    """An image, tag, platform, blob or file is not there."""


class StorageError(BoltsealError):
    """The operating system refused to read or write."""


class KeyFileError(BoltsealError):
    """A key file cannot be read, holds no usable key, or its passphrase is wrong."""


class KeyServiceError(BoltsealError):
    """What holds a key refused or failed: a token, GnuPG, a key provider, a cloud's key service."""


class ClusterError(BoltsealError):
    """The cluster that should encrypt many images cannot be reached, or lost one of them."""


class MissingExtraError(BoltsealError):
    """An optional package is not installed; the hint has the command that installs it."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs packages that are not installed",
            hint=f"install them: pip install 'boltseal[{extra}]'",
        )
        self.extra = extra


class ConflictError(BoltsealError):
    """Somebody else changed the same image meanwhile; nothing of theirs was written over."""

    def __init__(
        self, message: str, *, hint: str | None = "look at what they did, and run it again"
    ) -> None:
        super().__init__(message, hint=hint)


class UnsupportedError(BoltsealError):
    """Valid, but not something this version can do."""


class LikelySecretError(BoltsealError):
    """What stays readable may hold secrets; ``findings`` says where, and never a value."""

    def __init__(
        self, message: str, findings: Sequence[Any] = (), *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.findings = tuple(findings)


class RegistryError(BoltsealError):
    """A registry refused or failed; ``status`` and ``code`` are what it answered, if it did."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class TransientError(RegistryError):
    """A connection that broke or a registry that is busy: worth another try.

    ``wait`` is how many seconds the registry asked to be left alone.
    """

    wait: float | None = None
    exhausted = False  # it has been tried again already, as often as makes sense


class NoMatchingKeyError(BoltsealError):
    """None of the identities given opens a layer; ``attempts`` has what each of them said."""

    exit_code = 3

    def __init__(
        self, message: str, *, hint: str | None = None, attempts: tuple[Attempt, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.attempts = attempts

    @property
    def whom(self) -> str:
        """Whom the wrapped keys are for, as far as they tell; empty when they do not."""
        found = list(
            dict.fromkeys(
                f"{one.protocol} {one.recipient}" for one in self.attempts if one.recipient
            )
        )
        more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
        return ", ".join(found[:_MAX_NAMED]) + more


class IntegrityError(BoltsealError):
    """What was read is not what it claims to be; nothing of it was released."""

    exit_code = 4


class DigestMismatchError(IntegrityError):
    """Content does not have the digest that names it."""


class SizeMismatchError(IntegrityError):
    """Content does not have the size its descriptor states."""


class AuthenticationError(IntegrityError):
    """The HMAC over a ciphertext is missing or wrong."""


class MalformedError(IntegrityError):
    """Input that is not the JSON, base64 or structure it has to be."""


class LimitExceededError(IntegrityError):
    """Input over one of the named limits (see ``boltseal.spec.limits``)."""


@contextmanager
def located(place: str, *, is_source: bool = False) -> Iterator[None]:
    """Add ``place`` in front of the location of any Boltseal error that passes through.

    One that happened at a destination keeps that in front, and gets no source (``is_source``).
    """
    try:
        yield
    except BoltsealError as error:
        if not error.is_at_destination:
            error.where = (place, *error.where)
        elif not is_source:
            error.where = (error.where[0], place, *error.where[1:])
        raise


@contextmanager
def at_destination(name: str) -> Iterator[None]:
    """A Boltseal error that passes through happened at the destination of this name."""
    try:
        yield
    except BoltsealError as error:
        if not error.is_at_destination:
            error.is_at_destination = True
            error.where = (name, *error.where)
        raise
