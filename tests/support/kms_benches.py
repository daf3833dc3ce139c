"""One handle for every double: the same trouble can be made with each of the four services."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service import transports

from boltseal.keywrap.kms import keys, uri
from boltseal.keywrap.kms.google import GoogleKms
from boltseal.keywrap.kms.service import Lazily
from boltseal.keywrap.options import KeyOptions
from support import kms_aws, kms_azure, kms_google
from support.kms_http import Fault, running
from support.kms_tls import Proxy, certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boltseal.keywrap.base import Identity
    from boltseal.keywrap.kms.keys import ServiceRecipient
    from support.kms_vault import Vault


class Bench(Protocol):
    """A service with the keys ``uri`` and ``other``."""

    name: str
    extra: str
    module: str
    uri: str
    other: str
    missing: str

    def recipient(self, text: str) -> ServiceRecipient: ...
    def identity(self, text: str) -> Identity: ...
    def rotate(self) -> None: ...
    def disable(self) -> None:
        """Switch off every version there is of ``uri``."""

    def deny(self) -> None: ...
    def sign_out(self) -> None:
        """Make the credentials invalid."""

    def throttle(self, times: int) -> None: ...
    def drop(self, times: int) -> None: ...
    def swap(self) -> None:
        """Where the double cannot tell: say that the next ciphertext is another key's."""

    def requests(self) -> int: ...


class Plain:
    """What most benches share: recipients and identities by their URIs."""

    environment: dict[str, str]

    def recipient(self, text: str) -> ServiceRecipient:
        return keys.recipient(text, KeyOptions(environment=self.environment))

    def identity(self, text: str) -> Identity:
        return keys.identity(text, KeyOptions(environment=self.environment))

    def swap(self) -> None:
        """The double finds out by itself."""


class AwsBench(Plain):
    """moto, which enforces neither a key's state nor, without IAM users, permissions."""

    name, extra, module = "AWS KMS", "aws", "boto3"
    uri, other, missing = (f"awskms:///alias/{one}" for one in ("bench", "other", "missing"))

    def __init__(self, front: kms_aws.Front) -> None:
        self.front = front
        self.environment = kms_aws.ENVIRONMENT

    def rotate(self) -> None:
        admin = kms_aws.client(self.front)
        key = admin.describe_key(KeyId="alias/bench")["KeyMetadata"]["KeyId"]
        admin.rotate_key_on_demand(KeyId=key)

    def disable(self) -> None:
        self.front.fail(1, "DisabledException")

    def deny(self) -> None:
        self.front.fail(1, "AccessDeniedException")

    def sign_out(self) -> None:
        self.front.fail(1, "UnrecognizedClientException")

    def throttle(self, times: int) -> None:
        self.front.fail(times, "ThrottlingException")

    def drop(self, times: int) -> None:
        self.front.faults.append(Fault(times))

    def swap(self) -> None:
        self.front.fail(1, "IncorrectKeyException")

    def requests(self) -> int:
        return len(self.front.seen)


class VaultBench(Plain):
    name, extra, module = "Vault Transit", "vault", "hvac"
    uri, other, missing = (f"hashivault://{one}" for one in ("bench", "other", "missing"))

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.environment = {"VAULT_ADDR": vault.url, "VAULT_TOKEN": "root"}
        vault.make("bench")
        vault.make("other")

    def rotate(self) -> None:
        self.vault.make("bench").rotate()

    def disable(self) -> None:
        key = self.vault.make("bench")
        key.rotate()
        key.min_decryption_version = len(key.versions)

    def deny(self) -> None:
        self.vault.tokens["root"] = ()

    def sign_out(self) -> None:
        self.vault.tokens = {}

    def throttle(self, times: int) -> None:
        body = {"errors": ["request path: rate limit quota exceeded"]}
        self.vault.faults.append(Fault(times, 429, body, "crypt/"))

    def drop(self, times: int) -> None:
        self.vault.faults.append(Fault(times, path="crypt/"))

    def requests(self) -> int:
        return len(self.vault.seen)


class AzureBench(Plain):
    name, extra, module = "Azure Key Vault", "azure", "azure.identity"
    uri, other, missing = (
        f"azurekms://{kms_azure.HOST}/{one}" for one in ("bench", "other", "missing")
    )

    def __init__(self, vault: kms_azure.KeyVault) -> None:
        self.vault = vault
        self.environment: dict[str, str] = {}
        vault.make("bench")
        vault.make("other")

    def rotate(self) -> None:
        self.vault.keys["bench"].rotate()

    def disable(self) -> None:
        key = self.vault.keys["bench"]
        key.disabled = set(key.versions)

    def deny(self) -> None:
        self.vault.permissions = set()

    def sign_out(self) -> None:
        self.vault.accepts = "another"

    def throttle(self, times: int) -> None:
        error = {"error": {"code": "Throttled", "message": "VaultRequestTypeLimitReached"}}
        self.vault.faults.append(Fault(times, 429, error, "/keys/"))

    def drop(self, times: int) -> None:
        self.vault.faults.append(Fault(times, path="/keys/"))

    def requests(self) -> int:
        return len(self.vault.seen)


class GoogleBench:
    """Without TLS and credentials, which the commands are tested with."""

    name, extra, module = "Google Cloud KMS", "gcp", "google.cloud"
    uri, other, missing = (
        f"gcpkms://projects/acme/locations/eu/keyRings/r/cryptoKeys/{one}"
        for one in ("bench", "other", "missing")
    )

    def __init__(self, service: kms_google.GoogleKms, port: int) -> None:
        self.service = service
        self.port = port
        for one in (self.uri, self.other):
            service.make(one.removeprefix("gcpkms://"))

    @property
    def key(self) -> kms_google.Key:
        return self.service.keys[self.uri.removeprefix("gcpkms://")]

    def recipient(self, text: str) -> ServiceRecipient:
        found = uri.parse(text)
        return keys.ServiceRecipient(found, GoogleKms(found, Lazily(self._client)))

    def identity(self, text: str) -> Identity:
        found = uri.parse(text)
        return keys.ServiceIdentity(found, GoogleKms(found, Lazily(self._client)))

    def _client(self) -> Any:
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        transport = transports.KeyManagementServiceGrpcTransport(
            channel=channel,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call,unused-ignore]
        )
        return kms_v1.KeyManagementServiceClient(
            transport=transport, client_options=ClientOptions()
        )

    def rotate(self) -> None:
        self.key.rotate()

    def disable(self) -> None:
        self.key.disabled = set(range(1, len(self.key.versions) + 1))

    def deny(self) -> None:
        self.service.faults.append(grpc.StatusCode.PERMISSION_DENIED)

    def sign_out(self) -> None:
        self.service.faults.append(grpc.StatusCode.UNAUTHENTICATED)

    def throttle(self, times: int) -> None:
        self.service.faults += [grpc.StatusCode.RESOURCE_EXHAUSTED] * times

    def drop(self, times: int) -> None:
        self.service.faults += [grpc.StatusCode.UNAVAILABLE] * times

    def swap(self) -> None:
        """The double finds out by itself."""

    def requests(self) -> int:
        return len(self.service.seen)


@dataclass
class AzurePlace:
    """A vault, and what a client has to have in its environment to find it."""

    vault: kms_azure.KeyVault
    proxy: Proxy
    environment: dict[str, str]


@contextlib.contextmanager
def azure_place(folder: Path) -> Iterator[AzurePlace]:
    """A vault behind TLS and a proxy, and the machine's identity."""
    authority, certificate, key = certificates(folder, "*.vault.azure.net")
    with contextlib.ExitStack() as stack:
        vault = stack.enter_context(running(kms_azure.KeyVault(certificate, key)))
        identity = stack.enter_context(running(kms_azure.ManagedIdentity(vault)))
        proxy = stack.enter_context(running(Proxy({kms_azure.HOST: vault.port})))
        environment = {
            **identity.environment(),
            "REQUESTS_CA_BUNDLE": str(authority),
            "HTTPS_PROXY": proxy.url,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        yield AzurePlace(vault, proxy, environment)
