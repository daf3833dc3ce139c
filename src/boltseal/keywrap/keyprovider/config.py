"""Which key providers there are: ocicrypt's JSON files, and tables of Boltseal's own settings.

A file that is broken is an error that names it. Go only logs it, and the user then reads that the
provider is not known.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson, tomlfile
from boltseal._io.files import read_user_file
from boltseal.errors import IntegrityError, KeyServiceError, NotFoundError, UsageError
from boltseal.keywrap.keyprovider import address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boltseal.keywrap.keyprovider.address import Address
    from boltseal.keywrap.options import KeyOptions

MAX_FILE_BYTES = 1024 * 1024  # one configuration file
MAX_ARGUMENTS = 256  # of one command
_TABLE = "key-providers"
_MEMBERS = ("cmd", "grpc", "grpc-tls")
_FILES = ("root-ca-file", "cert-file", "key-file")


@dataclass(frozen=True, slots=True)
class Command:
    """A program, by its full path, and its arguments."""

    path: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM, and how the server calls itself."""

    root_ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service; without ``tls`` it is on this machine."""

    address: Address
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A key provider, and the file that tells of it."""

    name: str
    way: Command | Service
    source: str


def find(name: str, options: KeyOptions) -> Provider:
    """The provider called ``name`` in the first file that has it.

    Raises UsageError when there is none, or when a file is not what it should be.
    """
    known: dict[str, None] = {}
    looked: list[str] = []
    for path, table in _tables(options):
        looked.append(path if table is not None else f"{path} (not there)")
        if table and name in table:
            return _provider(name, table[name], path, options.environment)
        known.update(dict.fromkeys(table or ()))
    raise UsageError(
        f"there is no key provider called {name!r}; configured are: "
        f"{', '.join(sorted(known)[:20]) or 'none'}",
        hint="name a configuration with --keyprovider-config or OCICRYPT_KEYPROVIDER_CONFIG"
        + (f" (looked in {', '.join(looked)})" if looked else ""),
    )


def is_known(name: str, options: KeyOptions) -> bool:
    """Whether any file tells of a provider called ``name``. Raises UsageError for a broken file."""
    return any(table and name in table for _, table in _tables(options))


def names(options: KeyOptions) -> tuple[str, ...]:
    """All providers of all files. Raises UsageError for a broken file."""
    found: dict[str, None] = {}
    for _, table in _tables(options):
        found.update(dict.fromkeys(table or ()))
    return tuple(found)


def _tables(options: KeyOptions) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """The providers of each file, in order; None for a file that may be missing and is."""
    files = [(path, _json) for path in options.provider_files]
    files += [(path, _toml) for path in options.settings_files]
    for path, load in files:
        try:
            raw = read_user_file(path, "key provider configuration", max_bytes=MAX_FILE_BYTES)
        except NotFoundError:
            if load is _json:
                raise
            yield path, None
            continue
        except IntegrityError as error:
            raise UsageError(error.message) from None
        yield path, load(raw, path)


def _json(raw: bytes, path: str) -> dict[str, Any]:
    try:
        document = strictjson.load_object(raw, path, max_bytes=MAX_FILE_BYTES)
        strictjson.refuse_variants(document, (_TABLE,), path)
    except IntegrityError as error:
        raise UsageError(error.message) from None
    return _object(document.get(_TABLE) or {}, f"{path}: {_TABLE}")


def _toml(raw: bytes, path: str) -> dict[str, Any]:
    return _object(tomlfile.load(raw, path).get(_TABLE, {}), f"{path}: {_TABLE}")


def _provider(name: str, value: Any, path: str, environment: Mapping[str, str]) -> Provider:
    where = f"{path}: key provider {name}"
    attributes = _object(value, where, _MEMBERS)
    command, service = attributes.get("cmd"), attributes.get("grpc")
    if command is not None and service:
        raise UsageError(f"{where} has both cmd and grpc", hint="keep one of them")
    if command is not None:
        return Provider(name, _command(command, where, environment), path)
    if not service:
        raise UsageError(f"{where} has neither cmd nor grpc")
    tls = attributes.get("grpc-tls")
    found = Service(
        address.parse(_text(service, f"{where}: grpc"), where),
        None if tls is None else _tls(tls, f"{where}: grpc-tls"),
    )
    if found.tls is None and not found.address.is_local:
        raise UsageError(
            f"{where} is on another machine, and the keys would go there in the clear",
            hint="configure grpc-tls for it",
        )
    return Provider(name, found, path)


def _command(value: Any, where: str, environment: Mapping[str, str]) -> Command:
    command = _object(value, f"{where}: cmd", ("path", "args"))
    path = _text(command.get("path"), f"{where}: cmd.path")
    args = command.get("args") or []
    if not isinstance(args, list) or not all(isinstance(one, str) for one in args):
        raise UsageError(f"{where}: cmd.args is not a list of texts")
    if len(args) > MAX_ARGUMENTS or any("\0" in one for one in [path, *args]):
        raise UsageError(f"{where}: cmd has over {MAX_ARGUMENTS} arguments, or one with a NUL")
    if os.path.isabs(path):
        return Command(path, tuple(args))
    if os.path.dirname(path):
        raise UsageError(
            f"{where}: cmd.path is relative", hint="write a full path, or a name on the PATH"
        )
    program = shutil.which(path, path=environment.get("PATH", ""))
    if program is None:
        raise KeyServiceError(f"{where}: there is no program {path!r} on the PATH")
    return Command(os.path.abspath(program), tuple(args))


def _tls(value: Any, where: str) -> Tls:
    tls = _object(value, where, (*_FILES, "server-name", "insecure-skip-verify"))
    root, cert, key = (
        _text(tls[one], f"{where}.{one}") if tls.get(one) else None for one in _FILES
    )
    if (cert is None) != (key is None):
        raise UsageError(f"{where} has one of cert-file and key-file", hint="give both, or none")
    skip = tls.get("insecure-skip-verify", False)
    if not isinstance(skip, bool):
        raise UsageError(f"{where}.insecure-skip-verify is neither true nor false")
    name = tls.get("server-name")
    return Tls(root, cert, key, _text(name, f"{where}.server-name") if name else None, skip)


def _object(value: Any, where: str, members: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is not a table of names and values")
    try:
        strictjson.refuse_variants(value, members, where)
    except IntegrityError as error:
        raise UsageError(error.message) from None
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} is missing or not a text")
    return value
