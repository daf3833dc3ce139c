"""``boltseal broker init``: a folder with everything that a broker needs to start."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from boltseal._io.files import storage_errors, write_all
from boltseal.broker.app import certificate, config
from boltseal.broker.audit import signing
from boltseal.broker.keys import root
from boltseal.broker.keys.exchange import prepare_root
from boltseal.broker.model import DEFAULT
from boltseal.broker.service import admins, tenants
from boltseal.broker.service.access import EVERYTHING, SYSTEM
from boltseal.broker.store.database import Database
from boltseal.errors import StorageError, UsageError

if TYPE_CHECKING:
    from boltseal.broker.app.config import Settings
    from boltseal.keywrap.options import KeyOptions

ROOT_FILE: Final = "root.key"
DATABASE_FILE: Final = "broker.db"
DATABASE_URL_FILE: Final = "database.url"
AUTHORITY: Final = "tls/ca.pem"
AUTHORITY_KEY: Final = "tls/ca.key"
_DATABASE: Final = (DATABASE_FILE, f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm")
_TLS: Final = (AUTHORITY, AUTHORITY_KEY, "tls/server.pem", "tls/server.key", "tls")
_MADE: Final = (config.FILE, DATABASE_URL_FILE, ROOT_FILE, *_DATABASE, *_TLS)
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; whatever is None is made."""

    folder: str
    listen: tuple[str, ...] = ("127.0.0.1:8443",)
    names: tuple[str, ...] = ()  # of the server, for its certificate
    database: str | None = field(default=None, repr=False)
    root_key: str | None = None
    root_recipient: str | None = None
    certificate: str | None = None
    key: str | None = None
    admin: str = "admin"
    plain: bool = False  # no TLS, on loopback alone


@dataclass(frozen=True, slots=True)
class Made:
    """What there is now. ``token`` is told once."""

    settings: Settings
    token: str = field(repr=False)
    authority: str | None  # a file that clients need, to trust the server


def initialise(wanted: Wanted, options: KeyOptions | None = None) -> Made:
    """Make the folder and all that is in it.

    Raises StorageError when there is a broker already, UsageError for settings that make no sense,
    and RefusedError ``conflict`` for a database that has a root key.
    """
    folder = os.path.abspath(wanted.folder)
    with storage_errors(f"making {wanted.folder}"):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, config.FILE)
    if os.path.lexists(path):
        raise StorageError(
            f"there is a broker in {wanted.folder} already", hint="choose another folder"
        )
    if (wanted.certificate is None) != (wanted.key is None):
        raise UsageError("a certificate and its key belong together", hint="give both, or none")
    for host in wanted.names:
        certificate.check_host(host)
    members = _members(wanted)
    names = [os.path.join(folder, one) for one in _MADE]
    there = {one for one in names if os.path.lexists(one)}
    try:
        _write(path, config.render(members).encode(), 0o600)
        return _fill(wanted, folder, path, options)
    except BaseException:
        # nothing of it is worth anything alone, and the folder can be used again
        for one in names:
            if one not in there:
                _remove(one)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # not made yet, or a folder with something of the user's
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)


def _fill(wanted: Wanted, folder: str, path: str, options: KeyOptions | None) -> Made:
    if wanted.database is not None:
        _write(os.path.join(folder, DATABASE_URL_FILE), wanted.database.encode(), 0o600)
    settings = config.load(path)
    authority = None
    if wanted.certificate is None and not wanted.plain:
        authority = os.path.join(folder, AUTHORITY)
        _make_tls(folder, wanted)
    if wanted.root_key is None:
        root.create_file(os.path.join(folder, ROOT_FILE))
    key = root.open_root(settings.root_key, options, recipient=settings.root_recipient)
    root.check_root(key)
    with Database.open(settings.database) as database:
        database.migrate()
        now = int(time.time())
        safe = prepare_root(database, key, SYSTEM.name, now)
        signing.create_key(database, safe, SYSTEM.name, now)
        tenants.create_tenant(database, SYSTEM, DEFAULT)
        tenants.create_project(database, SYSTEM, DEFAULT, DEFAULT)
        token = admins.create_admin(database, SYSTEM, EVERYTHING, wanted.admin)
    return Made(settings, token, authority)


def _members(wanted: Wanted) -> dict[str, dict[str, object]]:
    top: dict[str, object] = {}
    if wanted.database is None:
        top["database"] = f"sqlite:///{DATABASE_FILE}"
    else:
        top["database_file"] = DATABASE_URL_FILE
    top["root_key"] = (
        config.located(wanted.root_key, os.getcwd()) if wanted.root_key else f"file:{ROOT_FILE}"
    )
    if wanted.root_recipient is not None:
        top["root_recipient"] = config.located(wanted.root_recipient, os.getcwd())
    server: dict[str, object] = {"listen": list(wanted.listen)}
    called = next((one for one in wanted.names if "*" not in one), None)
    if called is not None:
        port = wanted.listen[0].rpartition(":")[2]
        scheme = "http" if wanted.plain else "https"
        host = f"[{called}]" if ":" in called else called
        server["public_address"] = f"{scheme}://{host}:{port}"
    if wanted.certificate is not None and wanted.key is not None:
        server["tls_certificate"] = os.path.abspath(wanted.certificate)
        server["tls_key"] = os.path.abspath(wanted.key)
    elif not wanted.plain:
        server["tls_certificate"] = "tls/server.pem"
        server["tls_key"] = "tls/server.key"
    return {"": top, "server": server}


def _make_tls(folder: str, wanted: Wanted) -> None:
    with storage_errors("making the folder tls"):
        os.makedirs(os.path.join(folder, "tls"), mode=0o700, exist_ok=True)
    hosts = [*wanted.names, *_LOCAL]
    hosts += [one.rpartition(":")[0].strip("[]") for one in wanted.listen]
    hosts = [one for one in hosts if one not in ("0.0.0.0", "::")]  # noqa: S104  not to listen
    pem, key = certificate.authority()
    _write(os.path.join(folder, AUTHORITY), pem, 0o644)
    _write(os.path.join(folder, AUTHORITY_KEY), key, 0o600)
    server_pem, server_key = certificate.server(pem, key, hosts)
    _write(os.path.join(folder, "tls/server.key"), server_key, 0o600)
    _write(os.path.join(folder, "tls/server.pem"), server_pem + pem, 0o644)


def _write(path: str, data: bytes, mode: int) -> None:
    """A new file; never over one that is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with storage_errors(f"writing {path}"):
        fd = os.open(path, flags, mode)
        try:
            write_all(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
