"""A double of Google Cloud KMS's gRPC service: Encrypt and Decrypt with real AES-GCM.

It checks the checksums it is sent, and the service account's token: a JWT that the client signs
itself, as it does for Google.
"""

from __future__ import annotations

import base64
import json
import os
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1

from boltseal.keywrap.kms.crc32c import crc32c

if TYPE_CHECKING:
    from pathlib import Path

HOST = "cloudkms.googleapis.com"
KEY = "projects/acme/locations/europe-west1/keyRings/images/cryptoKeys/app"
_PREFIX = b"\x0a\x24"


@dataclass
class Key:
    """Versions from 1; those that are ``disabled`` do nothing."""

    versions: list[bytes] = field(default_factory=list)
    disabled: set[int] = field(default_factory=set)

    def rotate(self) -> None:
        self.versions.append(AESGCM.generate_key(256))


class GoogleKms:
    """The service and its state. ``faults`` are status codes of the next answers."""

    def __init__(self, *, account: rsa.RSAPublicKey | None = None) -> None:
        self.keys: dict[str, Key] = {}
        self.faults: list[grpc.StatusCode] = []
        self.seen: list[str] = []
        self.damage = False  # answers whose checksums do not hold
        self._account = account
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handlers = {
            "Encrypt": _unary(self._encrypt, kms_v1.EncryptRequest, kms_v1.EncryptResponse),
            "Decrypt": _unary(self._decrypt, kms_v1.DecryptRequest, kms_v1.DecryptResponse),
        }
        service = "google.cloud.kms.v1.KeyManagementService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, handlers),)
        )

    def start(self, tls: tuple[Path, Path] | None = None) -> int:
        """The port on loopback."""
        if tls is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            pair = (tls[1].read_bytes(), tls[0].read_bytes())
            port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        self._server.start()
        return int(port)

    def stop(self) -> None:
        self._server.stop(0).wait()

    def make(self, name: str) -> Key:
        key = self.keys.setdefault(name, Key())
        key.rotate()
        return key

    def _encrypt(self, request: Any, context: Any) -> Any:
        self._check(context, request.plaintext, request.plaintext_crc32c)
        aad = request.additional_authenticated_data
        self._check_sum(context, aad, request.additional_authenticated_data_crc32c)
        name, _, chosen = request.name.partition("/cryptoKeyVersions/")
        key = self._key(context, name)
        version = int(chosen or len(key.versions))
        if not 1 <= version <= len(key.versions):
            context.abort(grpc.StatusCode.NOT_FOUND, f"{request.name} not found.")
        self._check_enabled(context, name, key, version)
        nonce = os.urandom(12)
        sealed = AESGCM(key.versions[version - 1]).encrypt(nonce, request.plaintext, aad)
        ciphertext = _PREFIX + bytes((version,)) + nonce + sealed
        return kms_v1.EncryptResponse(
            name=f"{name}/cryptoKeyVersions/{version}",
            ciphertext=ciphertext,
            ciphertext_crc32c=crc32c(ciphertext) ^ self.damage,
            verified_plaintext_crc32c=True,
            verified_additional_authenticated_data_crc32c=True,
        )

    def _decrypt(self, request: Any, context: Any) -> Any:
        self._check(context, request.ciphertext, request.ciphertext_crc32c)
        key = self._key(context, request.name)
        raw = request.ciphertext
        invalid = "Decryption failed: the ciphertext is invalid."
        if not raw.startswith(_PREFIX) or not 1 <= raw[2] <= len(key.versions):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, invalid)
        self._check_enabled(context, request.name, key, raw[2])
        try:
            plain = AESGCM(key.versions[raw[2] - 1]).decrypt(
                raw[3:15], raw[15:], request.additional_authenticated_data
            )
        except InvalidTag:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, invalid)
        return kms_v1.DecryptResponse(
            plaintext=plain, plaintext_crc32c=crc32c(plain) ^ self.damage, used_primary=True
        )

    def _check(self, context: Any, value: bytes, checksum: int) -> None:
        self.seen.append(dict(context.invocation_metadata()).get("x-goog-request-params", ""))
        if self.faults:
            context.abort(self.faults.pop(0), "injected, request id 8f3a")
        if self._account is not None and not self._is_signed(context):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "invalid authentication credentials")
        self._check_sum(context, value, checksum)

    def _check_sum(self, context: Any, value: bytes, checksum: int) -> None:
        if checksum != crc32c(value):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a checksum did not match")

    def _key(self, context: Any, name: str) -> Key:
        if name not in self.keys:
            context.abort(grpc.StatusCode.NOT_FOUND, f"CryptoKey {name} not found.")
        return self.keys[name]

    def _check_enabled(self, context: Any, name: str, key: Key, version: int) -> None:
        if version in key.disabled:
            said = f"{name}/cryptoKeyVersions/{version} is not enabled, current state is: DISABLED."
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, said)

    def _is_signed(self, context: Any) -> bool:
        token = dict(context.invocation_metadata()).get("authorization", "")
        signed, _, signature = token.removeprefix("Bearer ").rpartition(".")
        padded = signature + "=" * (-len(signature) % 4)
        try:
            assert self._account is not None
            self._account.verify(
                base64.urlsafe_b64decode(padded),
                signed.encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except (InvalidSignature, ValueError):
            return False
        return True


def service_account(path: Path) -> rsa.RSAPublicKey:
    """Write a service account's JSON key, as ``gcloud iam service-accounts keys create`` does."""
    key = rsa.generate_private_key(65537, 2048)
    document = {
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "1",
        "private_key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        "client_email": "images@acme.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return key.public_key()


def _unary(function: Any, request: Any, response: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        function,
        request_deserializer=request.deserialize,
        response_serializer=response.serialize,
    )
