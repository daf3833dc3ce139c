"""Which key broker a host asks, and how it shows who it is.

One table of TOML (or one object of JSON): ``[broker]`` of Boltseal's own configuration, or a file
of its own. Several ``addresses`` are replicas of one broker: any will do. Nothing in an image
adds to them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from boltseal._io import strictjson, tomlfile
from boltseal._io.files import read_user_file
from boltseal.errors import (
    BoltsealError,
    IntegrityError,
    KeyFileError,
    MalformedError,
    NotFoundError,
    UsageError,
)
from boltseal.keywrap import secrets
from boltseal.keywrap.broker import packet
from boltseal.keywrap.broker.public import KIND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.keywrap.options import KeyOptions

TABLE: Final = "broker"
MAX_FILE_BYTES: Final = 1024 * 1024  # of configuration
MAX_ADDRESSES: Final = 16
MAX_TOKEN_BYTES: Final = 16 * 1024
SECONDS: Final = 30.0  # that one release may take, with all attempts
MAX_SECONDS: Final = 600.0
AT_ONCE: Final = 8  # releases that one command asks for at a time
_FILES = ("ca-file", "cert-file", "key-file", "key-passphrase-file", "token-file")
_MEMBERS = ("addresses", "former-addresses", *_FILES, "timeout")
_HOW = 'write addresses = ["https://BROKER:PORT"], with cert-file and key-file or with token-file'


@dataclass(frozen=True, slots=True)
class Settings:
    """``former`` are addresses that images may name instead, and nobody contacts. Full paths."""

    addresses: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_passphrase_file: str | None = None
    token_file: str | None = None
    timeout: float = SECONDS
    source: str = ""  # the file that says so, for messages

    def knows(self, brokers: Sequence[str]) -> bool:
        """Whether any of these is the broker that is meant here."""
        return not {*self.addresses, *self.former}.isdisjoint(brokers)

    def token(self) -> str | None:
        """The token as the file has it now: whoever issues them replaces it every hour or so.

        Raises KeyFileError, NotFoundError or StorageError, which do not show it.
        """
        if self.token_file is None:
            return None
        raw = read_user_file(self.token_file, "token file", max_bytes=MAX_TOKEN_BYTES).strip()
        if not raw or not raw.isascii() or any(not 0x21 <= one <= 0x7E for one in raw):
            raise KeyFileError(f"token file {self.token_file} holds no token")
        return raw.decode("ascii")

    def has_expired(self) -> bool:
        """Whether the first certificate of ``cert_file`` is out of date by this machine's clock;
        False for one that cannot be read, which is not what anybody asks here.
        """
        from cryptography import x509

        if self.cert_file is None:
            return False
        try:
            raw = read_user_file(self.cert_file, "certificate", max_bytes=MAX_FILE_BYTES)
            end = x509.load_pem_x509_certificate(raw).not_valid_after_utc
        except (BoltsealError, ValueError):
            return False
        return end.timestamp() < time.time()

    def passphrase(self) -> bytes | None:
        """That of ``key_file``, if there is one. Raises NotFoundError or StorageError."""
        if self.key_passphrase_file is None:
            return None
        return secrets.read(f"file={self.key_passphrase_file}", {})


def load(rest: str, options: KeyOptions) -> Settings:
    """``broker:FILE``, or for ``broker:`` the first of the configuration files that has a table.

    Raises UsageError, NotFoundError or StorageError.
    """
    if rest.startswith(("http://", "https://")):
        raise UsageError(
            "a broker is asked with settings, not by its address alone",
            hint=f"{_HOW}, as FILE, and name it with -k broker:FILE",
        )
    if rest:
        raw = _read(rest, "broker settings")
        document = _json(raw, rest) if raw.lstrip()[:1] == b"{" else tomlfile.load(raw, rest)
        inside = document.get(TABLE)
        return _settings(document if inside is None else inside, rest)
    found = configured(options)
    if found is None:
        looked = ", ".join(options.settings_files)
        raise UsageError(
            f"no configuration has a table [{TABLE}]"
            + (f" (looked in {looked})" if looked else ""),
            hint=f"{_HOW}; or name a file with -k broker:FILE",
        )
    return found


def configured(options: KeyOptions) -> Settings | None:
    """The table of the first of Boltseal's configuration files that has one."""
    for path in options.settings_files:
        try:
            raw = _read(path, "configuration")
        except NotFoundError:
            continue
        table = tomlfile.load(raw, path).get(TABLE)
        if table is not None:
            return _settings(table, path)
    return None


def _read(path: str, what: str) -> bytes:
    try:
        return read_user_file(path, what, max_bytes=MAX_FILE_BYTES)
    except IntegrityError as error:  # too large
        raise UsageError(error.message) from None


def _json(raw: bytes, path: str) -> dict[str, Any]:
    try:
        document = strictjson.load_object(raw, path, max_bytes=MAX_FILE_BYTES)
    except IntegrityError as error:
        raise UsageError(error.message) from None
    if document.get("boltseal") == KIND:
        raise UsageError(
            f"{path} is the public half of a key, which encrypts",
            hint=f"name it with -r broker:{path}; to decrypt, name settings",
        )
    return document


def _settings(table: Any, path: str) -> Settings:
    where = f"{path}: {TABLE}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table of names and values")
    unknown = sorted(set(table) - set(_MEMBERS))
    if unknown:
        raise UsageError(
            f"{where} has {unknown[0][:60]!r}, which is not known",
            hint=f"known are {', '.join(_MEMBERS)}",
        )
    addresses = _addresses(table, "addresses", where)
    if not addresses:
        raise UsageError(f"{where} has no addresses", hint=_HOW)
    folder = os.path.dirname(os.path.abspath(path))
    ca, cert, key, passphrase, token = (_file(table, one, folder, where) for one in _FILES)
    if (cert is None) != (key is None):
        raise UsageError(f"{where} has one of cert-file and key-file", hint="give both, or none")
    timeout = table.get("timeout", SECONDS)
    if type(timeout) not in (int, float) or not 0 < timeout <= MAX_SECONDS:
        raise UsageError(f"{where}: timeout is no number of seconds up to {MAX_SECONDS:g}")
    return Settings(
        addresses,
        _addresses(table, "former-addresses", where),
        *(ca, cert, key, passphrase, token),
        float(timeout),
        path,
    )


def _addresses(table: dict[str, Any], member: str, where: str) -> tuple[str, ...]:
    found = table.get(member, [])
    if not isinstance(found, list) or len(found) > MAX_ADDRESSES:
        raise UsageError(f"{where}: {member} is no list of up to {MAX_ADDRESSES} addresses")
    for one in found:
        check_address(one, f"{where}: {member}")
    return tuple(dict.fromkeys(found))


def check_address(text: Any, where: str) -> str:
    """An address as packets have it. Raises UsageError."""
    try:
        return packet.address(text)
    except MalformedError:
        shown = text[:200] if isinstance(text, str) and "@" not in text else "what is given"
        raise UsageError(
            f"{where}: {shown!r} is no address of a key broker",
            hint="write https://HOST or https://HOST:PORT in lower case, without the usual port "
            "and without a slash at the end; http:// is for this machine alone",
        ) from None


def _file(table: dict[str, Any], member: str, folder: str, where: str) -> str | None:
    value = table.get(member)
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{where}: {member} is no path")
    return os.path.join(folder, value)
