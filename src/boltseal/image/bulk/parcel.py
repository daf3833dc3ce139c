"""A task as plain data that may travel: no private key, no password, no login.

What a worker needs of its own it finds over there: logins and certificates of registries, GnuPG's
keyring, key providers, logins of key services.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from boltseal._version import __version__
from boltseal.errors import BoltsealError, UnsupportedError, UsageError
from boltseal.image.arguments import as_access, as_keyring, as_reference
from boltseal.image.bulk.fingerprint import plain
from boltseal.image.bulk.report import FAILED, Failure, Result
from boltseal.image.bulk.task import Before, Task, perform
from boltseal.keywrap import portable
from boltseal.keywrap.options import KeyOptions
from boltseal.transports.registry.options import RegistryOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUNTIME = ("identities", "registry", "keys", "jobs", "progress")
# what workers are told of the options of registries and keys; the rest is their own
_REGISTRY = ("auth_file", "cert_dir", "tls_verify")
_KEYS = ("with_kid", "oaep_hash", "provider_files", "provider_timeout", "gnupg_home")
_IMAGES = ("except_base", "reuse")  # options that are references; a glob may look like one
_PATHS = ("oci", "oci-archive", "docker-archive", "dir")


def pack(task: Task) -> dict[str, Any]:
    """What is sent. Raises UsageError for a task that would need a secret over there."""
    options = task.options
    if as_keyring(options.get("identities", ())).identities:
        raise UsageError(
            "private keys are not sent to a cluster", hint="leave --key out, or --dask"
        )
    access = as_access(options.get("registry"), 1)
    ends = (access.source, access.destination)
    if any(one is not None and one.credentials is not None for one in ends):
        raise UsageError(
            "credentials are not sent to a cluster: its workers have logins of their own",
            hint="log in on the workers: boltseal login, or an auth.json that --authfile names",
        )
    keys = options.get("keys") or KeyOptions()
    return {
        "boltseal": __version__,
        "number": task.number,
        "source": absolute(task.source),
        "destination": absolute(task.destination),
        "recipients": [portable.to_plain(one) for one in task.recipients],
        "options": {
            name: _sendable(plain(value)) if name in _IMAGES else plain(value)
            for name, value in options.items()
            if name not in _RUNTIME
        },
        "registry": [
            {name: getattr(one, name) for name in _REGISTRY} if one is not None else {}
            for one in ends
        ],
        "keys": {name: getattr(keys, name) for name in _KEYS},
        "before": task.before and (task.before.source_digest, task.before.digest),
    }


def work(parcel: dict[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Do a task that was sent here; the result is plain data, too.

    ``environ`` has this machine's variables, which say where its logins and keys are.
    """
    try:
        task = _unpack(parcel, environ or {})
    except BoltsealError as error:
        return Result(parcel["number"], FAILED, failure=Failure.of(error)).to_json()
    result = perform(task)
    return replace(result, number=parcel["number"]).to_json()


def _unpack(parcel: dict[str, Any], environ: Mapping[str, str]) -> Task:
    if parcel["boltseal"] != __version__:
        raise UnsupportedError(
            f"the worker has Boltseal {__version__}, and the job comes from {parcel['boltseal']}"
        )
    given = dict(parcel["keys"])
    keys = KeyOptions.from_environ(
        environ, **{**given, "provider_files": tuple(given["provider_files"]) or None}
    )
    source, destination = (
        RegistryOptions.from_environ(environ, **one) for one in parcel["registry"]
    )
    return Task(
        parcel["number"],
        parcel["source"],
        parcel["destination"],
        [portable.from_plain(one, keys) for one in parcel["recipients"]],
        {**parcel["options"], "registry": (source, destination), "keys": keys},
        parcel["before"] and Before(*parcel["before"]),
    )


def absolute(text: str) -> str:
    """A reference that means the same in another process: its path begins at the root."""
    transport, colon, _ = text.partition(":")
    if not colon or transport not in _PATHS:
        return text
    reference = as_reference(text)
    return str(replace(reference, location=os.path.abspath(reference.location)))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return absolute(value)
    return [_sendable(one) for one in value] if isinstance(value, list) else value
