"""decrypt(encrypt(x)) is x, whatever an OCI image says of itself."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal
from support.images import (
    GZIP,
    INDEX,
    MANIFEST,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    compact,
    sha256,
    tar_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TARS = [tar_bytes({f"file{n}": b"%d" % n * 700}) for n in range(3)]
EMPTY = "application/vnd.oci.empty.v1+json"
SUBJECT = {"mediaType": MANIFEST, "digest": sha256(b"elsewhere"), "size": 9, "annotations": {}}

EXTRA: dict[str, dict[str, Any]] = {
    "nothing": {},
    "annotations": {"annotations": {"org.opencontainers.image.title": "ünï \u2028", "b": ""}},
    "empty annotations": {"annotations": {}},
    "subject": {"subject": SUBJECT},
    "artifact type": {"artifactType": "application/vnd.example+type"},
    "unknown fields": {"x-big": 2**70, "x-float": 1.50, "x": [None, {"deep": [[]]}]},
}
LAYERS: dict[str, dict[int, dict[str, Any]]] = {
    "bare": {},
    "annotated": {0: {"annotations": {"a": "1"}}, 2: {"annotations": {"z": "\\u0000", "b": "2"}}},
    "empty and null annotations": {0: {"annotations": {}}, 1: {"annotations": None}},
    "unknown members": {1: {"x-mine": {"annotations": {"mediaType": "trap"}}, "urls": []}},
}
DUMPS: dict[str, Callable[[Any], bytes]] = {
    "compact": compact,
    "indented": lambda value: json.dumps(value, indent=3).encode() + b"\n",
    "sorted, with tabs": lambda value: json.dumps(value, indent="\t", sort_keys=True).encode(),
    "not escaped": lambda value: json.dumps(value, ensure_ascii=False).encode(),
    "with escaped slashes": lambda value: json.dumps(value).replace("/", "\\/").encode(),
}


def there_and_back(folder: Path, keys: Path, plain: Layout, *encrypt: str) -> None:
    before = plain.root()
    sealed, opened = f"oci:{folder}/sealed:v1", f"oci:{folder}/opened:v1"
    run = boltseal("encrypt", plain.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem", *encrypt)
    assert run.code == 0, run.err
    run = boltseal("decrypt", sealed, opened, "-k", keys / "p256.pem", "--check-content")
    assert run.code == 0, run.err
    after = json.loads((folder / "opened" / "index.json").read_bytes())["manifests"][0]
    assert after == before, "digest, size, platform and annotations of the index's entry"
    for path in (folder / "opened" / "blobs" / "sha256").iterdir():
        assert path.read_bytes() == (plain.path / "blobs" / "sha256" / path.name).read_bytes()
    sealed_root = json.loads((folder / "sealed" / "index.json").read_bytes())["manifests"][0]
    assert sealed_root["digest"] != before["digest"]


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("layers", LAYERS)
def test_manifests(tmp_path: Path, keys: Path, extra: str, layers: str) -> None:
    plain = Layout(tmp_path / "plain")
    entry = add_manifest(
        plain, TARS, [TAR, GZIP, ZSTD], layer_extra=LAYERS[layers], extra=EXTRA[extra]
    )
    plain.tag(entry["mediaType"], entry["digest"], entry["size"], platform=entry["platform"])
    there_and_back(tmp_path, keys, plain)


@pytest.mark.parametrize("dump", DUMPS)
@pytest.mark.parametrize("which", ["-1", "0..1", "1"])
def test_formatting(tmp_path: Path, keys: Path, dump: str, which: str) -> None:
    write = DUMPS[dump]
    if dump == "with escaped slashes":  # digests have none, so nothing of theirs is lost
        assert b"\\/" in write({"a": "b/c"})
    plain = Layout(tmp_path / "plain")
    entry = add_manifest(
        plain,
        TARS,
        [GZIP] * 3,
        dump=write,
        extra=EXTRA["annotations"],
        layer_extra=LAYERS["annotated"],
    )
    plain.tag(entry["mediaType"], entry["digest"], entry["size"])
    there_and_back(tmp_path, keys, plain, f"--layer={which}")


@pytest.mark.parametrize("dump", DUMPS)
def test_indexes_in_indexes(tmp_path: Path, keys: Path, dump: str) -> None:
    plain = Layout(tmp_path / "plain")
    write = partial(DUMPS[dump])
    entries = [
        add_manifest(plain, TARS[:2], [GZIP, TAR], architecture=name, dump=write)
        for name in ("amd64", "arm64")
    ]
    inner = write({"schemaVersion": 2, "manifests": entries, "annotations": {"in": "ner"}})
    digest, size = plain.blob(inner)
    outer = write(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "x-unknown": {"kept": True},
            "manifests": [{"mediaType": INDEX, "size": size, "digest": digest, "x": 1}, entries[0]],
            "subject": SUBJECT,
        }
    )
    digest, size = plain.blob(outer)
    plain.tag(INDEX, digest, size, annotations={"mine": "stays"})
    there_and_back(tmp_path, keys, plain)


def test_embedded_data_is_encrypted_with_its_layer(tmp_path: Path, keys: Path) -> None:
    import base64

    from support.images import compress

    raw = compress(TARS[0], TAR)
    data = base64.b64encode(raw).decode()
    plain = Layout(tmp_path / "plain")
    entry = add_manifest(plain, TARS, [TAR, GZIP, GZIP], layer_extra={0: {"data": data}})
    plain.tag(entry["mediaType"], entry["digest"], entry["size"])
    there_and_back(tmp_path, keys, plain)
    for path in (tmp_path / "sealed" / "blobs" / "sha256").iterdir():
        assert data.encode() not in path.read_bytes()
        assert b"0" * 700 not in path.read_bytes()
