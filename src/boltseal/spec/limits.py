"""Every bound on what is read from outside, by name and unit."""

from __future__ import annotations

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # bytes of a manifest or index in a registry, or index.json
MAX_LOCAL_MANIFEST_BYTES = 32 * 1024 * 1024  # bytes of one in a file: 10,000 encrypted layers
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
MAX_BULK_IMAGES = 100_000  # images of one bulk run
MAX_BULK_LIST_BYTES = 32 * 1024 * 1024  # bytes of a list of images
MAX_REFERENCE_LENGTH = 4_096  # characters of a reference in a list
MAX_JOURNAL_BYTES = 256 * 1024 * 1024  # bytes of a bulk run's journal
MAX_JOURNAL_LINE_BYTES = 1024 * 1024  # bytes of one line of it
MAX_REPOSITORIES = 100_000  # repositories that a registry lists
MAX_LINT_BYTES = 4 * 1024 * 1024  # bytes of an image's JSON that are searched for secrets
