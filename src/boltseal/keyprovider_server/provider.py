"""A key provider without any transport: questions in, answers out.

It uses the keys of a keyring, and wraps for recipients that whoever starts it has named. What it
wraps is an envelope, which Boltseal opens without the provider, too.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boltseal.errors import (
    BoltsealError,
    IntegrityError,
    LimitExceededError,
    MalformedError,
    UsageError,
)
from boltseal.keywrap import envelope, packets
from boltseal.keywrap.keyprovider import protocol
from boltseal.keywrap.keyring import check_mixture, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.keyprovider_server.question import Question
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.keywrap.keyprovider.protocol import Shape
    from boltseal.keywrap.keyring import Keyring

NOT_NAMED = "the parameter is none of the recipients that this key provider was started with"
MAX_WRAPPED_KEYS = 64  # in one request: each may cost an operation of every private key


@dataclass(frozen=True, slots=True)
class Event:
    """One question and how it ended, for a log; nothing in it is secret."""

    operation: str
    schemes: tuple[str, ...] = ()
    who: str = ""
    """The identity that opened it, or the recipients it was wrapped for."""
    error: BoltsealError | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """What answers.

    ``recipients`` has each recipient by the name and by the text that a parameter may be; ``any``
    reads any other text as a recipient, and may be dangerous: a recipient's text can name a file.
    """

    keyring: Keyring
    recipients: Mapping[str, Recipient] = field(default_factory=dict)
    name: str | None = None
    any: Callable[[str], Recipient] | None = None
    allow_classical: bool = False
    shape: Shape | None = None
    """How answers are written; None for the shape of the question."""

    def answer(self, question: Question) -> tuple[bytes, Event]:
        """Raises BoltsealError; NoMatchingKeyError when no key opens the packet."""
        if question.operation == protocol.WRAP:
            data, event = self._wrap(question)
        else:
            data, event = self._unwrap(question)
        answer = protocol.write_answer(question.operation, data, self.shape or question.shape)
        return answer, event

    def _wrap(self, question: Question) -> tuple[bytes, Event]:
        chosen = self._chosen(question.mine(self.name))
        if not self.allow_classical:
            check_mixture(chosen)
        wrapped = wrap(chosen, question.data)
        made = [(scheme, packet) for scheme, found in wrapped.items() for packet in found]
        if _is_too_much(made):
            raise LimitExceededError(
                f"a key provider wraps for {MAX_WRAPPED_KEYS} recipients at most, as it would open "
                "no more",
                hint="name the recipients to boltseal encrypt itself",
            )
        who = ", ".join(one.describe() for one in chosen)
        return envelope.pack(wrapped), Event(question.operation, tuple(wrapped), who)

    def _unwrap(self, question: Question) -> tuple[bytes, Event]:
        inside = envelope.open_up(question.data)
        if not inside:
            raise MalformedError("this key was not wrapped by Boltseal's key provider")
        if _is_too_much(inside):
            raise LimitExceededError(
                f"a key provider looks at {MAX_WRAPPED_KEYS} wrapped keys of a request at most",
                hint="give boltseal decrypt the private key itself",
            )
        opened = self.keyring.unwrap_packets(inside)
        schemes = tuple(dict.fromkeys(scheme for scheme, _ in inside))
        return opened.secret, Event(question.operation, schemes, opened.identity)

    def _chosen(self, parameters: Sequence[str]) -> list[Recipient]:
        if not parameters:
            raise MalformedError("the request names no recipient")
        found: dict[str, Recipient] = {}
        for parameter in parameters:
            for one in self._for(parameter):
                found.setdefault(one.describe(), one)
        return list(found.values())

    def _for(self, parameter: str) -> list[Recipient]:
        if parameter == protocol.ENABLED:
            if not self.recipients:
                raise UsageError(
                    "this key provider has no recipients of its own",
                    hint="start it with -r, or let it take any with --any-recipient",
                )
            return list(self.recipients.values())
        if parameter in self.recipients:
            return [self.recipients[parameter]]
        if self.any is None:
            raise UsageError(NOT_NAMED)
        return [self.any(parameter)]


def _is_too_much(inside: Sequence[tuple[str, bytes]]) -> bool:
    """One client must not keep the keys busy while others wait.

    The recipients count and not the packets: a JWE alone may have 100 of them.
    """
    found = 0
    for scheme, packet in inside:
        try:
            found += max(1, packets.count(scheme, packet))
        except IntegrityError:  # whoever opens it says what is wrong
            found += 1
        if found > MAX_WRAPPED_KEYS:
            return True
    return False


@dataclass(frozen=True, slots=True)
class OneAtATime:
    """An identity that many threads share. Tokens, agents and child processes want no crowd."""

    identity: Identity
    is_remote: bool
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def handles(self, scheme: str) -> bool:
        return self.identity.handles(scheme)

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        with self._lock:
            return self.identity.unwrap(scheme, packet)

    def describe(self) -> str:
        return self.identity.describe()


def shared(keyring: Keyring) -> Keyring:
    """The same keys, for use by several threads at the same time."""
    identities = tuple(
        one
        if getattr(one, "is_concurrent", False)
        else OneAtATime(one, bool(getattr(one, "is_remote", False)))
        for one in keyring.identities
    )
    return replace(keyring, identities=identities)
