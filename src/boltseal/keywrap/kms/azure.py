"""Azure Key Vault, through azure-keyvault-keys and azure-identity: RSA-OAEP-256.

Key Vault's keys are RSA keys: wrapping takes the public half alone, which the client library
gets from the vault, and unwrapping is a request to the vault. Credentials are those of
DefaultAzureCredential.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from boltseal.errors import MissingExtraError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import service as limits
from boltseal.keywrap.kms.service import Lazily, Trouble, Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.keywrap.kms.uri import KeyUri
    from boltseal.keywrap.options import KeyOptions

_CREDENTIALS = "run: az login, or export AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
_SECONDS_FOR_A_PROGRAM = 15  # that azure-identity asks for a token, such as az


@dataclass(frozen=True, slots=True)
class AzureKeyVault:
    """One key of a vault. ``settings`` are the client library's, with the credential."""

    uri: KeyUri
    settings: Lazily
    public: Lazily  # the public key and its version
    is_concurrent: ClassVar[bool] = True  # each call has a client of its own

    def encrypt(self, content_key: bytes) -> Wrapped:
        trouble = Trouble(self.uri)
        key, version = self._call("get", self.public.get)
        if key.key_type not in ("RSA", "RSA-HSM"):
            raise trouble.failed("it is no RSA key", "use an RSA key of the vault")
        if not _is_version(version):
            raise trouble.damaged()

        def wrap() -> bytes:
            return bytes(self._client(key).wrap_key(_algorithm(), content_key).encrypted_key)

        return Wrapped(self.uri, version, self._call("wrapKey", wrap))

    def decrypt(self, wrapped: Wrapped) -> bytes:
        # The version comes from the image and is 32 hexadecimal digits or it is not used at all;
        # vault and key are the identity's own.
        if not _is_version(wrapped.version):
            raise NotMyKeyError("it names no version of the key")

        def unwrap() -> bytes:
            address = f"https://{self.uri.host}/keys/{self.uri.key}/{wrapped.version}"
            return bytes(self._client(address).unwrap_key(_algorithm(), wrapped.ciphertext).key)

        return bytes(self._call("unwrapKey", unwrap, wrapped.version))

    def _client(self, key: Any) -> Any:
        from azure.keyvault.keys.crypto import CryptographyClient

        return CryptographyClient(key, retry_policy=_retry_policy(), **self.settings.get())

    def _call(self, operation: str, call: Callable[[], Any], version: str = "") -> Any:
        from azure.core import exceptions as core

        trouble = Trouble(self.uri)
        try:
            return call()
        except core.ClientAuthenticationError:
            raise trouble.not_signed_in(_CREDENTIALS) from None
        except core.HttpResponseError as error:
            self._refused(error, operation, version)
        except (core.ServiceRequestError, core.ServiceResponseError):
            raise trouble.unreachable() from None
        except core.AzureError as error:
            raise trouble.failed(f"the client library says {type(error).__name__}") from None
        except ValueError:
            # among others: a vault that asks for a token of another domain than its own
            raise trouble.failed(
                "the key cannot be used now, or the host is no vault",
                "check the key's dates and the vault's host name",
            ) from None
        except (AttributeError, KeyError, TypeError):  # answers that the library cannot read
            raise trouble.damaged() from None

    def _refused(self, error: Any, operation: str, version: str) -> NoReturn:
        """The vault answered with an error."""
        trouble = Trouble(self.uri)
        status, codes = error.status_code, _codes(error)
        if "KeyDisabled" in codes or "disabled" in str(error.message)[:2000]:
            raise trouble.disabled(version) from None
        if status == 401:
            raise trouble.not_signed_in(_CREDENTIALS) from None
        if status == 403:
            raise trouble.denied(f"the key permission {operation}") from None
        if status == 404:
            raise trouble.missing() from None
        if status == 400 and operation == "unwrapKey":
            raise NotMyKeyError("another key of Azure encrypted it, or it was changed") from None
        if status == 429:
            raise trouble.busy() from None
        if status in (408, 500, 502, 503, 504):
            raise trouble.unreachable() from None
        said = limits.printable(next(iter(codes), "")) if codes else f"status {status}"
        raise trouble.failed(f"it answers {said}") from None


def service(uri: KeyUri, options: KeyOptions) -> AzureKeyVault:
    """A key by its URI. Raises MissingExtraError."""
    try:
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys import KeyClient
    except ImportError:
        raise MissingExtraError(uri.name, "azure") from None

    def settings() -> dict[str, Any]:
        _be_silent()
        return {
            "credential": DefaultAzureCredential(process_timeout=_SECONDS_FOR_A_PROGRAM),
            "connection_timeout": limits.CONNECT_SECONDS,
            "read_timeout": limits.ANSWER_SECONDS,
        }

    made = Lazily(settings)

    def public() -> Any:
        vault = f"https://{uri.host}"
        client = KeyClient(vault, retry_policy=_retry_policy(), **made.get())
        key = client.get_key(uri.key, uri.version or None)
        return key, key.properties.version or ""

    return AzureKeyVault(uri, made, Lazily(public))


def _algorithm() -> Any:
    from azure.keyvault.keys.crypto import KeyWrapAlgorithm

    return KeyWrapAlgorithm.rsa_oaep_256


def _retry_policy() -> Any:
    """The library's own, which by itself waits for as long as a vault asks it to.

    One for each client: a policy knows what comes after it in that client's pipeline.
    """
    from azure.core.pipeline.policies import RetryPolicy

    class Bounded(RetryPolicy):  # type: ignore[misc,type-arg,unused-ignore]
        def configure_retries(self, options: dict[str, Any]) -> dict[str, Any]:
            settings: dict[str, Any] = super().configure_retries(options)
            # unwrapping is a POST that may well be sent twice
            return {**settings, "methods": frozenset({"GET", "POST"})}

        def get_retry_after(self, response: Any) -> float | None:
            asked = super().get_retry_after(response)
            return None if asked is None else min(asked, limits.MAX_PAUSE_SECONDS)

    again = limits.ATTEMPTS - 1
    return Bounded(
        retry_total=again,
        retry_connect=again,
        retry_read=again,
        retry_status=again,
        retry_backoff_factor=limits.PAUSE_SECONDS,
        retry_backoff_max=limits.MAX_PAUSE_SECONDS,
    )


def _codes(error: Any) -> tuple[str, ...]:
    """Error codes, outermost first (Key Vault REST API, "Error")."""
    found: list[str] = []
    inner: Any = getattr(error, "error", None)
    outer = getattr(inner, "code", None)
    if isinstance(outer, str):
        found.append(outer)
    inner = getattr(inner, "innererror", None)
    if isinstance(inner, dict) and isinstance(inner.get("code"), str):
        found.append(inner["code"])
    return tuple(found)


def _is_version(text: str) -> bool:
    return len(text) == 32 and all(one in "0123456789abcdef" for one in text)


def _be_silent() -> None:
    """What the libraries warn about is told as errors of ours; they must not print."""
    for name in ("azure", "msal"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
