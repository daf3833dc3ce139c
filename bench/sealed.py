"""Write an encrypted layer and the payload that containerd would send; print the plain digest."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import IO

from boltseal._io.b64 import encode
from boltseal._io.pipeline import Chunk
from boltseal.blockcipher.aes_ctr_hmac import Encryptor
from boltseal.keywrap import keyring
from boltseal.keywrap.parse import parse_recipient
from boltseal.spec import annotations as names

_STEP = 1 << 20
_TYPE = b"io.containerd.ocicrypt.v1.Payload"


def main() -> None:
    folder, size, key = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    encryptor = Encryptor("sha256:" + "0" * 64)
    secret = encryptor.private.secret()
    recipient = parse_recipient(f"jwe:{key.with_suffix('')}.pub.pem")
    wrapped = keyring.wrap([recipient], secret)["jwe"]
    with (folder / "blob").open("wb") as blob:
        plain, sealed = _encrypt(encryptor, size, blob)
    annotations = {
        names.PUBLIC_OPTIONS: encryptor.finish().annotation(),
        names.KEYS + "jwe": names.join_packets(wrapped),
    }
    descriptor = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+encrypted",
        "digest": f"sha256:{sealed}",
        "size": size,
        "annotations": annotations,
    }
    parameters = {"privkeys": [encode(key.read_bytes())], "privkeys-passwords": [""]}
    document = {"DecryptConfig": {"Parameters": parameters}, "Descriptor": descriptor}
    value = json.dumps(document).encode()
    (folder / "payload").write_bytes(_field(1, _TYPE) + _field(2, value))
    print(plain)


def _encrypt(encryptor: Encryptor, size: int, blob: IO[bytes]) -> tuple[str, str]:
    plain, sealed = hashlib.sha256(), hashlib.sha256()
    chunk = Chunk(_STEP)
    left = size
    while left:
        chunk.length = min(left, _STEP)
        chunk.room[: chunk.length] = os.urandom(chunk.length)
        encryptor.update(chunk)
        plain.update(chunk.data)
        sealed.update(chunk.out)
        blob.write(chunk.out)
        left -= chunk.length
    return plain.hexdigest(), sealed.hexdigest()


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes, with its length in base 128."""
    length, parts = len(content), bytearray()
    while length >= 0x80:
        parts.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *parts, length]) + content


if __name__ == "__main__":
    main()
