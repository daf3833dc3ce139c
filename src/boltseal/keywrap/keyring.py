"""An explicit, ordered set of identities, built by the caller, and wrapping for recipients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from boltseal.errors import (
    Attempt,
    BoltsealError,
    IntegrityError,
    MalformedError,
    NoMatchingKeyError,
    UsageError,
)
from boltseal.keywrap import envelope, packets, tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from boltseal.keywrap.base import About, Identity, KeyWrapper, Recipient

_NOTHING = "none of the wrapped keys is of its kind"
_MAX_WAYS = 4  # of naming a key, in a hint
_MAX_ATTEMPTS = 1000  # kept of one layer, for the message
MAX_REMOTE_TRIES = 32  # packets of one layer that one program, token or service is asked about


@dataclass(frozen=True, slots=True)
class Opened:
    """An unwrapped secret, and which identity opened it."""

    secret: bytes
    identity: str


def _how(schemes: Sequence[str]) -> str:
    """What can stand behind ``-k`` for a layer that is wrapped by these."""
    known = {
        "pgp": "pgp:",
        "pkcs11": "pkcs11:FILE",
        names.KEY_SERVICE: "URI",
        names.QUANTUM_SAFE: "FILE",
        names.BROKER: "broker:",
    }
    ways = {
        known.get(one) or (f"provider:{one[9:69]}" if one.startswith("provider.") else "FILE")
        for one in schemes
    }
    return " or ".join(sorted(ways)[:_MAX_WAYS])


@dataclass(frozen=True, slots=True)
class Keyring:
    """Identities in the order in which they are tried.

    ``skipped`` has files that were passed over, and why; ``notes`` says the same in words.
    """

    identities: tuple[Identity, ...] = ()
    skipped: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """For people: what was passed over."""
        return tuple(f"{name} was skipped: {reason}" for name, reason in self.skipped)

    def at_once(self, annotations: Mapping[str, str]) -> int:
        """How many such layers it pays to ask for at a time: 1, unless somebody is asked who is far
        away (``at_once`` of an identity) and nobody else who would be takes one after another only.
        """
        if all(getattr(one, "at_once", 1) == 1 for one in self.identities):
            return 1
        wrapped = [scheme for scheme, _ in _packets(names.schemes(annotations), [])]
        asked = [one for one in self.identities if any(map(one.handles, wrapped))]
        if not all(getattr(one, "is_concurrent", False) for one in asked):
            return 1
        return max((int(getattr(one, "at_once", 1)) for one in asked), default=1)

    def unwrap(self, annotations: Mapping[str, str], about: About | None = None) -> Opened:
        """Try the identities, in order, on every packet of a layer; ``about`` is for those who ask.

        Raises NoMatchingKeyError when the layer is for others. When nothing opened, an
        IntegrityError of a malformed packet comes first, then the first failure of an identity
        (a wrong PIN, a provider that cannot be reached).
        """
        found = names.schemes(annotations)
        if not found:
            raise MalformedError("the layer is encrypted but carries no wrapped key")
        broken: list[IntegrityError] = []
        return self._unwrap(list(_packets(found, broken)), broken, sorted(found), about)

    def unwrap_packets(self, given: Iterable[tuple[str, bytes]]) -> Opened:
        """Like :meth:`unwrap`, for schemes and packets that are split already."""
        given = list(given)
        return self._unwrap(given, [], sorted({scheme for scheme, _ in given}))

    def _unwrap(
        self,
        wrapped: Sequence[tuple[str, bytes]],
        broken: list[IntegrityError],
        schemes: Sequence[str],
        about: About | None = None,
    ) -> Opened:
        tried = _Tried(broken, about)
        for identity in self.identities:
            mine = [(scheme, packet) for scheme, packet in wrapped if identity.handles(scheme)]
            # an image must not make us ask a token or a service without end
            bound = MAX_REMOTE_TRIES if getattr(identity, "is_remote", False) else len(mine)
            with tries.of_one_layer():  # a packet may hold many wrapped keys
                for scheme, packet in mine[:bound]:
                    secret = tried.open(identity, scheme, packet)
                    if secret is not None:
                        return Opened(secret, identity.describe())
            if len(mine) > bound:
                reason = f"it is asked about {bound} wrapped keys of a layer at most"
                tried.note(Attempt(mine[0][0], "", identity.describe(), reason))
            if not mine:
                tried.note(Attempt("", "", identity.describe(), _NOTHING))
        for name, reason in self.skipped:
            tried.note(Attempt("", "", name, f"skipped: {reason}"))
        failed = [*broken, *tried.failures]
        if failed:
            failed[0].attempts = tuple(tried.attempts)
            raise failed[0]
        by = ", ".join(one[:120] for one in schemes[:20])
        if not self.identities:
            given = "no key was given" if not self.skipped else "no key given can be used"
            raise NoMatchingKeyError(
                f"{given}, and the layer is encrypted ({by})",
                hint=f"name a private key with --key {_how(schemes)}",
                attempts=tuple(tried.attempts),
            )
        raise NoMatchingKeyError(
            f"no key given opens it (wrapped by {by})",
            hint="see who can open it with: boltseal inspect IMAGE",
            attempts=tuple(tried.attempts),
        )


class _Tried:
    """What every identity said, for a message that leaves nothing to guess."""

    def __init__(self, broken: list[IntegrityError], about: About | None) -> None:
        self.attempts: list[Attempt] = []
        self.failures: list[BoltsealError] = []
        self._broken = broken
        self._about = about

    def open(self, identity: Identity, scheme: str, packet: bytes) -> bytes | None:
        """The secret; None, with the reason kept, when this identity does not open the packet."""
        try:
            if self._about is not None and (ask := getattr(identity, "unwrap_for", None)):
                return cast("bytes", ask(scheme, packet, self._about))
            return identity.unwrap(scheme, packet)
        except NotMyKeyError as error:
            reason = str(error)
        except IntegrityError as error:
            self._broken.append(error)
            return None
        except BoltsealError as error:
            reason = error.message
            self.failures.append(error)
        self.note(Attempt(scheme, packets.recipients(scheme, packet), identity.describe(), reason))
        return None

    def note(self, attempt: Attempt) -> None:
        """Keep one attempt, once, within a bound."""
        if len(self.attempts) < _MAX_ATTEMPTS and attempt not in self.attempts[-50:]:
            self.attempts.append(attempt)


def wrap(recipients: Sequence[Recipient], secret: bytes) -> dict[str, list[bytes]]:
    """Packets for all ``recipients``, by scheme; nobody is ever left out silently.

    Callers that do not want the weaker recipient to open what the stronger is to protect call
    :func:`check_mixture` before.
    """
    if not recipients:
        raise UsageError("no recipient to encrypt for", hint="name at least one, as jwe:FILE")
    groups: list[tuple[KeyWrapper, list[Recipient]]] = []
    for recipient in recipients:
        for wrapper, members in groups:
            if wrapper == recipient.wrapper:
                members.append(recipient)
                break
        else:
            groups.append((recipient.wrapper, [recipient]))
    wrapped: dict[str, list[bytes]] = {}
    for wrapper, members in groups:
        wrapped.setdefault(wrapper.scheme, []).extend(wrapper.wrap(members, secret))
    return wrapped


def check_mixture(recipients: Sequence[Recipient]) -> None:
    """A secret is as safe as its weakest wrapping. Raises UsageError for a mixture."""
    safe = [one for one in recipients if _is_quantum_safe(one)]
    if safe and len(safe) < len(recipients):
        weak = next(one for one in recipients if not _is_quantum_safe(one))
        raise UsageError(
            f"{safe[0].describe()} is to withstand quantum computers, and the same layers would "
            f"also be wrapped for {weak.describe()}, which is not known to: the weaker one opens "
            "them",
            hint="leave one of them out, or accept it with --allow-classical",
        )


def check_addition(
    annotations: Mapping[str, str], recipients: Sequence[Recipient], *, new_key: bool = False
) -> None:
    """The same as :func:`check_mixture`, for a layer that is wrapped already.

    With ``new_key`` the layer gets another one, which the old wrapping does not give away.
    """
    check_mixture(recipients)
    broken: list[IntegrityError] = []
    wrapped = list(_packets(names.schemes(annotations), broken))
    if not (wrapped or broken) or not recipients:
        return
    # what we cannot read another reader may be able to open
    weak = ["a packet that cannot be read"] if broken else []
    weak += [scheme for scheme, packet in wrapped if not packets.is_quantum_safe(scheme, packet)]
    name = recipients[0].describe()
    if _is_quantum_safe(recipients[0]) and weak and not new_key:
        raise UsageError(
            f"the layer is wrapped by {weak[0]} already, which is not known to withstand quantum "
            f"computers: {name} would not make it safer",
            hint="give it a new key with recipients set --rotate, or accept it with "
            "--allow-classical",
        )
    if not _is_quantum_safe(recipients[0]) and not weak:
        raise UsageError(
            f"the layer is wrapped to withstand quantum computers, and {name} is not known to",
            hint="accept it with --allow-classical",
        )


def _is_quantum_safe(recipient: Recipient) -> bool:
    return bool(getattr(recipient, "quantum_safe", False))


def _packets(found: Mapping[str, str], broken: list[IntegrityError]) -> Iterator[tuple[str, bytes]]:
    """Schemes and packets of a layer; what is inside of a Boltseal provider's packet, too."""
    for scheme, value in found.items():
        try:
            split = names.split_packets(scheme, value)
        except IntegrityError as error:
            broken.append(error)  # another scheme's packets may still open
            continue
        for packet in split:
            yield scheme, packet
            if scheme.startswith("provider."):
                try:  # our keys open it without the provider, whatever it was called
                    yield from (one for one in envelope.open_up(packet) if one != (scheme, packet))
                except IntegrityError as error:
                    broken.append(error)
