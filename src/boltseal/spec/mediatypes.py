"""The one table of media types.

OCI Image Specification, media-types.md; Docker Image Manifest V2, Schema 2. An encrypted layer has
the plain OCI type plus ``+encrypted``. Docker types with that suffix exist in the wild: they are
read as what they mean, and never written.
"""

from __future__ import annotations

from dataclasses import dataclass

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
IN_TOTO = "application/vnd.in-toto+json"

ENCRYPTED = "+encrypted"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
STATEMENT_TYPES = frozenset({IN_TOTO})  # layers of an attestation, which say things about an image
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_LAYER = "application/vnd.oci.image.layer"
_FOREIGN = "application/vnd.oci.image.layer.nondistributable"
_DOCKER = "application/vnd.docker.image.rootfs"

# What a plain layer's type becomes when the layer is encrypted, less the suffix.
_LAYER_TYPES = {
    f"{_LAYER}.v1.tar": f"{_LAYER}.v1.tar",
    f"{_LAYER}.v1.tar+gzip": f"{_LAYER}.v1.tar+gzip",
    f"{_LAYER}.v1.tar+zstd": f"{_LAYER}.v1.tar+zstd",
    f"{_FOREIGN}.v1.tar": f"{_FOREIGN}.v1.tar",
    f"{_FOREIGN}.v1.tar+gzip": f"{_FOREIGN}.v1.tar+gzip",
    f"{_FOREIGN}.v1.tar+zstd": f"{_FOREIGN}.v1.tar+zstd",
    "application/vnd.wasm.content.layer.v1+wasm": "application/vnd.wasm.content.layer.v1+wasm",
    f"{_DOCKER}.diff.tar": f"{_LAYER}.v1.tar",
    f"{_DOCKER}.diff.tar.gzip": f"{_LAYER}.v1.tar+gzip",
    f"{_DOCKER}.diff.tar.zstd": f"{_LAYER}.v1.tar+zstd",
    f"{_DOCKER}.foreign.diff.tar": f"{_FOREIGN}.v1.tar",
    f"{_DOCKER}.foreign.diff.tar.gzip": f"{_FOREIGN}.v1.tar+gzip",
}
_OTHER_TYPES = {DOCKER_LIST: OCI_INDEX, DOCKER_MANIFEST: OCI_MANIFEST, DOCKER_CONFIG: OCI_CONFIG}


@dataclass(frozen=True, slots=True)
class LayerType:
    """What a layer's media type says."""

    plain: str  # the plain OCI media type
    encrypted: bool

    @property
    def encrypted_type(self) -> str:
        """The media type of this layer when it is encrypted."""
        return self.plain + ENCRYPTED

    @property
    def is_tar(self) -> bool:
        """Whether the content is a (compressed) tar archive, which has a diff id."""
        return ".tar" in self.plain


def layer_type(media_type: str) -> LayerType | None:
    """Look a layer's media type up; None for a type the format does not define."""
    encrypted = media_type.endswith(ENCRYPTED)
    plain = _LAYER_TYPES.get(media_type.removesuffix(ENCRYPTED))
    return LayerType(plain, encrypted) if plain is not None else None


def is_encrypted(media_type: str) -> bool:
    """Whether a media type claims to be encrypted, known to the table or not."""
    return media_type.endswith(ENCRYPTED)


def as_oci(media_type: str) -> str:
    """The OCI media type for a Docker one; every other type as it is."""
    if media_type in _OTHER_TYPES:
        return _OTHER_TYPES[media_type]
    if media_type.startswith(_DOCKER):
        known = layer_type(media_type)
        if known is not None:
            return known.encrypted_type if known.encrypted else known.plain
    return media_type


def is_foreign(media_type: str) -> bool:
    """Whether a layer may be somewhere else, behind its URLs, by its type."""
    return media_type.startswith((_FOREIGN, f"{_DOCKER}.foreign."))


def is_docker(media_type: str) -> bool:
    """Whether a type has to be converted before an image can hold encrypted layers."""
    return as_oci(media_type) != media_type
