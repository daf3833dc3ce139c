"""Recipients and identities of the ``provider.NAME`` schemes: ``provider:NAME[:PARAMETER]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, KeyServiceError, UsageError
from boltseal.keywrap.keyprovider import config, protocol
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.keywrap.keyprovider.config import Provider
    from boltseal.keywrap.options import KeyOptions

PREFIX = "provider."
MAX_NAME = 128  # characters of a provider's name
_OWN = {
    names.QUANTUM_SAFE: "pq:FILE",
    names.KEY_SERVICE: "the key service's URI",
    names.BROKER: "broker:https://BROKER/NAME",
}
_HOW = "write provider:NAME or provider:NAME:PARAMETER"


@dataclass(frozen=True, slots=True)
class Asking:
    """A provider, and how it is asked."""

    provider: Provider
    timeout: float
    environment: Callable[[], Mapping[str, str]] = field(repr=False, compare=False)

    def ask(self, operation: str, question: bytes) -> bytes:
        """The packet or the secret that it answers with. Raises KeyServiceError."""
        name, way = self.provider.name, self.provider.way
        if isinstance(way, config.Command):
            from boltseal.keywrap.keyprovider import command

            raw = command.ask(name, way, question, self.timeout, self.environment())
        else:
            from boltseal.keywrap.keyprovider import service

            raw = service.ask(name, way, operation, question, self.timeout)
        try:
            return protocol.read_answer(raw, operation)
        except IntegrityError as error:
            raise KeyServiceError(
                f"key provider {name} does not keep to the protocol: {error.message}"
            ) from None


@dataclass(frozen=True, slots=True)
class ProviderWrapper:
    """Asks once for all recipients of a provider, and gets one packet, as Go does."""

    asking: Asking

    @property
    def scheme(self) -> str:
        return PREFIX + self.asking.provider.name

    def wrap(self, recipients: Sequence[ProviderRecipient], secret: bytes) -> list[bytes]:
        parameters = list(dict.fromkeys(one.parameter for one in recipients))
        if len(parameters) > protocol.MAX_PARAMETERS:
            raise UsageError(f"a key provider takes {protocol.MAX_PARAMETERS} parameters at most")
        question = protocol.wrap_question(self.asking.provider.name, parameters, secret)
        return [self.asking.ask(protocol.WRAP, question)]


@dataclass(frozen=True, slots=True)
class ProviderRecipient:
    """Whoever a provider wraps for when it gets this parameter."""

    wrapper: ProviderWrapper
    parameter: str = protocol.ENABLED

    def describe(self) -> str:
        return f"{self.wrapper.scheme} {self.parameter}"


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Whatever keys a provider has. ``schemes`` are its own, and those of its former names."""

    asking: Asking
    schemes: frozenset[str]
    parameter: str = protocol.ENABLED
    is_remote: bool = True
    is_concurrent: bool = True

    def handles(self, scheme: str) -> bool:
        return scheme in self.schemes

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        question = protocol.unwrap_question(self.asking.provider.name, [self.parameter], packet)
        return self.asking.ask(protocol.UNWRAP, question)

    def describe(self) -> str:
        with_parameter = "" if self.parameter == protocol.ENABLED else f" ({self.parameter[:100]})"
        return f"key provider {self.asking.provider.name}{with_parameter}"


def recipient(rest: str, options: KeyOptions) -> ProviderRecipient:
    """``NAME[:PARAMETER]``. Raises UsageError, KeyServiceError and what reading files raises."""
    name, parameter = _split(rest)
    if PREFIX + name in _OWN:
        raise UsageError(
            f"{name} is a name of Boltseal's own, and its keys need no provider here",
            hint=f"write {_OWN[PREFIX + name]}",
        )
    return ProviderRecipient(ProviderWrapper(_asking(name, options)), parameter)


def identity(rest: str, options: KeyOptions) -> ProviderIdentity:
    """``NAME[:PARAMETER]``. Raises UsageError, KeyServiceError and what reading files raises."""
    name, parameter = _split(rest)
    former = [old for old, new in options.provider_aliases.items() if new == name]
    schemes = frozenset(PREFIX + one for one in (name, *former))
    return ProviderIdentity(_asking(name, options), schemes, parameter)


def _asking(name: str, options: KeyOptions) -> Asking:
    return Asking(config.find(name, options), options.provider_timeout, options.child_environment)


def _split(rest: str) -> tuple[str, str]:
    name, colon, parameter = rest.partition(":")
    if not name or len(name) > MAX_NAME or not name.isprintable() or " " in name:
        raise UsageError(
            f"{name[:MAX_NAME]!r} is no name of a key provider"
            if name
            else "this names no key provider",
            hint=_HOW,
        )
    if not colon:
        return name, protocol.ENABLED
    if not parameter or len(parameter) > protocol.MAX_PARAMETER_BYTES // 4:
        raise UsageError(
            "the parameter of a key provider is empty or too long: "
            f"{protocol.MAX_PARAMETER_BYTES // 4} characters at most",
            hint=_HOW,
        )
    return name, parameter
