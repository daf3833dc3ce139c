"""A double of Vault's Transit engine that encrypts for real, after its published HTTP API.

Keys are made, rotated, configured, read, used to encrypt, decrypt and rewrap; tokens have policies
as far as ``update`` on a path goes; namespaces are apart from each other. It says what Vault says.
As a program it serves until it is stopped: ``python -m support.kms_vault PORT TOKEN [KEY]``.
"""

from __future__ import annotations

import base64
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from support.kms_http import Handler, Server

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class Key:
    """Versions from 1; AES-256 keys or RSA keys."""

    kind: str = "aes256-gcm96"
    versions: list[Any] = field(default_factory=list)
    min_decryption_version: int = 1

    def rotate(self) -> None:
        size = {"rsa-2048": 2048, "rsa-3072": 3072}.get(self.kind)
        self.versions.append(
            rsa.generate_private_key(65537, size) if size else AESGCM.generate_key(256)
        )

    def encrypt(self, plain: bytes) -> bytes:
        key = self.versions[-1]
        if isinstance(key, bytes):
            nonce = os.urandom(12)
            return nonce + AESGCM(key).encrypt(nonce, plain, None)
        return bytes(key.public_key().encrypt(plain, OAEP))

    def decrypt(self, version: int, raw: bytes) -> bytes:
        key = self.versions[version - 1]
        if isinstance(key, bytes):
            return AESGCM(key).decrypt(raw[:12], raw[12:], None)
        return bytes(key.decrypt(raw, OAEP))


class Vault(Server):
    """Tokens are ``{token: paths it may use}``; None is everything."""

    def __init__(self, port: int = 0, token: str = "root", mount: str = "transit") -> None:
        super().__init__(_Handler, port)
        self.mount = mount
        self.tokens: dict[str, tuple[str, ...] | None] = {token: None}
        self.keys: dict[tuple[str, str], Key] = {}

    def make(self, name: str, kind: str = "aes256-gcm96", namespace: str = "") -> Key:
        key = self.keys.setdefault((namespace, name), Key(kind))
        if not key.versions:
            key.rotate()
        return key


class _Handler(Handler):
    server: Vault

    def answer(self) -> Answer:
        token = self.headers.get("X-Vault-Token", "")
        if token not in self.server.tokens:
            said = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
            return 403, {"errors": [said]}, {}
        allowed = self.server.tokens[token]
        path = self.path.removeprefix("/v1/")
        if allowed is not None and path not in allowed:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}, {}
        prefix = self.server.mount + "/"
        if not path.startswith(prefix):
            return 404, {"errors": ["no handler for route"]}, {}
        operation, _, name = path.removeprefix(prefix).partition("/")
        return self._transit(operation, name, self.headers.get("X-Vault-Namespace", ""))

    def _transit(self, operation: str, name: str, namespace: str) -> Answer:
        name, _, action = name.partition("/")
        place = (namespace.strip("/"), name)
        body = self.json()
        if operation == "keys":
            return self._keys(place, action, body)
        if operation == "encrypt" and place not in self.server.keys:
            # whoever has "create" makes a key by using it
            self.server.make(name, namespace=place[0])
        key = self.server.keys.get(place)
        if key is None:
            return _error("encryption key not found")
        if operation == "encrypt":
            try:
                raw = key.encrypt(base64.b64decode(body["plaintext"], validate=True))
            except ValueError:
                return _error("failed to RSA encrypt the plaintext: message too long")
            return _data(_ciphertext(key, raw))
        if operation in ("decrypt", "rewrap"):
            return self._decrypt(key, operation, body["ciphertext"])
        return 404, {"errors": ["unsupported path"]}, {}

    def _keys(self, place: tuple[str, str], action: str, body: Any) -> Answer:
        if self.command in ("POST", "PUT") and not action:
            self.server.make(place[1], body.get("type", "aes256-gcm96"), place[0])
        key = self.server.keys.get(place)
        if key is None:
            return 404, {"errors": []}, {}
        if action == "rotate":
            key.rotate()
        if action == "config":
            key.min_decryption_version = int(body["min_decryption_version"])
        return _data(
            {
                "name": place[1],
                "type": key.kind,
                "latest_version": len(key.versions),
                "min_decryption_version": key.min_decryption_version,
                "supports_encryption": not key.kind.startswith("ecdsa"),
            }
        )

    def _decrypt(self, key: Key, operation: str, text: str) -> Answer:
        if not text.startswith("vault:v"):
            return _error("invalid ciphertext: no prefix")
        digits, _, encoded = text.removeprefix("vault:v").partition(":")
        version = int(digits)
        if version > len(key.versions):
            return _error("invalid ciphertext: version is too new")
        if version < key.min_decryption_version:
            return _error("ciphertext or signature version is disallowed by policy (too old)")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            return _error("invalid ciphertext: could not decode base64")
        try:
            plain = key.decrypt(version, raw)
        except InvalidTag:
            return _error("cipher: message authentication failed")
        except ValueError:
            return _error("failed to RSA decrypt the ciphertext: crypto/rsa: decryption error")
        if operation == "rewrap":
            return _data(_ciphertext(key, key.encrypt(plain)))
        return _data({"plaintext": base64.b64encode(plain).decode()})


def _ciphertext(key: Key, raw: bytes) -> dict[str, Any]:
    version = len(key.versions)
    text = f"vault:v{version}:{base64.b64encode(raw).decode()}"
    return {"ciphertext": text, "key_version": version}


def _data(data: dict[str, Any]) -> Answer:
    return 200, {"request_id": "7d1d", "lease_id": "", "renewable": False, "data": data}, {}


def _error(text: str) -> Answer:
    return 400, {"errors": [text]}, {}


def main(port: str, token: str, *keys: str) -> None:
    server = Vault(int(port), token)
    for key in keys:
        server.make(key)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
