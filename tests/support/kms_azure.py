"""A double of Azure Key Vault's keys: get, wrapKey and unwrapKey with real RSA-OAEP-256.

It challenges for a token as a vault does, and issues one itself where App Service's managed
identity would (``/msi/token``, on a plain port, as there). TLS is in front of the vault.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from support.kms_http import Handler, Server

if TYPE_CHECKING:
    from pathlib import Path

HOST = "acme.vault.azure.net"
OAEP_256 = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/'
    '11111111-2222-3333-4444-555555555555", resource="https://vault.azure.net"'
)
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class Key:
    """Versions by their ids, the newest last."""

    versions: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)

    def rotate(self) -> str:
        version = os.urandom(16).hex()
        self.versions[version] = rsa.generate_private_key(65537, 2048)
        return version


class KeyVault(Server):
    """One vault. ``permissions`` is what the token that it takes may do."""

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__(_Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.token = base64.urlsafe_b64encode(os.urandom(24)).decode()
        self.accepts = self.token
        self.permissions = {"get", "wrapKey", "unwrapKey"}
        self.keys: dict[str, Key] = {}

    def make(self, name: str) -> Key:
        key = self.keys.setdefault(name, Key())
        key.rotate()
        return key


class _Handler(Handler):
    server: KeyVault

    def answer(self) -> Answer:
        if self.headers.get("Authorization") != f"Bearer {self.server.accepts}":
            body = _error("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
            return 401, body, {"WWW-Authenticate": CHALLENGE}
        parts = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
        if parts[0] != "keys" or self.headers.get("Host") != HOST:
            return 404, _error("NotFound", "no such resource"), {}
        operation = parts[3] if len(parts) == 4 else "get"
        if operation not in {one.lower() for one in self.server.permissions} | (
            self.server.permissions
        ):
            return 403, _error("Forbidden", f"no permission {operation}", "ForbiddenByRbac"), {}
        key = self.server.keys.get(parts[1])
        version = parts[2] if len(parts) > 2 and parts[2] else ""
        if key is None or (version and version not in key.versions):
            return 404, _error("KeyNotFound", "A key with (name/id) was not found"), {}
        version = version or list(key.versions)[-1]
        if version in key.disabled:
            said = f"Operation {operation} is not allowed on a disabled key."
            return 403, _error("Forbidden", said, "KeyDisabled"), {}
        return self._use(operation.lower(), parts[1], version, key.versions[version])

    def _use(self, operation: str, name: str, version: str, key: rsa.RSAPrivateKey) -> Answer:
        kid = f"https://{HOST}/keys/{name}/{version}"
        if operation == "get":
            numbers = key.public_key().public_numbers()
            jwk = {
                "kid": kid,
                "kty": "RSA",
                "key_ops": ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
                "n": _url(numbers.n.to_bytes(256)),
                "e": _url(numbers.e.to_bytes(3)),
            }
            now = int(time.time())
            attributes = {"enabled": True, "created": now, "updated": now}
            return 200, {"key": jwk, "attributes": attributes}, {}
        body = self.json()
        if body["alg"] != "RSA-OAEP-256":
            return 400, _error("BadParameter", "Property  has invalid value"), {}
        value = base64.urlsafe_b64decode(body["value"] + "=" * (-len(body["value"]) % 4))
        try:
            if operation == "unwrapkey":
                result = key.decrypt(value, OAEP_256)
            else:
                result = key.public_key().encrypt(value, OAEP_256)
        except ValueError:
            return 400, _error("BadParameter", "The parameter is incorrect."), {}
        return 200, {"kid": kid, "value": _url(result)}, {}


class ManagedIdentity(Server):
    """Where App Service has the token of the machine's identity."""

    def __init__(self, vault: KeyVault) -> None:
        super().__init__(_Identity)
        self.vault = vault
        self.secret = os.urandom(8).hex()

    def environment(self) -> dict[str, str]:
        return {"IDENTITY_ENDPOINT": self.url + "/msi/token", "IDENTITY_HEADER": self.secret}


class _Identity(Handler):
    server: ManagedIdentity

    def answer(self) -> Answer:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if self.headers.get("X-IDENTITY-HEADER") != self.server.secret:
            return 401, {"statusCode": 401, "message": "wrong header"}, {}
        token = {
            "access_token": self.server.vault.token,
            "expires_on": str(int(time.time()) + 3600),
            "resource": query["resource"][0],
            "token_type": "Bearer",
        }
        return 200, json.loads(json.dumps(token)), {}


def _url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _error(code: str, message: str, inner: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return {"error": error}
