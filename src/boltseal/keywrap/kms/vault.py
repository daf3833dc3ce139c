"""The Transit engine of HashiCorp Vault and OpenBao, through hvac.

Where it is comes from the variables that Vault's own program and sigstore read: VAULT_ADDR,
VAULT_TOKEN (or ~/.vault-token), VAULT_NAMESPACE, VAULT_CACERT, TRANSIT_SECRET_ENGINE_PATH.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from boltseal._io.files import read_user_file
from boltseal.errors import BoltsealError, MissingExtraError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import service as limits
from boltseal.keywrap.kms.service import Lazily, Trouble, Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.keywrap.kms.uri import KeyUri
    from boltseal.keywrap.options import KeyOptions

DEFAULT_MOUNT = "transit"
_MAX_TOKEN_BYTES = 16 * 1024
_LOGIN = "run: vault login, or export VAULT_TOKEN"
_ADDRESS = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]{0,200})?"
)
_PATH = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*)(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,9}/?")
_CIPHERTEXT = re.compile(r"vault:v([0-9]{1,10}):[A-Za-z0-9+/=]{1,8000}")
# 412 is a replica that lags behind, 429 a quota, 503 a server that is sealed or on stand-by
_AGAIN = (412, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class VaultTransit:
    """One key of a Transit engine. ``client`` gives hvac's client for one mount.

    It is for one thread at a time: hvac holds a session of requests, which promises no more.
    """

    uri: KeyUri
    client: Lazily
    known: Lazily
    mount: str = DEFAULT_MOUNT

    def encrypt(self, content_key: bytes) -> Wrapped:
        self._call("encrypt", self.known.get)
        plaintext = base64.b64encode(content_key).decode()
        answer = self._call("encrypt", lambda: self._transit("encrypt_data", plaintext=plaintext))
        ciphertext = _text(answer, "ciphertext")
        match = _CIPHERTEXT.fullmatch(ciphertext)
        if match is None:
            raise Trouble(self.uri).damaged()
        return Wrapped(self.uri, match[1], ciphertext.encode())

    def decrypt(self, wrapped: Wrapped) -> bytes:
        ciphertext = wrapped.ciphertext.decode("ascii", "replace")
        match = _CIPHERTEXT.fullmatch(ciphertext)
        if match is None:
            raise NotMyKeyError("what it holds is no ciphertext of Vault's")
        answer = self._call(
            "decrypt", lambda: self._transit("decrypt_data", ciphertext=ciphertext), match[1]
        )
        try:
            return base64.b64decode(_text(answer, "plaintext"), validate=True)
        except (binascii.Error, ValueError):
            raise Trouble(self.uri).damaged() from None

    def _transit(self, operation: str, **parameters: Any) -> Any:
        transit = self.client.get().secrets.transit
        return getattr(transit, operation)(self.uri.key, mount_point=self.mount, **parameters)

    def _call(self, operation: str, call: Callable[[], Any], version: str = "") -> Any:
        import requests.exceptions as http
        from hvac import exceptions as hvac

        trouble = Trouble(self.uri)
        try:
            return call()
        except hvac.VaultError as error:
            self._refused(error, operation, version)
        except http.SSLError:
            raise trouble.failed(
                "its certificate is not trusted", "name the authority's file in VAULT_CACERT"
            ) from None
        except http.InvalidHeader:
            raise trouble.not_signed_in(_LOGIN) from None
        except http.RequestException:
            raise trouble.unreachable() from None
        except (AttributeError, TypeError, ValueError):  # hvac trips over answers it cannot read
            raise trouble.damaged() from None

    def _refused(self, error: Any, operation: str, version: str) -> NoReturn:
        """Vault answered with an error. What it says about a ciphertext is of policy.go."""
        from hvac import exceptions as hvac

        trouble = Trouble(self.uri)
        errors = error.errors if isinstance(error.errors, list) else []
        said = ", ".join(str(one) for one in errors[:5])
        if "invalid token" in said or "missing client token" in said:
            raise trouble.not_signed_in(_LOGIN) from None
        if isinstance(error, (hvac.Forbidden, hvac.Unauthorized)):
            path = f"{self.mount}/{operation}/{self.uri.key}"
            raise trouble.denied(f"update on {path}") from None
        if isinstance(error, hvac.InvalidPath) or "not found" in said:
            raise trouble.missing() from None
        if isinstance(error, hvac.RateLimitExceeded):
            raise trouble.busy() from None
        if "(too old)" in said:
            raise trouble.disabled(version) from None
        if isinstance(error, (hvac.VaultDown, hvac.BadGateway)):
            raise trouble.failed(
                said or "it is sealed or on stand-by", "have it unsealed, or try again later"
            ) from None
        if operation == "decrypt" and _is_about_ciphertext(said):
            raise NotMyKeyError("another key of Vault encrypted it, or it was changed") from None
        raise trouble.failed(said) from None


def service(uri: KeyUri, options: KeyOptions) -> VaultTransit:
    """A key by its URI. Raises MissingExtraError."""
    try:
        import hvac
        import requests.adapters
        from urllib3.util.retry import Retry
    except ImportError:
        raise MissingExtraError(uri.name, "vault") from None
    environment = options.environment
    trouble = Trouble(uri)
    mount = environment.get("TRANSIT_SECRET_ENGINE_PATH") or DEFAULT_MOUNT

    def connect() -> Any:
        if not _PATH.fullmatch(mount):
            raise trouble.failed("TRANSIT_SECRET_ENGINE_PATH names no path of an engine")
        address = _address(environment.get("VAULT_ADDR"), trouble)
        session = requests.Session()
        if limits.is_plain(address, trouble):
            session.trust_env = False  # no proxy: it would read token and key
        retry = Retry(
            total=limits.ATTEMPTS - 1,
            backoff_factor=limits.PAUSE_SECONDS,
            backoff_max=limits.MAX_PAUSE_SECONDS,
            status_forcelist=_AGAIN,
            allowed_methods=None,  # encrypting or decrypting twice does no harm
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
        session.verify = _authority(environment.get("VAULT_CACERT"), trouble)
        return hvac.Client(
            url=address,
            token=_token(environment, trouble),
            namespace=environment.get("VAULT_NAMESPACE") or None,
            timeout=(limits.CONNECT_SECONDS, limits.ANSWER_SECONDS),
            allow_redirects=False,  # the token would go along
            session=session,
        )

    made = Lazily(connect)

    def look() -> bool:
        """Encrypting with a key that is not there may make one: look first, where allowed."""
        from hvac import exceptions

        try:
            answer = made.get().secrets.transit.read_key(uri.key, mount_point=mount)
        except exceptions.Forbidden:
            return True  # a token that may only encrypt, which makes no keys
        about = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(about, dict) and about.get("supports_encryption") is False:
            raise trouble.failed("it does not encrypt", "use a key of another type")
        return True

    return VaultTransit(uri, made, Lazily(look), mount.rstrip("/"))


def _address(given: str | None, trouble: Trouble) -> str:
    if not given:
        raise trouble.failed("VAULT_ADDR is not set", "export VAULT_ADDR=https://HOST:8200")
    if not _ADDRESS.fullmatch(given):
        raise trouble.failed(
            "VAULT_ADDR is no address of a server", "export VAULT_ADDR=https://HOST:8200"
        )
    return given


def _token(environment: Any, trouble: Trouble) -> str:
    """VAULT_TOKEN, or what ``vault login`` has left in the home folder."""
    token = environment.get("VAULT_TOKEN")
    home = environment.get("HOME")
    if not token and home:
        try:
            raw = read_user_file(
                os.path.join(home, ".vault-token"), "token file", max_bytes=_MAX_TOKEN_BYTES
            )
        except BoltsealError:
            raise trouble.not_signed_in(_LOGIN) from None
        token = raw.decode("ascii", "replace")
    token = (token or "").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise trouble.not_signed_in(_LOGIN)
    return token


def _authority(given: str | None, trouble: Trouble) -> str | bool:
    if not given:
        return True
    if not os.path.isfile(given):
        raise trouble.failed("VAULT_CACERT names a file that is not there")
    return given


def _text(answer: Any, member: str) -> str:
    """A member of the answer's data; empty for anything else, a redirect among them."""
    data = answer.get("data") if isinstance(answer, dict) else None
    value = data.get(member) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def _is_about_ciphertext(said: str) -> bool:
    return any(
        words in said
        for words in (
            "invalid ciphertext",
            "message authentication failed",
            "unable to decrypt",
            "failed to RSA decrypt",
            "decryption error",
        )
    )
