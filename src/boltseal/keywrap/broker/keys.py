"""Recipients and identities of the ``provider.boltseal-broker`` scheme (ADR 0026).

To encrypt takes the public half of a key: fetched from the broker, or pinned in a file. To decrypt
takes settings that say which broker is asked and how this host shows who it is; the key-encryption
key never comes here, one layer's secret does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from boltseal._io.files import read_user_file
from boltseal.errors import IntegrityError, KeyFileError, KeyServiceError, UsageError
from boltseal.keywrap.base import About, NotMyKeyError
from boltseal.keywrap.broker import packet, protocol, public
from boltseal.keywrap.broker import settings as settings_files
from boltseal.spec.annotations import BROKER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.keywrap.broker.client import Client, RefusedByBrokerError
    from boltseal.keywrap.broker.public import PublicKey
    from boltseal.keywrap.broker.settings import Settings
    from boltseal.keywrap.options import KeyOptions

DEFAULT = "default"  # tenant and project of a key that is named without them
_NAMED = re.compile(
    r"(?P<address>https?://[^/@?#\s]+(?:/[^/@?#\s]+)*?)"
    r"/(?:(?P<tenant>[^/@?#\s]+)/(?P<project>[^/@?#\s]+)/)?(?P<name>[^/@?#\s]+)"
    r"(?:@(?P<version>[1-9][0-9]{0,9}))?(?:#(?P<pin>sha256:[0-9a-f]{64}))?"
)
_HOW = (
    "write broker:https://HOST[:PORT]/NAME or /TENANT/PROJECT/NAME, with @VERSION and "
    "#sha256:FINGERPRINT where you want them, or broker:FILE with the key's public half"
)
# What a broker has decided about this host or this packet: the key does not open it, and nothing
# is wrong with the service or the settings.
_NOT_MINE = ("forbidden", "revoked", "disabled", "not-found", "malformed")
_HINTS = {
    "unauthenticated": "see cert-file, key-file and token-file in {}: they are missing, expired, "
    "or of an authority that the broker does not trust",
    "expired": "set this machine's clock",
}


@dataclass(frozen=True, slots=True)
class BrokerWrapper:
    """One packet a recipient."""

    scheme: str = BROKER

    def wrap(self, recipients: Sequence[BrokerRecipient], secret: bytes) -> list[bytes]:
        return [one.seal(secret) for one in recipients]


@dataclass(frozen=True, slots=True)
class BrokerRecipient:
    """The public half of one version of a key that a broker holds."""

    public: PublicKey
    wrapper: BrokerWrapper = BrokerWrapper()

    @property
    def quantum_safe(self) -> bool:
        """Whether what is wrapped withstands quantum computers."""
        return self.public.is_hybrid

    def seal(self, secret: bytes) -> bytes:
        """The packet."""
        one = self.public
        return packet.build(
            packet.Packet(one.brokers, one.key, one.version, one.fingerprint, self._inner(secret))
        )

    def _inner(self, secret: bytes) -> bytes:
        if self.public.is_hybrid:
            from boltseal.keywrap.pq.keys import HybridRecipient, HybridWrapper

            (wrapped,) = HybridWrapper().wrap([HybridRecipient(self.public.hybrid())], secret)
            return wrapped
        from boltseal.jose import jwe

        return jwe.encrypt(secret, [(self.public.jose(), True)])

    def describe(self) -> str:
        one = self.public
        return f"broker {one.key}@{one.version} at {one.brokers[0]} ({one.fingerprint})"


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """This host, as the broker of ``settings`` knows it."""

    settings: Settings
    client: Client = field(repr=False, compare=False)
    is_remote: ClassVar[bool] = True
    is_concurrent: ClassVar[bool] = True
    at_once: ClassVar[int] = settings_files.AT_ONCE

    def handles(self, scheme: str) -> bool:
        return scheme == BROKER

    def unwrap(self, scheme: str, data: bytes) -> bytes:
        """As of :class:`~boltseal.keywrap.base.Identity`, when no more than the packet is known."""
        return self.unwrap_for(scheme, data, About())

    def unwrap_for(self, scheme: str, data: bytes, about: About) -> bytes:
        """The secret, if the broker releases it for this layer and image."""
        from boltseal.keywrap.broker import client

        found = packet.parse(data)
        if not self.settings.knows(found.brokers):
            raise NotMyKeyError(f"it is of another key broker: {', '.join(packet.hosts(found))}")
        asked = client.Asked(found.key, found.version, data, **_known(about))
        try:
            return self.client.release(asked, found.brokers)
        except client.RefusedByBrokerError as error:
            if error.code in _NOT_MINE:
                raise NotMyKeyError(str(error)) from None
            raise _failed(error, self.settings) from None

    def describe(self) -> str:
        return f"key broker {self.settings.addresses[0]}"


def recipient(rest: str, options: KeyOptions) -> BrokerRecipient:
    """``https://BROKER/NAME`` and its longer forms, or FILE.

    Raises UsageError, KeyFileError, KeyServiceError, NotFoundError or StorageError.
    """
    if not rest.startswith(("http:", "https:")):
        return _pinned(rest)
    named = Named.parse(rest)
    found = settings_files.configured(options) or settings_files.Settings()
    return fetch(named, found)


@dataclass(frozen=True, slots=True)
class Named:
    """A key as a URL names it."""

    address: str
    key: str
    version: int | None = None
    pin: str | None = None

    @classmethod
    def parse(cls, text: str) -> Named:
        """Raises UsageError."""
        found = _NAMED.fullmatch(text) if len(text) <= 1024 else None
        if found is None:
            raise UsageError(f"{_shown(text)} names no key of a key broker", hint=_HOW)
        address, rest = _split(found)
        settings_files.check_address(address, f"broker:{_shown(text)}")
        if not protocol.KEY.fullmatch(rest):
            raise UsageError(
                f"{rest[:200]!r} is no name of a key: a-z, 0-9 and dashes, 63 at most a part",
                hint=_HOW,
            )
        version = int(found["version"]) if found["version"] else None
        if version is not None and version > protocol.MAX_VERSION:
            raise UsageError(f"{version} is no version of a key", hint=_HOW)
        return cls(address, rest, version, found["pin"])


def _split(found: re.Match[str]) -> tuple[str, str]:
    """Address and key: the last three parts of a path are the key, or a single one is its name."""
    address = found["address"]
    if found["tenant"]:
        return address, f"{found['tenant']}/{found['project']}/{found['name']}"
    if "/" in address.partition("://")[2]:  # two parts: which would be what?
        raise UsageError("a key is named by one part, or by three", hint=_HOW)
    return address, f"{DEFAULT}/{DEFAULT}/{found['name']}"


def fetch(named: Named, settings: Settings) -> BrokerRecipient:
    """Get the public half. Only a broker of the settings is told who asks."""
    from boltseal.keywrap.broker.client import Client, RefusedByBrokerError

    client = Client(settings)
    try:
        found = client.public_key(
            named.address,
            named.key,
            named.version,
            identified=named.address in settings.addresses,
        )
    except RefusedByBrokerError as error:
        raise KeyServiceError(
            f"{error} (key {named.key})",
            hint="check the key's name; a key that is not published is shown to those alone whom "
            "the broker knows and lets wrap, by its address in the settings",
        ) from None
    finally:
        client.close()
    if named.pin is not None and named.pin != found.fingerprint:
        raise KeyFileError(
            f"{named.address} shows another key for {named.key}@{found.version} than the one "
            f"pinned: {found.fingerprint}",
            hint="ask whoever runs the broker; a new version of a key has another fingerprint",
        )
    brokers = dict.fromkeys((named.address, *found.brokers))
    return BrokerRecipient(_at(found, tuple(brokers)[: packet.MAX_BROKERS]))


def identity(rest: str, options: KeyOptions) -> BrokerIdentity:
    """``FILE`` with settings, or nothing for those of Boltseal's configuration.

    Nobody is asked yet. Raises UsageError, NotFoundError or StorageError.
    """
    return from_settings(settings_files.load(rest, options))


def from_settings(found: Settings) -> BrokerIdentity:
    """The identity of settings that are read already."""
    from boltseal.keywrap.broker.client import Client

    return BrokerIdentity(found, Client(found))


def from_public(found: PublicKey) -> BrokerRecipient:
    """The recipient of a public half that is read already. Raises KeyFileError."""
    made = BrokerRecipient(found)
    if not found.is_hybrid:
        found.jose()  # a key that JWE does not take is refused now
    return made


def _at(found: PublicKey, brokers: tuple[str, ...]) -> PublicKey:
    return public.PublicKey(
        brokers, found.key, found.version, found.algorithm, found.public, found.fingerprint
    )


def _pinned(path: str) -> BrokerRecipient:
    raw = read_user_file(path, "public half of a broker's key", max_bytes=public.MAX_BYTES)
    try:
        return from_public(public.parse(raw, path))
    except IntegrityError as error:
        raise KeyFileError(error.message, hint=error.hint or _HOW) from None


def _failed(error: RefusedByBrokerError, settings: Settings) -> KeyServiceError:
    hint = _HINTS.get(error.code)
    return KeyServiceError(str(error), hint=hint and hint.format(settings.source or "the settings"))


def _known(about: About) -> dict[str, str | None]:
    """What a request can carry of it: an odd name is left out, and policies then do not see one."""
    name, platform = about.image_name, about.platform
    if name is not None and not (0 < len(name) <= protocol.MAX_NAME and name.isprintable()):
        name = None
    if platform is not None and not protocol.PLATFORM.fullmatch(platform):
        platform = None
    return {
        "image_name": name,
        "image_digest": about.image_digest,
        "layer": about.layer,
        "platform": platform,
    }


def _shown(text: str) -> str:
    """A URL that is none, without what may be a password in it."""
    parts = text[:200]
    try:
        return repr(parts) if urlsplit(text).password is None else "what is given"
    except ValueError:
        return "what is given"
