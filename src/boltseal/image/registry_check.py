"""Find out what a registry takes, by trying it with an image that is nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, NotFoundError, UsageError, located
from boltseal.keywrap.jwe import JweIdentity, JweRecipient
from boltseal.keywrap.keyring import Keyring
from boltseal.layer.decrypt import decrypt_layer, unlock_layer
from boltseal.layer.encrypt import encrypt_layer
from boltseal.spec import mediatypes
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.spec.edit import edit_document
from boltseal.spec.manifest import parse_manifest
from boltseal.transports.base import MemoryReader
from boltseal.transports.registry import manifests, routes
from boltseal.transports.registry.client import Repository, connect
from boltseal.transports.registry.download import RegistryReader
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.options import RegistryOptions
from boltseal.transports.registry.upload import RegistryUploads, SmallUpload

if TYPE_CHECKING:
    from boltseal.transports.registry.routes import Route

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One question and its answer: True, False, or None where it could not be asked."""

    name: str
    answer: bool | None
    detail: str = ""


class _Memory:
    """A blob that ends up in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: memoryview) -> None:
        self.data += data

    def commit(self, digest: Digest) -> None:
        pass

    def abort(self) -> None:
        pass


def registry_check(place: str, *, registry: RegistryOptions | None = None) -> list[Finding]:
    """Push a tiny encrypted image under a throw-away tag, read it back, and delete it.

    ``place`` is ``HOST/NAME`` or ``docker://HOST/NAME``. Raises BoltsealError when the repository
    cannot be reached or written at all; everything else is in the findings.
    """
    from boltseal.spec.reference import parse_registry_reference

    options = registry or RegistryOptions()
    text = place if "://" in place else f"docker://{place}"
    reference = parse_registry_reference(text)
    if reference.digest is not None:
        raise UsageError("a registry is checked by HOST/NAME, without a digest")
    http = HttpClient(options)
    try:
        with located(f"docker://{reference.location}"):
            route = routes.load(options).destination(reference)
            repository = connect(http, options, route, "pull,push,delete")
            return _Check(http, options, route, repository).run()
    finally:
        http.close()


class _Check:
    def __init__(
        self, http: HttpClient, options: RegistryOptions, route: Route, repository: Repository
    ) -> None:
        self._http, self._options, self._route = http, options, route
        self._repository = repository
        self._uploads = RegistryUploads(repository)
        self._tag = f"boltseal-check-{os.urandom(6).hex()}"
        self._keyring, self._recipient = _keys()

    def run(self) -> list[Finding]:
        raw, plain = self._make()
        digest = Digest.of(raw)
        findings = [self._push(raw)]
        if findings[0].answer:
            findings.append(self._read_back(plain))
            findings.append(self._referrers(raw, digest))
            findings.append(self._mount(raw))
            findings += self._delete(digest)
        return findings

    def _make(self) -> tuple[bytes, bytes]:
        """Upload the blobs of an encrypted image: its manifest, and the plain layer."""
        layer = _layer()
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{hashlib.sha256(gzip.decompress(layer)).hexdigest()}"],
                },
            }
        ).encode()
        descriptor = Descriptor(_LAYER, Digest.of(layer), len(layer))
        upload = SmallUpload(self._uploads, len(layer))
        change = encrypt_layer(descriptor, MemoryReader(layer), upload, [self._recipient])
        self._put(config)
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": _entry(mediatypes.OCI_CONFIG, config),
            "layers": [_entry(_LAYER, layer)],
        }
        return edit_document(json.dumps(document).encode(), lists={"layers": {0: change}}), layer

    def _put(self, raw: bytes) -> None:
        upload = SmallUpload(self._uploads, len(raw))
        upload.write(memoryview(raw))
        upload.commit(Digest.of(raw))

    def _push(self, raw: bytes) -> Finding:
        name = "takes encrypted layers"
        try:
            manifests.put(self._repository, self._tag, raw, mediatypes.OCI_MANIFEST)
        except BoltsealError as error:
            return Finding(name, False, error.message)
        return Finding(name, True)

    def _read_back(self, plain: bytes) -> Finding:
        name = "gives them back unchanged"
        try:
            found = manifests.get(self._repository, self._tag)
            layer = parse_manifest(found.raw, found.media_type).layers[0]
            out = _Memory()
            reader = RegistryReader(self._repository, f"blobs/{layer.digest}", layer)
            try:
                decrypt_layer(layer, unlock_layer(layer, self._keyring), reader, out)
            finally:
                reader.close()
        except BoltsealError as error:
            return Finding(name, False, error.message)
        return Finding(name, bytes(out.data) == plain)

    def _referrers(self, raw: bytes, digest: Digest) -> Finding:
        """A manifest with a subject is pushed, and looked for under it."""
        name = "lists referrers"
        empty = b"{}"
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "artifactType": "application/vnd.boltseal.check",
            "config": _entry("application/vnd.oci.empty.v1+json", empty),
            "layers": [_entry("application/vnd.oci.empty.v1+json", empty)],
            "subject": _entry(mediatypes.OCI_MANIFEST, raw),
        }
        text = json.dumps(document).encode()
        own = Digest.of(text)
        try:
            self._put(empty)
            manifests.put(self._repository, own, text, mediatypes.OCI_MANIFEST)
            listed, api = manifests.referrers(self._repository, digest)
        except BoltsealError as error:
            return Finding(name, False, error.message)
        finally:
            with suppress(BoltsealError):
                manifests.delete(self._repository, own)
        if api and any(one.digest == own for one in listed):
            return Finding(name, True)
        return Finding(name, False, "by the tag scheme alone")

    def _mount(self, raw: bytes) -> Finding:
        """A blob of this repository is mounted into one beside it."""
        name = "mounts blobs between repositories"
        layer = parse_manifest(raw, mediatypes.OCI_MANIFEST).layers[0]
        other = type(self._route)(
            self._route.host, f"{self._route.repository}-check", self._route.insecure
        )
        from boltseal.transports.registry.upload import mount

        try:
            beside = connect(self._http, self._options, other, "pull,push")
            mounted = mount(beside, self._repository.name, layer)
        except BoltsealError as error:
            return Finding(name, None, error.message)
        return Finding(name, mounted)

    def _delete(self, digest: Digest) -> list[Finding]:
        try:
            deleted = manifests.delete(self._repository, digest)
            gone = deleted and not self._is_there()
        except BoltsealError as error:
            return [Finding("deletes images", False, error.message)]
        findings = [Finding("deletes images", gone)]
        if not gone:
            findings.append(Finding("is as clean as before", False, f"the tag {self._tag} stays"))
        return findings

    def _is_there(self) -> bool:
        try:
            manifests.head(self._repository, self._tag)
        except NotFoundError:
            return False
        return True


def _keys() -> tuple[Keyring, JweRecipient]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from boltseal.keywrap.jwe import key_of

    key = ec.generate_private_key(ec.SECP256R1())
    return Keyring((JweIdentity(key_of(key)),)), JweRecipient(key_of(key.public_key()))


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("boltseal-check"))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _entry(media_type: str, raw: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(raw)), "size": len(raw)}
