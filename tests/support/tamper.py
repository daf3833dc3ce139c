"""Change an encrypted image as an attacker would who holds the registry: all digests fit again."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from support.cli import boltseal
from support.images import Layout, compact, sha256, simple_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PUBOPTS = "org.opencontainers.image.enc.pubopts"
JWE = "org.opencontainers.image.enc.keys.jwe"


class Sealed:
    """An encrypted image of one platform, whose manifest can be rewritten."""

    def __init__(self, folder: Path, keys: Path, name: str = "sealed") -> None:
        plain = simple_image(folder / f"{name}-plain")
        self.layout = Layout.__new__(Layout)
        self.layout.path = folder / name
        run = boltseal(
            "encrypt",
            plain.reference(),
            self.layout.reference(),
            "-r",
            f"jwe:{keys}/p256.pub.pem",
            "-q",
        )
        assert run.code == 0, run.err
        self.plain = plain
        self.folder = folder
        self.keys = keys
        self.target = folder / f"{name}-out"

    def manifest(self) -> Any:
        return self.layout.json(self.layout.root()["digest"])

    def rewrite(self, change: Callable[[Any], None]) -> None:
        """Change the manifest as JSON."""
        manifest = self.manifest()
        change(manifest)
        self.put_manifest(compact(manifest))

    def put_manifest(self, raw: bytes) -> None:
        """Replace the manifest by any bytes; the index names them rightly."""
        digest, size = self.layout.blob(raw)
        self.set_root(digest=digest, size=size)

    def set_root(self, **values: Any) -> None:
        path = self.layout.path / "index.json"
        index = json.loads(path.read_bytes())
        index["manifests"][0].update(values)
        path.write_bytes(compact(index))

    def change_layer(self, place: int, **values: Any) -> None:
        self.rewrite(lambda manifest: manifest["layers"][place].update(values))

    def replace_blob(self, place: int, change: Callable[[bytes], bytes]) -> None:
        """Other content for a layer's blob, with digest and size made to fit."""
        raw = change(self.layout.read(self.manifest()["layers"][place]["digest"]))
        digest, size = self.layout.blob(raw)
        self.change_layer(place, digest=digest, size=size)

    def annotate(self, place: int, key: str, value: str | None) -> None:
        def change(manifest: Any) -> None:
            annotations = manifest["layers"][place]["annotations"]
            if value is None:
                del annotations[key]
            else:
                annotations[key] = value

        self.rewrite(change)

    def public_options(self, place: int, **values: Any) -> None:
        """Change the public options; None removes a member."""
        options = json.loads(
            base64.b64decode(self.manifest()["layers"][place]["annotations"][PUBOPTS])
        )
        options.update(values)
        options = {key: value for key, value in options.items() if value is not None}
        self.annotate(place, PUBOPTS, b64(compact(options)))

    def packet(self, place: int) -> dict[str, Any]:
        value = self.manifest()["layers"][place]["annotations"][JWE]
        packet: dict[str, Any] = json.loads(base64.b64decode(value))
        return packet

    def decrypt(self, *options: str) -> Any:
        return boltseal(
            "decrypt",
            self.layout.reference(),
            f"oci:{self.target}:v1",
            "-k",
            f"{self.keys}/p256.pem",
            *options,
        )

    def verify(self) -> Any:
        return boltseal("verify", self.layout.reference(), "-k", f"{self.keys}/p256.pem")


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def flip(raw: bytes, position: int = 0) -> bytes:
    """One bit changed."""
    changed = bytearray(raw)
    changed[position] ^= 1
    return bytes(changed)


__all__ = ["JWE", "PUBOPTS", "Sealed", "b64", "b64url", "flip", "sha256"]
