"""A key provider without any transport: questions in, answers out.

It uses the keys of a keyring, and wraps for recipients that whoever starts it has named. What it
wraps is an envelope, which Boltseal opens without the provider, too.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, MalformedError, UsageError
from boltseal.keywrap import envelope
from boltseal.keywrap.keyprovider import protocol
from boltseal.keywrap.keyring import check_mixture, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.keyprovider_server.question import Question
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.keywrap.keyprovider.protocol import Shape
    from boltseal.keywrap.keyring import Keyring


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
        packets = wrap(chosen, question.data)
        who = ", ".join(one.describe() for one in chosen)
        return envelope.pack(packets), Event(question.operation, tuple(packets), who)

    def _unwrap(self, question: Question) -> tuple[bytes, Event]:
        inside = envelope.open_up(question.data)
        if not inside:
            raise MalformedError("this key was not wrapped by Boltseal's key provider")
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
            raise UsageError(
                "the parameter is none of the recipients that this key provider was started with"
            )
        return [self.any(parameter)]


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
