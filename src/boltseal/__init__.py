"""Encrypted container images: the public API.

Everything here is imported on first use, so that ``import boltseal`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal._version import __version__ as __version__

__all__ = [
    "BoltsealError",
    "BulkReport",
    "DaskExecutor",
    "Executor",
    "Identity",
    "IntegrityError",
    "Job",
    "KeyOptions",
    "Keyring",
    "NoMatchingKeyError",
    "Outcome",
    "Progress",
    "Recipient",
    "RegistryOptions",
    "add_recipients",
    "check",
    "copy",
    "decrypt",
    "diff",
    "encrypt",
    "encrypt_many",
    "generate_key",
    "inspect",
    "inspect_all",
    "lint",
    "list_recipients",
    "parse_identity",
    "parse_keyring",
    "parse_recipient",
    "plan",
    "remove_recipients",
    "set_recipients",
    "show_key",
    "unpack",
    "verify",
]

if TYPE_CHECKING:
    from boltseal.errors import BoltsealError, IntegrityError, NoMatchingKeyError
    from boltseal.image.bulk.cluster import DaskExecutor
    from boltseal.image.bulk.executor import Executor
    from boltseal.image.bulk.jobs import Job
    from boltseal.image.bulk.report import BulkReport
    from boltseal.image.bulk.run import encrypt_many
    from boltseal.image.check import check
    from boltseal.image.copy import copy
    from boltseal.image.decrypt import decrypt
    from boltseal.image.diff import diff
    from boltseal.image.encrypt import encrypt
    from boltseal.image.inspect import inspect, inspect_all
    from boltseal.image.lint import lint
    from boltseal.image.plan import plan
    from boltseal.image.recipients import (
        add_recipients,
        list_recipients,
        remove_recipients,
        set_recipients,
    )
    from boltseal.image.report import Outcome, Progress
    from boltseal.image.verify import verify
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.keywrap.generate import generate_key
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.parse import parse_identity, parse_keyring, parse_recipient
    from boltseal.keywrap.show import show_key
    from boltseal.runtime.unpack.image import unpack
    from boltseal.transports.registry.options import RegistryOptions

_HOMES = {
    "BoltsealError": "boltseal.errors",
    "IntegrityError": "boltseal.errors",
    "NoMatchingKeyError": "boltseal.errors",
    "Identity": "boltseal.keywrap.base",
    "Recipient": "boltseal.keywrap.base",
    "KeyOptions": "boltseal.keywrap.options",
    "Keyring": "boltseal.keywrap.keyring",
    "BulkReport": "boltseal.image.bulk.report",
    "DaskExecutor": "boltseal.image.bulk.cluster",
    "Executor": "boltseal.image.bulk.executor",
    "Job": "boltseal.image.bulk.jobs",
    "encrypt_many": "boltseal.image.bulk.run",
    "Outcome": "boltseal.image.report",
    "Progress": "boltseal.image.report",
    "RegistryOptions": "boltseal.transports.registry.options",
    "add_recipients": "boltseal.image.recipients",
    "check": "boltseal.image.check",
    "copy": "boltseal.image.copy",
    "decrypt": "boltseal.image.decrypt",
    "diff": "boltseal.image.diff",
    "encrypt": "boltseal.image.encrypt",
    "generate_key": "boltseal.keywrap.generate",
    "inspect": "boltseal.image.inspect",
    "inspect_all": "boltseal.image.inspect",
    "lint": "boltseal.image.lint",
    "plan": "boltseal.image.plan",
    "list_recipients": "boltseal.image.recipients",
    "parse_identity": "boltseal.keywrap.parse",
    "parse_keyring": "boltseal.keywrap.parse",
    "parse_recipient": "boltseal.keywrap.parse",
    "remove_recipients": "boltseal.image.recipients",
    "set_recipients": "boltseal.image.recipients",
    "show_key": "boltseal.keywrap.show",
    "unpack": "boltseal.runtime.unpack.image",
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
