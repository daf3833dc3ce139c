"""What the actions of ``boltseal broker`` share: the settings, the database, names and errors."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from boltseal.errors import (
    BoltsealError,
    ConflictError,
    KeyServiceError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from boltseal.broker.app.config import Settings
    from boltseal.broker.app.replica import Opened
    from boltseal.broker.model import KeyPath, RefusedError
    from boltseal.broker.service.access import Page
    from boltseal.cli.output import Output
    from boltseal.keywrap.options import KeyOptions

T = TypeVar("T")

FOLDER = "broker"
VARIABLE = "BOLTSEAL_BROKER_CONFIG"
DEFAULT = "default"
_NEEDED = ("sqlalchemy", "alembic", "fastapi", "uvicorn", "httptools", "uvloop", "pydantic",
           "cedarpy", "prometheus_client", "psycopg", "jinja2", "multipart")  # fmt: skip


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config``."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"the broker's settings, or their folder (default: ${VARIABLE}, or {FOLDER})",
    )


def add_tenant(parser: argparse.ArgumentParser) -> None:
    """``--tenant``."""
    parser.add_argument(
        "--tenant", default=DEFAULT, metavar="NAME", help="whose it is (default: %(default)s)"
    )


def check_installed() -> None:
    """Raises MissingExtraError unless all of the extra is there."""
    from importlib.util import find_spec

    if any(find_spec(one) is None for one in _NEEDED):
        raise MissingExtraError("the key broker", "broker")


def settings(args: argparse.Namespace) -> Settings:
    """The settings that this run is about."""
    from dataclasses import replace

    from boltseal.broker.app import config

    place = args.config or os.environ.get(VARIABLE) or FOLDER
    if args.config is None and not os.path.lexists(place):
        raise NotFoundError(
            f"there are no settings of a broker at {place}",
            hint="run: boltseal broker init, or name them with --config",
        )
    return replace(config.load(place), key_options=environment_options())


def environment_options() -> KeyOptions:
    """How the root key is reached, where a key service holds it."""
    from boltseal.keywrap.options import KeyOptions

    return KeyOptions.from_environ(dict(os.environ))


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Opened]:
    """The broker's database, for an action that changes or lists something.

    Raises RefusedError ``not-found`` for a tenant that is not there: a list or a report of a name
    that is misspelt would be empty, and look like an answer.
    """
    from boltseal.broker.app.replica import open_database
    from boltseal.broker.service.access import EVERYTHING, check_tenant

    with open_database(settings(args)) as found:
        tenant = getattr(args, "tenant", EVERYTHING)
        if tenant != EVERYTHING:
            with found.database.read() as connection:
                check_tenant(connection, tenant)
        yield found


def told(error: RefusedError) -> BoltsealError:
    """A refusal as an error of the command line: here the reason may be told."""
    kinds: dict[str, type[BoltsealError]] = {
        "malformed": UsageError,
        "not-found": NotFoundError,
        "unavailable": StorageError,
    }
    if error.code == "conflict":
        return ConflictError(error.detail, hint=None)
    return kinds.get(error.code, KeyServiceError)(error.detail)


def key_path(text: str) -> KeyPath:
    """``NAME`` in the default project of the default tenant, or ``TENANT/PROJECT/NAME``."""
    from boltseal.broker.service.access import parse_path

    return parse_path(text if "/" in text else f"{DEFAULT}/{DEFAULT}/{text}")


def digest(text: str) -> str:
    """The digest of an image. Raises UsageError: what is misspelt would be found nowhere."""
    from boltseal.errors import MalformedError
    from boltseal.spec.digest import Digest

    try:
        return str(Digest.parse(text))
    except MalformedError:
        raise UsageError(
            f"{text[:100]!r} is no digest",
            hint="write sha256: and 64 of 0-9 and a-f; boltseal digest IMAGE prints it",
        ) from None


def everything(ask: Callable[[str], Page[T]]) -> list[T]:
    """All pages of a list; ``ask`` is given where the next one begins."""
    found: list[T] = []
    after: str | None = ""
    while after is not None:
        page = ask(after)
        found += page.entries
        after = page.after
    return found


def stamp(seconds: int | None) -> str:
    """A time for people, in UTC."""
    if seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """``NAME=VALUE`` each, no name twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} takes NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} names {name} twice")
        found[name] = value
    return found


def read_text(path: str, what: str, most: int) -> str:
    """A text file of the user's; ``-`` is standard input."""
    import sys

    from boltseal._io.files import read_bounded, read_user_file

    if path == "-":
        raw = read_bounded(sys.stdin.fileno(), what, max_bytes=most)
    else:
        raw = read_user_file(path, what, max_bytes=most)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{what} is not UTF-8 text") from None


def listed(output: Output, name: str, heading: list[str], rows: list[list[str]],
           documents: Callable[[], list[Any]]) -> int:  # fmt: skip
    """Print a list, as a table or as JSON."""
    if rows:
        output.table([heading, *rows], indent="")
    else:
        output.line(f"no {name}")
    output.document(lambda: {name: documents()})
    return 0


def certificate(path: str) -> tuple[str, str]:
    """The credential that the first certificate of a file (PEM or DER) is, and its subject."""
    import hashlib

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from boltseal._io.files import read_user_file
    from boltseal.errors import KeyFileError

    raw = read_user_file(path, "the certificate", max_bytes=256 * 1024)
    load = x509.load_der_x509_certificate
    if b"-----BEGIN" in raw:
        load = x509.load_pem_x509_certificate
    try:
        found = load(raw)
        der = found.public_bytes(Encoding.DER)
        return f"certificate:{hashlib.sha256(der).hexdigest()}", found.subject.rfc4514_string()
    except ValueError:
        raise KeyFileError(f"{path} holds no certificate", hint="give PEM or DER") from None


def seconds(text: str | None, option: str) -> int | None:
    """Seconds since 1970 of a date, or of a date and a time, in UTC unless it says otherwise."""
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} is no time", hint="write 2026-01-31T12:00") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp())


def write_new(path: str, parts: Iterable[bytes]) -> None:
    """A new file, for its owner alone; never over one that is there."""
    from boltseal._io.files import storage_errors

    if os.path.lexists(path):
        raise StorageError(f"{path} is there already", hint="choose another name")
    with storage_errors(f"writing {path}"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            for part in parts:
                file.write(part)
