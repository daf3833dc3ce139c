"""Encrypt or decrypt the first layer of a layout into nothing; the seconds it took, as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jwcrypto.jwe  # noqa: F401  what opening a key loads belongs to a start, not to a layer

from bench import image
from boltseal.keywrap.parse import parse_keyring, parse_recipient
from boltseal.layer.decrypt import decrypt_layer, unlock_layer
from boltseal.layer.encrypt import encrypt_layer
from boltseal.spec.descriptor import Descriptor
from boltseal.transports.base import FileReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.spec.digest import Digest


class Sink:
    """Counts and discards."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: memoryview, /) -> None:
        self.size += len(data)

    def commit(self, digest: Digest) -> None:
        """Nothing is kept."""

    def abort(self) -> None:
        """Nothing is kept."""


def main(verb: str, folder: Path, key: str) -> None:
    described = image.manifest(folder)["layers"][0]
    layer = Descriptor.from_json(described, "layer")
    # The reader that layouts have, too.
    fd = os.open(image.blob(folder, described["digest"]), os.O_RDONLY)
    source, sink = FileReader(fd, 0, layer.size), Sink()
    work: Callable[[], object]
    if verb == "encrypt":
        recipient = parse_recipient(key)
        work = lambda: encrypt_layer(layer, source, sink, [recipient])  # noqa: E731
    else:
        keyring = parse_keyring([key])
        work = lambda: decrypt_layer(layer, unlock_layer(layer, keyring), source, sink)  # noqa: E731
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    source.close()
    assert sink.size == layer.size
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
