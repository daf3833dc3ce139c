"""Every bound on what is read from outside, by name and unit."""

from __future__ import annotations

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # bytes of one manifest, index or index.json
MAX_CONFIG_BYTES = 4 * 1024 * 1024  # bytes of an image configuration
MAX_LAYERS = 20_000  # layers of one manifest
MAX_MANIFESTS = 1_000  # entries of one index, and entries of all indexes of one image
MAX_INDEX_DEPTH = 4  # indexes inside indexes
MAX_IMAGE_METADATA_BYTES = 64 * 1024 * 1024  # bytes of all manifests, indexes and configs
MAX_ANNOTATIONS = 512  # annotations of one descriptor, manifest or index
MAX_ANNOTATION_BYTES = 512 * 1024  # characters of one annotation's value
MAX_PACKETS = 256  # packets in one annotation
MAX_WRAPPED_KEYS = 50_000  # wrapped keys that one look at an image tells about
MAX_BLOB_BYTES = 1 << 40  # bytes of one blob, and of one decompressed layer
MAX_TAG_LENGTH = 512  # characters of a tag in a layout
MAX_KEY_FILE_BYTES = 256 * 1024  # bytes of a key file
