"""Asking a broker at any of its addresses, within a time; each attempt is a request of its own.

What fails for want of an answer (no connection, 5xx, nonsense) goes on to the next address and,
after a pause, around again. What a broker has decided is decided: another replica of it would say
the same, and one that is asked until it says yes is not to be trusted.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from boltseal._io.retry import pause
from boltseal.errors import IntegrityError, KeyServiceError
from boltseal.keywrap.broker import protocol, public, sealing, wire
from boltseal.keywrap.broker.wire import ExchangeError, Wire
from boltseal.keywrap.keyprovider import words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.keywrap.broker.protocol import Refusal
    from boltseal.keywrap.broker.public import PublicKey
    from boltseal.keywrap.broker.settings import Settings
    from boltseal.keywrap.broker.wire import Answer

T = TypeVar("T")

ROUNDS: Final = 5  # over all addresses
ANSWER_SECONDS: Final = 10.0  # that one attempt may take
OUTAGE_SECONDS: Final = 20.0  # after nobody answered: further requests make one round and no pause
_MAX_NAMED = 4  # addresses in a message


class RefusedByBrokerError(Exception):
    """A broker has decided."""

    def __init__(self, address: str, refusal: Refusal) -> None:
        super().__init__(told(address, refusal))
        self.address = address
        self.code = refusal.code


@dataclass(frozen=True, slots=True)
class Asked:
    """What is released: a packet, with what the host says of its layer and image."""

    key: str
    version: int
    packet: bytes
    image_name: str | None = None
    image_digest: str | None = None
    layer: str | None = None
    platform: str | None = None


class Client:
    """For one broker. Safe for threads; it keeps connections and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wire = Wire(settings)
        self._lock = threading.Lock()
        self._best: str | None = None  # the address that answered last
        self._down_until = 0.0

    def close(self) -> None:
        """Close the connections that are kept."""
        self._wire.close()

    def release(self, asked: Asked, brokers: Sequence[str]) -> bytes:
        """The secret in a packet. ``brokers`` are whom it names; they only order our addresses.

        Raises RefusedByBrokerError, KeyServiceError when no address gives an answer that counts,
        and what files of the settings raise.
        """

        def attempt(address: str, seconds: float) -> bytes:
            request, key = sealing.fresh(
                key=asked.key,
                version=asked.version,
                packet=asked.packet,
                time=int(time.time()),
                image_name=asked.image_name,
                image_digest=asked.image_digest,
                layer=asked.layer,
                platform=asked.platform,
            )
            body = request.encode()
            answer = self._wire.exchange(address, protocol.PATH, body, seconds=seconds)
            try:
                return key.open(protocol.parse_answer(_accepted(address, answer)), body)
            except IntegrityError as error:
                raise ExchangeError(error.message, again=False) from None

        return self._anywhere(self._order(brokers), attempt)

    def public_key(
        self, address: str, key: str, version: int | None, *, identified: bool
    ) -> PublicKey:
        """The public half of a version, by default of the newest that is in use.

        Only an address of the settings is shown who we are. Raises as :meth:`release`.
        """
        query = "" if version is None else f"?version={version}"

        def attempt(place: str, seconds: float) -> PublicKey:
            target = f"{public.PATH}{key}{query}"
            answer = self._wire.exchange(place, target, seconds=seconds, identified=identified)
            try:
                found = public.parse(_accepted(place, answer), "the broker's answer")
            except IntegrityError as error:
                raise ExchangeError(error.message, again=False) from None
            if found.key != key or version not in (None, found.version):
                raise ExchangeError("its answer is for another key", again=False)
            return found

        return self._anywhere([address], attempt)

    def _order(self, brokers: Sequence[str]) -> list[str]:
        """All addresses of the settings: the one that answered last, then those that are named."""
        best = self._best
        return sorted(self.settings.addresses, key=lambda one: (one != best, one not in brokers))

    def _anywhere(self, addresses: Sequence[str], attempt: Callable[[str, float], T]) -> T:
        began = time.monotonic()
        until = began + self.settings.timeout
        rounds = 1 if began < self._down_until else ROUNDS
        reasons: dict[str, str] = {}
        left = list(addresses)
        for number in range(1, rounds + 1):
            asked_to_wait: float | None = None
            for place, address in enumerate(list(left)):
                # what is left of the time is shared, so that one that hangs leaves some for others
                share = (until - time.monotonic()) / max(1, len(left) - place)
                if share <= 0:
                    break
                try:
                    return self._once(address, min(ANSWER_SECONDS, share), attempt)
                except _BusyError as error:
                    reasons[address] = str(error)
                    if error.wait is not None:
                        asked_to_wait = max(error.wait, asked_to_wait or 0.0)
                except ExchangeError as error:
                    reasons[address] = str(error)
                    if not error.again:
                        left.remove(address)
            wait = pause(number, asked_to_wait)
            if not left or number == rounds or time.monotonic() + wait >= until:
                break
            time.sleep(wait)
        self._down_until = time.monotonic() + OUTAGE_SECONDS
        raise _nobody(reasons, self.settings, time.monotonic() - began)

    def _once(self, address: str, seconds: float, attempt: Callable[[str, float], T]) -> T:
        until = time.monotonic() + seconds
        while True:
            try:
                found = attempt(address, until - time.monotonic())
            except ExchangeError as error:
                if error.stale:  # the connection had been kept, and was closed meanwhile
                    continue
                raise
            except RefusedByBrokerError:
                self._answered(address)
                raise
            self._answered(address)
            return found

    def _answered(self, address: str) -> None:
        with self._lock:
            self._best, self._down_until = address, 0.0


class _BusyError(ExchangeError):
    """The broker itself says that it may go well later."""

    def __init__(self, reason: str, wait: float | None) -> None:
        super().__init__(reason)
        self.wait = wait


def _accepted(address: str, answer: Answer) -> bytes:
    """The body of a 200. Raises RefusedByBrokerError or ExchangeError for anything else."""
    if answer.status == 200:
        return answer.body
    try:
        refusal = protocol.parse_refusal(answer.body)
    except IntegrityError:
        again = answer.status >= 500
        raise ExchangeError(f"it answers {answer.status} without a reason", again=again) from None
    if refusal.is_transient or answer.status >= 500:
        raise _BusyError(_reason(refusal), answer.wait)
    raise RefusedByBrokerError(address, refusal)


def told(address: str, refusal: Refusal) -> str:
    """A refusal on one line, with what to ask the broker's operator about."""
    return f"the key broker {address} refused: {_reason(refusal)}"


def _reason(refusal: Refusal) -> str:
    # our own words where the code is known: nothing that we sent comes back into a message
    text = protocol.MESSAGES.get(refusal.code) or words.shown(refusal.message) or "no reason given"
    request = f", request {refusal.request}" if refusal.request else ""
    return f"{text} ({refusal.code}{request})"


def _nobody(reasons: dict[str, str], settings: Settings, seconds: float) -> KeyServiceError:
    named = [f"{address}: {reason}" for address, reason in list(reasons.items())[:_MAX_NAMED]]
    said = "; ".join(named) or "there was no time to ask"
    broken = any(one.startswith((*wire.BROKEN, "TLS failed")) for one in reasons.values())
    if any("certificate is not valid for" in one for one in reasons.values()):
        hint = "call the broker by a name that its certificate has, or have one made for this name"
    elif any("certificate is not trusted" in one for one in reasons.values()):
        hint = "name the authority of its certificate in ca-file of the settings"
    elif broken and settings.has_expired():
        hint = f"the certificate {settings.cert_file} has expired: renew it"
    elif broken and settings.cert_file is not None:
        hint = (
            "a broker also ends a connection when no tenant trusts the authority of cert-file: "
            "its log has the reason, under refused-early"
        )
    else:
        hint = "see that the broker runs and can be reached from here, then try again"
    source = f" (settings: {settings.source})" if settings.source else ""
    # what nobody would try again fails at once, and has nothing to do with time
    within = f" within {seconds:.0f} seconds" if seconds >= 1.5 else ""
    return KeyServiceError(
        f"no key broker gave an answer that counts{within}: {said}{source}", hint=hint
    )
