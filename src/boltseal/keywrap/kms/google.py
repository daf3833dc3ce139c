"""Google Cloud KMS, through google-cloud-kms: Encrypt and Decrypt with a symmetric key.

Credentials are Application Default Credentials. Every value travels with its CRC-32C, in both
directions, as Google's guide on verifying data integrity wants it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from boltseal.errors import MissingExtraError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import service as limits
from boltseal.keywrap.kms.crc32c import crc32c
from boltseal.keywrap.kms.service import Lazily, Trouble, Wrapped

if TYPE_CHECKING:
    from boltseal.keywrap.kms.uri import KeyUri
    from boltseal.keywrap.options import KeyOptions

_BOUND_TO = f"boltseal {limits.CONTEXT}".encode()
_CREDENTIALS = (
    "run: gcloud auth application-default login, or export GOOGLE_APPLICATION_CREDENTIALS"
)
_OVERALL_SECONDS = limits.ATTEMPTS * limits.ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class GoogleKms:
    """One key of Google Cloud KMS; ``uri.version`` chooses what encrypts."""

    uri: KeyUri
    client: Lazily
    is_concurrent: ClassVar[bool] = True  # gRPC's channels and stubs are safe for threads

    def encrypt(self, content_key: bytes) -> Wrapped:
        version = f"/cryptoKeyVersions/{self.uri.version}" if self.uri.version else ""
        request = {
            "name": self.uri.key + version,
            "plaintext": content_key,
            "plaintext_crc32c": crc32c(content_key),
            "additional_authenticated_data": _BOUND_TO,
            "additional_authenticated_data_crc32c": crc32c(_BOUND_TO),
        }
        answer = self._call("encrypt", request)
        name, _, version = str(answer.name).rpartition("/cryptoKeyVersions/")
        if (
            not answer.verified_plaintext_crc32c
            or not answer.verified_additional_authenticated_data_crc32c
            or answer.ciphertext_crc32c != crc32c(answer.ciphertext)
            or (name and name != self.uri.key)
        ):
            raise Trouble(self.uri).damaged()
        return Wrapped(self.uri, version if name else "", bytes(answer.ciphertext))

    def decrypt(self, wrapped: Wrapped) -> bytes:
        # The service finds the version in the ciphertext; naming the key is all it wants.
        request = {
            "name": self.uri.key,
            "ciphertext": wrapped.ciphertext,
            "ciphertext_crc32c": crc32c(wrapped.ciphertext),
            "additional_authenticated_data": _BOUND_TO,
            "additional_authenticated_data_crc32c": crc32c(_BOUND_TO),
        }
        answer = self._call("decrypt", request, wrapped.version)
        if answer.plaintext_crc32c != crc32c(answer.plaintext):
            raise Trouble(self.uri).damaged()
        return bytes(answer.plaintext)

    def _call(self, operation: str, request: dict[str, Any], version: str = "") -> Any:
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth

        trouble = Trouble(self.uri)
        try:
            call = getattr(self.client.get(), operation)
            return call(request=request, retry=_retry(), timeout=limits.ANSWER_SECONDS)
        except auth.TransportError:
            raise trouble.unreachable() from None
        except auth.GoogleAuthError:
            raise trouble.not_signed_in(_CREDENTIALS) from None
        except api.RetryError as error:
            self._refused(error.cause, operation, version)
        except api.GoogleAPICallError as error:
            self._refused(error, operation, version)

    def _refused(self, error: Any, operation: str, version: str) -> NoReturn:
        """Google answered with an error, or nobody did."""
        from google.api_core import exceptions as api

        trouble = Trouble(self.uri)
        version = self.uri.version if operation == "encrypt" else version
        if isinstance(error, api.Forbidden):
            raise trouble.denied(f"the role Cloud KMS CryptoKey {operation.title()}er") from None
        if isinstance(error, api.Unauthorized):
            raise trouble.not_signed_in(_CREDENTIALS) from None
        if isinstance(error, api.NotFound):
            raise trouble.missing() from None
        if isinstance(error, api.FailedPrecondition):
            raise trouble.disabled(version) from None
        if isinstance(error, api.InvalidArgument) and operation == "decrypt":
            raise NotMyKeyError(
                "another key of Google Cloud encrypted it, or it was changed"
            ) from None
        if isinstance(error, api.InvalidArgument):
            raise trouble.failed(
                "it does not encrypt", "use a key of the purpose ENCRYPT_DECRYPT"
            ) from None
        if isinstance(error, (api.ResourceExhausted, api.TooManyRequests)):
            raise trouble.busy() from None
        if isinstance(error, (api.ServiceUnavailable, api.DeadlineExceeded, api.GatewayTimeout)):
            raise trouble.unreachable() from None
        raise trouble.failed(f"it answers {type(error).__name__}") from None


def service(uri: KeyUri, options: KeyOptions) -> GoogleKms:
    """A key by its URI. Raises MissingExtraError."""
    try:
        from google.cloud import kms_v1
    except ImportError:
        raise MissingExtraError(uri.name, "gcp") from None

    def connect() -> Any:
        _be_silent()
        return kms_v1.KeyManagementServiceClient()

    return GoogleKms(uri, Lazily(connect))


def _retry() -> Any:
    """Another attempt for what is busy or broken, with growing pauses, a few times."""
    from google.api_core import exceptions as api
    from google.api_core import retry

    more = iter(range(limits.ATTEMPTS - 1))
    again = (api.ResourceExhausted, api.ServiceUnavailable, api.DeadlineExceeded)
    return retry.Retry(
        predicate=lambda error: isinstance(error, again) and next(more, None) is not None,
        initial=limits.PAUSE_SECONDS,
        maximum=limits.MAX_PAUSE_SECONDS,
        multiplier=2.0,
        timeout=_OVERALL_SECONDS,
    )


def _be_silent() -> None:
    """What the library warns about is told as errors of ours; it must not print by itself."""
    logger = logging.getLogger("google")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
