"""The keys of a stream processor: the client's, the node's folder, and key providers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, MalformedError
from boltseal.keywrap.collect import Collection
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.runtime.decoder.payload import Payload

# Names that ocicrypt gives to keys, and to their passphrases.
_KEYS = (
    ("privkeys", "privkeys-passwords"),
    ("x509s", None),
    ("gpg-privatekeys", "gpg-privatekeys-passwords"),
    ("pkcs11-yamls", None),
)
_PROVIDER = "provider."
_OWN = (names.QUANTUM_SAFE, names.KEY_SERVICE)  # annotations of Boltseal's own, without a provider


@dataclass(frozen=True, slots=True)
class FailedIdentity:
    """What the node named and could not be read: it only counts when no other key opens."""

    label: str
    error: BoltsealError
    scheme: str | None = None  # that it is for; any, when that is not known

    def handles(self, scheme: str) -> bool:
        return self.scheme in (None, scheme)

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        raise self.error

    def describe(self) -> str:
        return self.label


def gather(
    payload: Payload, folder: str | None, named: Sequence[str], options: KeyOptions
) -> Keyring:
    """All keys, in the order in which they are tried: those that the client sent, those that are
    ``named`` as in ``boltseal decrypt -k``, those below ``folder``, and the key providers that the
    layer names and the key broker, where they are configured.

    A key that cannot be read hides no other one; the keyring then tells of it. Raises
    MalformedError for passphrases that belong to no key.
    """
    found = Collection(options)
    for label, raw, passphrase in _sent(payload):
        found.add_content(raw, label, partial(_given, passphrase))
    for text in named:
        _add(found, text, partial(_add_named, found, text, options))
    if folder is not None:
        _add(found, folder, partial(found.add_path, folder))
    _add_providers(found, payload, options)
    return found.keyring()


def _sent(payload: Payload) -> Iterator[tuple[str, bytes, bytes | None]]:
    """The client's keys with their passphrases, which ocicrypt matches by their position."""
    for name, passwords in _KEYS:
        given = payload.parameters.get(name, ())
        secrets = payload.parameters.get(passwords, ()) if passwords else ()
        if secrets and len(secrets) != len(given):
            raise MalformedError(
                f"the payload has {len(given)} {name}, and {len(secrets)} passphrases for them"
            )
        for place, raw in enumerate(given):
            secret = secrets[place] if secrets else b""
            yield f"{name}[{place}] of the payload", raw, secret or None


def _given(passphrase: bytes | None) -> bytes | None:
    return passphrase


def _add(found: Collection, label: str, add: Callable[[], object]) -> None:
    try:
        add()
    except BoltsealError as error:
        found.add(FailedIdentity(label, error))


def _add_named(found: Collection, text: str, options: KeyOptions) -> None:
    from boltseal.keywrap import parse

    special = parse.special_identity(text, options)
    if special is not None:
        found.add(special)
    else:
        found.add_path(text)


def _add_providers(found: Collection, payload: Payload, options: KeyOptions) -> None:
    """One identity for each parameter that the client named, or the usual one."""
    wanted = [one for one in names.schemes(payload.layer.annotations) if _is_provider(one)]
    if not wanted:
        return
    from boltseal.keywrap.keyprovider import config, keys, protocol

    for scheme in wanted:
        name = scheme.removeprefix(_PROVIDER)
        label = f"key provider {name[:120]}"
        try:
            if scheme == names.BROKER and _add_broker(found, options):
                continue
            if not config.is_known(name, options):
                found.skip(label, "it is not configured here")
                continue
            given = payload.parameters.get(name) or (protocol.ENABLED.encode(),)
            for parameter in given:
                text = parameter.decode("utf-8", "surrogateescape") or protocol.ENABLED
                found.add(keys.identity(f"{name}:{text}", options))
        except BoltsealError as error:
            found.add(FailedIdentity(label, error, scheme))


def _add_broker(found: Collection, options: KeyOptions) -> bool:
    """The node's own broker, where its configuration has one: then no provider is needed for it."""
    from boltseal.keywrap.broker import keys, settings

    configured = settings.configured(options)
    if configured is None:
        return False
    identity = keys.from_settings(configured)
    if not found.has(identity):  # by -k broker: as well, and a refusal is not asked for twice
        found.add(identity)
    return True


def _is_provider(scheme: str) -> bool:
    return scheme.startswith(_PROVIDER) and ":" not in scheme and scheme not in _OWN
