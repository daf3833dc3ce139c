"""What wrapped keys tell about their recipients without any key.

This looks at the outermost shape of each scheme's packet only; opening one is another matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from boltseal.errors import IntegrityError, LimitExceededError
from boltseal.keywrap import envelope
from boltseal.keywrap.base import WrappedKey
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READERS = {
    "jwe": "jwe",
    "pgp": "pgp.packet",
    "pkcs7": "pkcs7.keys",
    "pkcs11": "pkcs11.packet",
    names.QUANTUM_SAFE: "pq.keys",
    names.KEY_SERVICE: "kms.packet",
    names.BROKER: "broker.packet",
}
HIDDEN = "hidden"  # what OpenPGP calls a recipient that is not named
_MAX_NAME = 120  # characters of an algorithm or a recipient
_MAX_NAMED = 3  # recipients of one packet that a message names
MAX_KEYS = 2_000  # wrapped keys of one layer that are told


def describe(annotations: Mapping[str, str]) -> tuple[tuple[WrappedKey, ...], tuple[str, ...]]:
    """The wrapped keys of a layer, and what was wrong with packets that could not be read."""
    keys: list[WrappedKey] = []
    problems: list[str] = []
    for scheme, value in names.schemes(annotations).items():
        try:
            for packet in names.split_packets(scheme, value):
                keys += map(_shortened, _describe(scheme, packet))
                if len(keys) > MAX_KEYS:
                    raise LimitExceededError(f"more than the limit of {MAX_KEYS} wrapped keys")
        except IntegrityError as error:
            problems.append(error.message)
    return tuple(keys), tuple(problems)


@dataclass(frozen=True, slots=True)
class Listed:
    """One recipient of a packet, with nothing cut off.

    ``outer`` is the annotation's scheme, ``scheme`` that of the packet inside of a provider's
    envelope; ``exact`` tells two recipients apart whose ``recipient``, for people, is the same.
    """

    outer: str
    scheme: str
    recipient: str | None
    exact: str | None

    @property
    def is_named(self) -> bool:
        """Whether the packet tells whose this is."""
        return self.exact is not None


def listed(scheme: str, packet: bytes) -> list[Listed]:
    """Every recipient of one packet, in order. Raises MalformedError or LimitExceededError."""
    return [one for home, inner in inside(scheme, packet) for one in listed_in(scheme, home, inner)]


def listed_in(outer: str, scheme: str, packet: bytes) -> list[Listed]:
    """The same for a packet that is out of its envelope; ``outer`` is the envelope's scheme."""
    keys = _read(scheme, packet)
    exact = [None if one.recipient == HIDDEN else one.recipient for one in keys]
    if scheme == "pkcs7":
        from boltseal.keywrap.pkcs7 import packet as pkcs7

        exact = [pkcs7.exact_name(one) for one in pkcs7.parse(packet).recipients]
    if scheme == names.BROKER:
        from boltseal.keywrap.broker import packet as broker

        exact = [broker.parse(packet).fingerprint]  # several brokers may have keys of one name
    return [
        Listed(outer, scheme, one.recipient, name) for one, name in zip(keys, exact, strict=True)
    ]


def count(scheme: str, packet: bytes) -> int:
    """How many recipients one packet has."""
    return sum(len(_read(home, inner)) for home, inner in inside(scheme, packet))


def recipients(scheme: str, packet: bytes) -> str:
    """Whom one packet names, on one short line; empty when it does not tell."""
    try:
        found = dict.fromkeys(
            one.recipient for one in map(_shortened, _describe(scheme, packet)) if one.recipient
        )
    except IntegrityError:
        return ""
    named = list(found)[:_MAX_NAMED]
    more = len(found) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def is_quantum_safe(scheme: str, packet: bytes) -> bool:
    """Whether a packet, and all that is inside of it, withstands a quantum computer.

    What a packet is counts, not what its annotation or its envelope calls it.
    """
    try:
        inside = envelope.open_up(packet) if scheme.startswith("provider.") else []
    except IntegrityError:
        return False
    return bool(inside) and all(_withstands(home, one) for home, one in inside)


def _withstands(scheme: str, packet: bytes) -> bool:
    if scheme == names.BROKER:
        from boltseal.keywrap.broker import packet as broker

        try:
            return broker.parse(packet).is_hybrid
        except IntegrityError:
            return False
    return scheme == names.QUANTUM_SAFE and envelope.kind(packet) == envelope.QUANTUM_SAFE


def _shortened(key: WrappedKey) -> WrappedKey:
    """Names are for people: one that would fill a screen is cut."""
    return WrappedKey(key.scheme[:_MAX_NAME], cut(key.algorithm), cut(key.recipient))


def cut(text: str | None) -> str | None:
    """A name as it is told: one that is too long ends in …."""
    return text if text is None or len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"


def _describe(scheme: str, packet: bytes) -> list[WrappedKey]:
    return [
        # what a provider of ours wrapped is named with the provider
        WrappedKey(scheme if home == scheme else f"{scheme} ({home})", one.algorithm, one.recipient)
        for home, inner in inside(scheme, packet)
        for one in _read(home, inner)
    ]


def _read(scheme: str, packet: bytes) -> list[WrappedKey]:
    """The recipients of a packet that is no envelope; of an unknown kind it has one."""
    if scheme not in _READERS:
        return [WrappedKey(scheme)]
    read = cast(
        "Callable[[bytes], list[WrappedKey]]",
        import_module(f"boltseal.keywrap.{_READERS[scheme]}").describe_packet,
    )
    return read(packet)


def inside(scheme: str, packet: bytes) -> list[tuple[str, bytes]]:
    """Schemes and packets inside of one that Boltseal's key provider wrote; else the packet."""
    opened = envelope.open_up(packet) if scheme.startswith("provider.") else []
    return opened or [(scheme, packet)]
