"""What a client asks: which operation, on which bytes, for which parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.keyprovider import protocol

if TYPE_CHECKING:
    from boltseal.keywrap.keyprovider.protocol import Shape

MAX_NAMES = 256  # kinds of parameters in one question
_MEMBERS = ("op", "keywrapparams", "keyunwrapparams")
_PARTS = {
    protocol.WRAP: ("keywrapparams", "optsdata", protocol.MAX_SECRET_BYTES),
    protocol.UNWRAP: ("keyunwrapparams", "annotation", protocol.MAX_PACKET_BYTES),
}
# What Go puts among the parameters for its other protocols, and sends to everybody.
_OTHERS = frozenset(
    (
        "pubkeys",
        "x509s",
        "gpg-recipients",
        "gpg-pubkeyringfile",
        "pkcs11-config",
        "pkcs11-pubkeys",
        "pkcs11-yamls",
    )
)


@dataclass(frozen=True, slots=True)
class Question:
    """One request. ``data`` is a secret to wrap or a packet to open, ``shape`` how it came.

    ``parameters`` are those of the wrapping, by provider; they may be anybody's, and those of an
    unwrapping are private keys, so they are not even read.
    """

    operation: str
    data: bytes = field(repr=False)
    shape: Shape
    parameters: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def mine(self, name: str | None) -> list[str]:
        """The parameters of the provider ``name``, or of the only one that is asked.

        Raises MalformedError when that is nobody, or several.
        """
        if name is not None:
            found = self.parameters.get(name)
            if found is None:
                raise MalformedError(f"the request has no parameters for the provider {name}")
            return found
        asked = [one for one in self.parameters if one not in _OTHERS]
        if len(asked) != 1:
            raise MalformedError(
                "the request is for several providers, and this one does not know its name: start "
                "it with --name"
                if asked
                else "the request has no parameters for a provider"
            )
        return self.parameters[asked[0]]


def parse(raw: bytes) -> Question:
    """Read a request. Raises MalformedError or LimitExceededError."""
    document = protocol.load(raw, _MEMBERS, "the request")
    operation = document.get("op")
    if not isinstance(operation, str) or operation not in _PARTS:
        raise MalformedError(f"the request's op is neither {protocol.WRAP} nor {protocol.UNWRAP}")
    member, inner, most = _PARTS[operation]
    inside = protocol.part(document.get(member), (inner, "ec", "dc"), f"the request's {member}")
    value = inside.get(inner)
    data = protocol.as_bytes(value, f"the request's {inner}", max_bytes=most)
    if not data:
        raise MalformedError(f"the request's {inner} is empty")
    parameters = _parameters(inside.get("ec")) if operation == protocol.WRAP else {}
    return Question(operation, data, "text" if isinstance(value, str) else "numbers", parameters)


def _parameters(ec: Any) -> dict[str, list[str]]:
    what = "the request's parameters"
    found = protocol.part(ec, ("Parameters", "DecryptConfig"), "the request's ec")
    given = protocol.part(found.get("Parameters"), (), what)
    if len(given) > MAX_NAMES:
        raise LimitExceededError(f"{what} have over {MAX_NAMES} names")
    return {
        name: _texts(values, f"{what} of one provider")
        for name, values in given.items()
        if name not in _OTHERS
    }


def _texts(values: Any, what: str) -> list[str]:
    if not isinstance(values, list):
        raise MalformedError(f"{what} are not a list")
    if len(values) > protocol.MAX_PARAMETERS:
        raise LimitExceededError(f"{what} are over {protocol.MAX_PARAMETERS}")
    most = protocol.MAX_PARAMETER_BYTES
    try:
        return [protocol.as_bytes(one, what, max_bytes=most).decode("utf-8") for one in values]
    except UnicodeDecodeError:
        raise MalformedError(f"{what} are not UTF-8 text") from None
