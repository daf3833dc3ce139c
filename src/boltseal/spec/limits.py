"""Every bound on what is read from outside, by name and unit."""

from __future__ import annotations

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # bytes of one manifest, index or index.json
MAX_CONFIG_BYTES = 8 * 1024 * 1024  # bytes of an image configuration
MAX_LAYERS = 20_000  # layers of one manifest
MAX_MANIFESTS = 1_000  # manifests of one index, and manifests in one image in all
MAX_INDEX_DEPTH = 4  # indexes inside indexes
MAX_IMAGE_METADATA_BYTES = 64 * 1024 * 1024  # bytes of all manifests and indexes of one image
MAX_ANNOTATIONS = 512  # annotations of one descriptor, manifest or index
MAX_ANNOTATION_BYTES = 512 * 1024  # characters of one annotation's value
MAX_PACKETS = 256  # wrapped keys in one annotation
MAX_BLOB_BYTES = 1 << 40  # bytes of one blob, and of one decompressed layer
MAX_TAG_LENGTH = 512  # characters of a tag in a layout
MAX_KEY_FILE_BYTES = 256 * 1024  # bytes of a key file
