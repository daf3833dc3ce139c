"""AWS KMS, through boto3: Encrypt and Decrypt with a symmetric key.

Credentials, region and endpoint come from boto3's own chain (variables, profiles, roles); an
endpoint in the URI comes before them. Plain HTTP is for endpoints on this machine itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from boltseal.errors import MissingExtraError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import service as limits
from boltseal.keywrap.kms import uri as uris
from boltseal.keywrap.kms.service import Lazily, Trouble, Wrapped

if TYPE_CHECKING:
    from boltseal.keywrap.kms.uri import KeyUri
    from boltseal.keywrap.options import KeyOptions

# a policy or a log entry of the key can tell our use of it by this (kms:EncryptionContext)
_CONTEXT = {"boltseal": limits.CONTEXT}

_CREDENTIALS = "run: aws configure, or export AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret"
_REGION = "export AWS_REGION, or name the key by its ARN"

# AWS KMS API Reference, "Common errors" and the errors of Encrypt and Decrypt
_DENIED = {"AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired"}
_NOT_SIGNED_IN = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_BUSY = {
    "DependencyTimeoutException",
    "KMSInternalException",
    "KeyUnavailableException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_DISABLED = {"DisabledException", "KMSInvalidStateException"}
_NOT_MINE = {"IncorrectKeyException", "InvalidCiphertextException"}


@dataclass(frozen=True, slots=True)
class AwsKms:
    """One key of AWS KMS."""

    uri: KeyUri
    client: Lazily
    is_concurrent: ClassVar[bool] = True  # boto3's clients are safe for threads

    def encrypt(self, content_key: bytes) -> Wrapped:
        answer = self._call("encrypt", Plaintext=content_key)
        return Wrapped(self._key(answer), "", _bytes(answer, "CiphertextBlob", self.uri))

    def decrypt(self, wrapped: Wrapped) -> bytes:
        # With a KeyId AWS refuses what another key encrypted; the image chooses nothing.
        answer = self._call("decrypt", CiphertextBlob=wrapped.ciphertext)
        if not self._key(answer).may_be(wrapped.key):
            raise NotMyKeyError("it names another key than the one that encrypted it")
        return _bytes(answer, "Plaintext", self.uri)

    def _key(self, answer: Any) -> KeyUri:
        key = uris.read(f"awskms:///{answer.get('KeyId')}") if isinstance(answer, dict) else None
        if key is None or not key.is_settled:
            raise Trouble(self.uri).damaged()
        return key

    def _call(self, operation: str, **parameters: Any) -> Any:
        import botocore.exceptions as boto

        trouble = Trouble(self.uri)
        try:
            call = getattr(self.client.get(), operation)
            return call(KeyId=self.uri.key, EncryptionContext=_CONTEXT, **parameters)
        except boto.ClientError as error:
            self._refused(error, operation)
        except (boto.NoRegionError, boto.InvalidRegionError):
            raise trouble.failed("no region is set", _REGION) from None
        except boto.ProfileNotFound:
            raise trouble.not_signed_in("AWS_PROFILE names a profile that is not there") from None
        except (
            boto.NoCredentialsError,
            boto.PartialCredentialsError,
            boto.CredentialRetrievalError,
            boto.MetadataRetrievalError,
            boto.TokenRetrievalError,
            boto.UnauthorizedSSOTokenError,
        ):
            raise trouble.not_signed_in(_CREDENTIALS) from None
        except boto.SSLError:
            raise trouble.failed("its certificate is not trusted") from None
        except (boto.ConnectionError, boto.HTTPClientError):
            raise trouble.unreachable() from None
        except (boto.BotoCoreError, ValueError) as error:
            raise trouble.failed(f"boto3 says {type(error).__name__}") from None

    def _refused(self, error: Any, operation: str) -> NoReturn:
        """AWS answered with an error; its message may hold account and request ids."""
        trouble = Trouble(self.uri)
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _NOT_MINE:
            raise NotMyKeyError("another key of AWS KMS encrypted it, or it was changed") from None
        if code in _NOT_SIGNED_IN:
            raise trouble.not_signed_in(_CREDENTIALS) from None
        if code in _DENIED or status == 403:
            raise trouble.denied(f"kms:{operation.title()}") from None
        if code == "NotFoundException":
            raise trouble.missing() from None
        if code in _DISABLED:
            raise trouble.disabled() from None
        if code == "InvalidKeyUsageException":
            raise trouble.failed(
                "it is no symmetric encryption key", "use a key of the spec SYMMETRIC_DEFAULT"
            ) from None
        if code in _BUSY or status in (429, 500, 502, 503, 504):
            raise trouble.busy() from None
        raise trouble.failed(f"it answers {limits.printable(code)}") from None


def service(uri: KeyUri, options: KeyOptions) -> AwsKms:
    """A key by its URI. Raises MissingExtraError."""
    try:
        import boto3
        import botocore.config
    except ImportError:
        raise MissingExtraError(uri.name, "aws") from None
    environment = options.environment
    region = uri.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")

    def connect() -> Any:
        config = botocore.config.Config(
            connect_timeout=limits.CONNECT_SECONDS,
            read_timeout=limits.ANSWER_SECONDS,
            # "standard" also waits between attempts, for throttling and broken connections
            retries={"mode": "standard", "total_max_attempts": limits.ATTEMPTS},
        )
        session = boto3.session.Session(region_name=region or None)

        def client(config: Any) -> Any:
            return session.client("kms", config=config, endpoint_url=_endpoint(uri.host))

        made = client(config)
        if limits.is_plain(made.meta.endpoint_url, Trouble(uri)):
            return client(config.merge(botocore.config.Config(proxies={})))
        return made

    return AwsKms(uri, Lazily(connect))


def _endpoint(host: str) -> str | None:
    """The URL of an endpoint; plain HTTP on this machine itself alone, as LocalStack has it."""
    if not host:
        return None
    name = host.rpartition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]
    return f"{'http' if limits.is_here(name) else 'https'}://{host}"


def _bytes(answer: Any, member: str, uri: KeyUri) -> bytes:
    value = answer.get(member)
    if not isinstance(value, bytes):
        raise Trouble(uri).damaged()
    return value
