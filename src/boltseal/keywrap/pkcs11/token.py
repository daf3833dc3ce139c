"""A key in a token: found when it is first needed, and kept open for the run."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

from boltseal._io import b64
from boltseal._io.files import read_user_file
from boltseal.errors import KeyFileError, KeyServiceError, LimitExceededError, MissingExtraError
from boltseal.keywrap import secrets
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs11 import policy, problems, variables
from boltseal.keywrap.pkcs11.process import RefusedError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.errors import BoltsealError
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pkcs11.uri import TokenUri

MAX_PIN_BYTES = 255


class HashMissingError(Exception):
    """The token cannot do OAEP with this hash."""


class Pin:
    """Where the PIN comes from. ``first`` goes before the URI, ``last`` behind it."""

    def __init__(
        self,
        uri: TokenUri,
        *,
        first: Callable[[], bytes | None] | None = None,
        last: Callable[[], bytes | None] | None = None,
    ) -> None:
        self._uri = uri
        self._first = first
        self._last = last
        self._read: str | None = None  # a descriptor can be read once only

    def read(self, label: str) -> str | None:
        """The PIN; None when there is none. Raises what reading it raises."""
        if self._read is None:
            raw = self._raw(label)
            self._read = raw if raw is None else _pin_text(raw, label)
        return self._read

    def _raw(self, label: str) -> bytes | None:
        if self._first is not None:
            return self._first()
        if self._uri.pin_value is not None:
            return self._uri.pin_value.encode()
        if self._uri.pin_source is not None:
            return _pin_file(self._uri.pin_source, label)
        return self._last() if self._last is not None else None


class TokenKey:
    """One key of one token. Its process ends with this object, or at the end of the program.

    Finding the module is done here and now, everything else when it is needed.
    """

    def __init__(
        self,
        uri: TokenUri,
        pin: Pin,
        options: KeyOptions,
        *,
        label: str,
        environment: Mapping[str, str],
    ) -> None:
        _require_binding()
        self.label = label
        rules = policy.find(options)
        variables.check(environment, rules.variables, label, rules.file)
        self.module = rules.module(uri)
        self._rules = rules
        self._uri = uri
        self._pin = pin
        self._options = options
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._refused: KeyServiceError | None = None  # a PIN is never tried twice
        self._serial = ""
        self._public: rsa.RSAPublicKey | None = None

    def describe(self) -> str:
        """For people."""
        return f"{self.label} (PKCS#11, {self._uri.describe()})"

    def open(self) -> rsa.RSAPublicKey | None:
        """Log in and find the private key; its public half, as far as the token tells it.

        Raises KeyServiceError and what reading the PIN raises.
        """
        with self._lock:
            self._ready()
            return self._public

    def decrypt(self, blob: bytes, hash_name: str) -> bytes:
        """Raises NotMyKeyError, HashMissingError or KeyServiceError."""
        with self._lock:
            worker = self._ready()
            try:
                answer = worker.ask("decrypt", blob=b64.encode(blob), hash=hash_name)
            except RefusedError as refused:
                if refused.name in problems.NOT_MINE:
                    raise NotMyKeyError("the key in the token does not open it") from None
                if refused.name in problems.NO_HASH:
                    raise HashMissingError from None
                self._close()
                raise self._explain(refused) from None
        secret = answer.get("secret")
        return b64.decode(secret if isinstance(secret, str) else "", "the token's answer")

    def public(self) -> rsa.RSAPublicKey | bytes:
        """The public key, or DER of a certificate, and nothing is kept open.

        It is looked for without a PIN; only if it is not there, and the URI has a PIN, with it.
        """
        with self._lock:
            try:
                return self._find_public()
            finally:
                self._close()

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._close()

    def _ready(self) -> Worker:
        if self._worker is not None and self._worker.is_alive:
            return self._worker
        if self._refused is not None:
            # a new one every time: whoever catches it writes on it where it happened
            raise KeyServiceError(self._refused.message, hint=self._refused.hint)
        try:
            worker, how = self._start()
            self._log_in(worker, how)
            self._public = _numbers(worker.ask("private", **self._wanted()))
        except RefusedError as refused:
            self._close()
            raise self._explain(refused) from None
        except BaseException:
            self._close()
            raise
        return worker

    def _start(self) -> tuple[Worker, str]:
        options = self._options
        own = variables.passed(options.child_environment(), self._rules.variables)
        self._worker = Worker(self.module, own, options.provider_timeout)
        found = self._worker.ask(
            "token", module=self.module, env=self._environment, token=self._uri.token
        )
        self._serial = str(found.get("serial"))
        return self._worker, str(found.get("login"))

    def _log_in(self, worker: Worker, how: str) -> None:
        pin = None if how == "none" else self._pin.read(self.label)
        if how == "pin" and pin is None:
            raise KeyServiceError(
                f"{self.describe()}: the token wants a PIN",
                hint="add :file=PATH or :env=NAME to the key file, or pin-source= to the URI",
            )
        mark = self._mark(pin)
        if mark in self._options.refused_pins:  # another key of this token has tried it
            raise RefusedError("PinIncorrect")
        try:
            worker.ask("login", how=how, pin=pin)
        except RefusedError as refused:
            if refused.name in problems.WRONG_PIN:
                self._options.refused_pins.add(mark)
            raise

    def _mark(self, pin: str | None) -> bytes:
        return hashlib.sha256("\0".join((self.module, self._serial, pin or "")).encode()).digest()

    def _find_public(self) -> rsa.RSAPublicKey | bytes:
        try:
            worker, how = self._start()
            worker.ask("login", how="none", pin=None)
            try:
                return _public(worker.ask("public", **self._wanted()))
            except RefusedError as refused:
                if refused.name != "NoKey" or how == "none" or not self._has_pin():
                    raise
            self._close()
            worker, how = self._start()
            self._log_in(worker, how)
            return _public(worker.ask("public", **self._wanted()))
        except RefusedError as refused:
            raise self._explain(refused) from None

    def _has_pin(self) -> bool:
        return self._uri.pin_value is not None or self._uri.pin_source is not None

    def _wanted(self) -> dict[str, Any]:
        identifier = self._uri.id
        return {
            "object": self._uri.object,
            "id": identifier if identifier is None else identifier.hex(),
            "type": self._uri.type,
        }

    def _explain(self, refused: RefusedError) -> BoltsealError:
        error = problems.explain(refused, self.describe(), self.module)
        if refused.name in problems.PIN_PROBLEMS and isinstance(error, KeyServiceError):
            self._refused = error
        return error

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


def _require_binding() -> None:
    from importlib.util import find_spec

    if find_spec("pkcs11") is None:
        raise MissingExtraError("a PKCS#11 key", "pkcs11")


def _numbers(answer: Mapping[str, Any]) -> rsa.RSAPublicKey | None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        modulus, exponent = (int(str(answer[name]), 16) for name in ("n", "e"))
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except Exception:  # noqa: BLE001  whatever the token and the library make of it
        return None


def _public(answer: Mapping[str, Any]) -> rsa.RSAPublicKey | bytes:
    if isinstance(answer.get("certificate"), str):
        return b64.decode(answer["certificate"], "the token's answer")
    key = _numbers(answer)
    if key is None:
        raise RefusedError("NoKey")
    return key


def _pin_file(source: str, label: str) -> bytes:
    """``file:/PATH``, ``file:///PATH`` or ``/PATH`` (RFC 7512 section 2.4)."""
    from urllib.parse import unquote

    path = source
    if source.startswith("file:"):
        path = unquote(source.removeprefix("file:"), errors="surrogateescape")
        path = path.removeprefix("//") if path.startswith("///") else path
    if source.startswith("|"):
        raise KeyFileError(
            f"{label}: pin-source names a command, and none is run",
            hint="put the PIN into a file: pin-source=file:/PATH",
        )
    if not path.startswith("/") or path.startswith("//") or "\0" in path:
        raise KeyFileError(
            f"{label}: pin-source is no absolute path", hint="write pin-source=file:/PATH"
        )
    try:
        raw = read_user_file(path, "PIN file", max_bytes=secrets.MAX_SECRET_BYTES)
    except LimitExceededError as error:
        raise KeyFileError(error.message) from None
    return raw.rstrip(b"\r\n")


def _pin_text(raw: bytes, label: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileError(f"{label}: the PIN is not UTF-8 text") from None
    if not raw or len(raw) > MAX_PIN_BYTES or "\0" in text:
        raise KeyFileError(f"{label}: the PIN is empty, or over {MAX_PIN_BYTES} bytes")
    return text
