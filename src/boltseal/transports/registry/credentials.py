"""Credentials as the ecosystem keeps them: auth.json, Docker's config.json, and helper programs.

containers-auth.json(5); Docker's credential helper protocol.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal._io.files import folder_of, read_user_file, replace_private_file
from boltseal.errors import (
    BoltsealError,
    MalformedError,
    NotFoundError,
    RegistryError,
    StorageError,
    UsageError,
)
from boltseal.spec.reference import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.transports.registry.options import RegistryOptions

_MAX_BYTES = 4 << 20
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HELPER_SECONDS = 60
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105  what a helper says instead of a user's name


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry's token server or the registry itself is shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # exchanged for access tokens
    registry_token: str = field(default="", repr=False)  # an access token itself

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def find(options: RegistryOptions, host: str, repository: str = "") -> Credentials | None:
    """The credentials for a repository, None for anonymous access.

    The first file that says anything about the registry wins. Raises when a file or a helper
    program that is there cannot be used.
    """
    if options.credentials is not None:
        return Credentials(*options.credentials)
    for path in _read_order(options):
        try:
            document = _load(path)
        except NotFoundError:
            if path == options.auth_file:
                raise
            continue
        found = _in_document(document, host, repository)
        if found is not None:
            return found
    return None


def store(options: RegistryOptions, host: str, credentials: Credentials) -> str:
    """Keep credentials where the other tools find them; says where. Raises StorageError."""
    path = _write_path(options)
    with folder_of(path):
        return _store(path, host, credentials)


def _store(path: str, host: str, credentials: Credentials) -> str:
    document = _load_or_empty(path)
    helper = _helper_for(document, host)
    if helper is not None:
        entry = {"ServerURL": host, "Username": credentials.user, "Secret": credentials.password}
        _run_helper(helper, "store", json.dumps(entry))
        return f"the credential helper {helper}"
    auths = _object(document, "auths")
    pair = f"{credentials.user}:{credentials.password}"
    auths[host] = {"auth": base64.b64encode(pair.encode()).decode("ascii")}
    _save(path, {**document, "auths": auths})
    return path


def remove(options: RegistryOptions, host: str) -> list[str]:
    """Forget a registry's credentials; says where they were."""
    places: list[str] = []
    for path in dict.fromkeys([_write_path(options), *_read_order(options)]):
        if os.path.exists(path):
            with folder_of(path):
                places += _remove(path, host)
    return places


def _remove(path: str, host: str) -> list[str]:
    places: list[str] = []
    document = _load(path)
    helper = _helper_for(document, host)
    if helper is not None:
        _run_helper(helper, "erase", host)
        places.append(f"the credential helper {helper}")
    auths = _object(document, "auths")
    names = [name for name in _names(host) if name in auths]
    if names:
        for name in names:
            del auths[name]
        _save(path, {**document, "auths": auths})
        places.append(path)
    return places


def _read_order(options: RegistryOptions) -> Iterator[str]:
    if options.auth_file is not None:
        yield options.auth_file
        return
    yield options.runtime_auth_file
    yield os.path.join(options.config_folder, "auth.json")
    yield options.docker_auth_file


def _write_path(options: RegistryOptions) -> str:
    """Podman's place where there is one; a machine without it keeps Docker's."""
    if options.auth_file is not None:
        return options.auth_file
    runtime = options.runtime_auth_file
    folder = os.path.dirname(os.path.dirname(runtime))
    if os.path.isdir(folder) and os.access(folder, os.W_OK):
        return runtime
    return os.path.join(options.config_folder, "auth.json")


def _in_document(document: dict[str, Any], host: str, repository: str) -> Credentials | None:
    helpers = _object(document, "credHelpers")
    for name in _names(host):
        if isinstance(helpers.get(name), str):
            return _from_helper(helpers[name], name)
    auths = _object(document, "auths")
    for name in _names(host, repository):
        entry = auths.get(name)
        if isinstance(entry, dict):
            found = _from_entry(entry, name)
            if found is not None:
                return found
    helper = document.get("credsStore")
    if isinstance(helper, str) and helper:
        for name in _names(host):
            found = _from_helper(helper, name)
            if found is not None:
                return found
    return None


def _names(host: str, repository: str = "") -> Iterator[str]:
    """Every key that may stand for a repository, the most special first."""
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:count]))
    yield host
    if host == DEFAULT_HOST:
        yield from _HUB_KEYS
    else:
        yield f"https://{host}"
        yield f"https://{host}/v1/"
        yield f"https://{host}/v2/"


def _from_entry(entry: dict[str, Any], name: str) -> Credentials | None:
    texts = {
        key: entry[key]
        for key in ("auth", "username", "password", "identitytoken", "registrytoken")
        if isinstance(entry.get(key), str)
    }
    user, password = texts.get("username", ""), texts.get("password", "")
    if texts.get("auth"):
        try:
            pair = base64.b64decode(texts["auth"], validate=True).decode("utf-8")
        except ValueError:
            raise StorageError(f"the entry of {name} in the auth file is not valid") from None
        user, _, password = pair.rstrip("\0").partition(":")
    found = Credentials(
        user, password, texts.get("identitytoken", ""), texts.get("registrytoken", "")
    )
    return found if found != Credentials() else None


def _helper_for(document: dict[str, Any], host: str) -> str | None:
    helpers = _object(document, "credHelpers")
    for name in _names(host):
        if isinstance(helpers.get(name), str):
            return str(helpers[name])
    general = document.get("credsStore")
    return general if isinstance(general, str) and general else None


def _from_helper(helper: str, name: str) -> Credentials | None:
    answer = _run_helper(helper, "get", name)
    if answer is None:
        return None
    try:
        document = strictjson.load_object(answer, "its answer", max_bytes=_MAX_BYTES)
        user, secret = document.get("Username", ""), document.get("Secret", "")
    except MalformedError:
        raise RegistryError(f"the credential helper {helper} did not answer with JSON") from None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise RegistryError(f"the credential helper {helper} did not answer with texts")
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(user, secret)


def _run_helper(helper: str, action: str, text: str) -> bytes | None:
    """Run ``docker-credential-NAME``; None when it has nothing for this registry."""
    if not _HELPER.fullmatch(helper):
        raise UsageError("the auth file names a credential helper that is no program's name")
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        raise RegistryError(f"the credential helper docker-credential-{helper} is not installed")
    try:
        done = subprocess.run(  # noqa: S603  the user named it in a file of his own
            [program, action],
            input=text.encode(),
            capture_output=True,
            check=False,
            timeout=_HELPER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RegistryError(
            f"the credential helper {helper} did not answer in {_HELPER_SECONDS} seconds"
        ) from None
    except OSError:
        raise RegistryError(f"the credential helper {helper} cannot be run") from None
    if done.returncode == 0:
        return done.stdout
    if b"not found" in done.stdout or b"not found" in done.stderr:
        return None
    # what it printed may hold anything, a secret too
    raise RegistryError(f"the credential helper {helper} failed with code {done.returncode}")


def _load(path: str) -> dict[str, Any]:
    raw = read_user_file(path, "auth file", max_bytes=_MAX_BYTES)
    if not raw.strip():
        return {}
    try:
        return strictjson.load_object(raw, f"auth file {path}", max_bytes=_MAX_BYTES)
    except BoltsealError as error:
        raise StorageError(error.message, hint="log in again, or mend the file") from None


def _load_or_empty(path: str) -> dict[str, Any]:
    try:
        return _load(path)
    except NotFoundError:
        return {}


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return dict(value) if isinstance(value, dict) else {}


def _save(path: str, document: dict[str, Any]) -> None:
    replace_private_file(path, json.dumps(document, indent="\t").encode() + b"\n")
