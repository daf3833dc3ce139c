"""Encrypted container images: the public API.

Everything here is imported on first use, so that ``import boltseal`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "BoltsealError",
    "Identity",
    "IntegrityError",
    "KeyOptions",
    "Keyring",
    "NoMatchingKeyError",
    "Outcome",
    "Progress",
    "Recipient",
    "RegistryOptions",
    "check",
    "copy",
    "decrypt",
    "encrypt",
    "inspect",
    "parse_identity",
    "parse_keyring",
    "parse_recipient",
    "verify",
]

if TYPE_CHECKING:
    from boltseal.errors import BoltsealError, IntegrityError, NoMatchingKeyError
    from boltseal.image.check import check
    from boltseal.image.copy import copy
    from boltseal.image.decrypt import decrypt
    from boltseal.image.encrypt import encrypt
    from boltseal.image.inspect import inspect
    from boltseal.image.report import Outcome, Progress
    from boltseal.image.verify import verify
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.parse import parse_identity, parse_keyring, parse_recipient
    from boltseal.transports.registry.options import RegistryOptions

_HOMES = {
    "BoltsealError": "boltseal.errors",
    "IntegrityError": "boltseal.errors",
    "NoMatchingKeyError": "boltseal.errors",
    "Identity": "boltseal.keywrap.base",
    "Recipient": "boltseal.keywrap.base",
    "KeyOptions": "boltseal.keywrap.options",
    "Keyring": "boltseal.keywrap.keyring",
    "Outcome": "boltseal.image.report",
    "Progress": "boltseal.image.report",
    "RegistryOptions": "boltseal.transports.registry.options",
    "check": "boltseal.image.check",
    "copy": "boltseal.image.copy",
    "decrypt": "boltseal.image.decrypt",
    "encrypt": "boltseal.image.encrypt",
    "inspect": "boltseal.image.inspect",
    "parse_identity": "boltseal.keywrap.parse",
    "parse_keyring": "boltseal.keywrap.parse",
    "parse_recipient": "boltseal.keywrap.parse",
    "verify": "boltseal.image.verify",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'boltseal' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
