"""Small inputs that would cost a lot: each meets a limit that is named."""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd

from boltseal._io import tar
from boltseal.errors import LimitExceededError
from boltseal.layer.content import ContentCheck
from boltseal.spec.digest import Digest
from support.cli import boltseal
from support.images import CONFIG, INDEX, MANIFEST, TAR, Layout, add_manifest, compact, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

PUBOPTS = "org.opencontainers.image.enc.pubopts"
KEYS = "org.opencontainers.image.enc.keys."


def block(kind: bytes, size: int, name: str = "x") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def extended(kind: bytes, body: bytes) -> bytes:
    return block(kind, len(body)) + body + bytes(-len(body) % 512)


def refused_archive(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(raw)
    run = boltseal("inspect", f"oci-archive:{path}")
    assert (run.code, message in run.err) == (4, True), run


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        # a pattern that backtracks over digits (CVE-2024-6232)
        (extended(b"x", b"1" * 65536), "damaged"),
        (extended(b"x", b"1" * 65537), "larger than the limit of 65536"),
        # global headers, which the standard library applies again to every member
        (extended(b"g", b"20 path=everything\n\n"), "names or sizes every file"),
        (extended(b"x", b"26 GNU.sparse.major=10000\n"), "sparse"),
        (block(b"S", 0), "no plain file"),
        (extended(b"x", b"7 a=b\n") + extended(b"x", b"\0\0\0"), "damaged"),
        (extended(b"x", b"9999 path=x\n"), "damaged"),
        (extended(b"x", b"-5 path=x\n"), "damaged"),
        (extended(b"x", b"\xb2\xb2 path=x\n"), "damaged"),
        (extended(b"x", b"12 size=-100"), "damaged"),
        (extended(b"L", b"a\0") + extended(b"L", b"b\0"), "damaged"),
    ],
)
def test_headers(tmp_path: Path, raw: bytes, message: str) -> None:
    refused_archive(tmp_path, raw + block(b"0", 0) + bytes(1024), message)


def test_folders_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_HEADERS", 50)
    refused_archive(tmp_path, block(b"5", 0) * 51, "more than the limit of 50 headers")


def test_extended_headers_have_a_sum(tmp_path: Path) -> None:
    record = b"60000 comment=" + b"x" * (60000 - 15) + b"\n"
    many = (extended(b"x", record) + block(b"5", 0)) * 280
    refused_archive(tmp_path, many, "over the limit of 16777216")


def test_pax_names_and_sizes_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(__file__, "deep/" * 60 + "ünï")
    with (tmp_path / "a.tar").open("rb") as file:
        [member] = tar.scan(file.fileno())
        assert member.name == "deep/" * 60 + "ünï"
        file.seek(member.offset)
        with open(__file__, "rb") as original:
            assert file.read(member.size) == original.read()


def test_headers_for_every_digest_and_size() -> None:
    for digits in (64, 96, 128):
        for size in (0, 1, (8 << 30) - 1, 8 << 30, 1 << 40):
            raw = tar.header(f"blobs/sha{digits * 4}/" + "a" * digits, size)
            assert len(raw) == len(tar.header(f"blobs/sha{digits * 4}/" + "0" * digits, size))


def sealed_layer(layout: Layout, annotations: dict[str, str]) -> None:
    entry = add_manifest(layout, [tar_bytes({"a": b"a"})], [TAR])
    manifest = layout.json(entry["digest"])
    manifest["layers"][0].update(mediaType=f"{TAR}+encrypted", annotations=annotations)
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))


def packet(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_a_name_as_long_as_a_book_is_cut(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    jwe = {
        "iv": "",
        "ciphertext": "",
        "tag": "",
        "recipients": [{"header": {"alg": "A" * 100_000}}] * 3,
    }
    sealed_layer(layout, {KEYS + "jwe": packet(jwe)})
    run = boltseal("inspect", layout.reference())
    assert run.code == 4  # it has no public options
    assert "A" * 100 in run.out
    assert len(run.out) < 5_000


def test_thousands_of_recipients(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    one = {"version": 0, "blob": "YQ=="}
    many = ",".join([packet({"version": 0, "recipients": [one] * 256})] * 9)
    sealed_layer(layout, {KEYS + "pkcs11": many})
    run = boltseal("inspect", layout.reference())
    assert (run.code, "limit of 2000 wrapped keys" in run.err) == (4, True)


def test_one_manifest_named_again_and_again_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boltseal.image import tree

    parsed: list[int] = []
    parse = tree.parse_config

    def counted(raw: bytes) -> Any:
        parsed.append(len(raw))
        return parse(raw)

    monkeypatch.setattr(tree, "parse_config", counted)
    layout = Layout(tmp_path / "l")
    entry = add_manifest(layout, [tar_bytes({"a": b"a"})], [TAR])
    layout.tag(INDEX, *layout.blob(compact({"schemaVersion": 2, "manifests": [entry] * 500})))
    run = boltseal("inspect", layout.reference(), "-q")
    assert run.code == 0, run.err
    assert len(parsed) == 1


def test_configs_count_as_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from boltseal.image import tree

    monkeypatch.setattr(tree, "MAX_IMAGE_METADATA_BYTES", 100_000)
    layout = Layout(tmp_path / "l")
    entries = []
    for number in range(3):
        config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}
        digest, size = layout.blob(compact({**config, "x": str(number) * 50_000}))
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": CONFIG, "digest": digest, "size": size},
            "layers": [],
        }
        digest, size = layout.blob(compact(manifest))
        entries.append({"mediaType": MANIFEST, "digest": digest, "size": size})
    layout.tag(INDEX, *layout.blob(compact({"schemaVersion": 2, "manifests": entries})))
    run = boltseal("inspect", layout.reference())
    assert (run.code, "over the limit of 100000 bytes" in run.err) == (4, True)


def test_entries_that_are_no_images_count_too(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    opaque = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 1}
    inner = [
        layout.blob(compact({"schemaVersion": 2, "x": n, "manifests": [opaque] * 600}))
        for n in range(2)
    ]
    entries = [{"mediaType": INDEX, "digest": digest, "size": size} for digest, size in inner]
    layout.tag(INDEX, *layout.blob(compact({"schemaVersion": 2, "manifests": entries})))
    run = boltseal("inspect", layout.reference())
    assert (run.code, "more than the limit of 1000" in run.err) == (4, True)


@pytest.mark.parametrize(
    "raw",
    [b"\x50\x2a\x4d\x18\0\0\0\0" * 5000, zstd.compress(b"") * 5000, gzip.compress(b"") * 5000],
    ids=["skippable", "empty frames", "empty members"],
)
def test_streams_of_nothing_but_frames(raw: bytes) -> None:
    check = ContentCheck(Digest.of(b""))
    with pytest.raises(LimitExceededError, match="more pieces than the limit"):
        check.update(memoryview(raw))


def test_many_small_members_as_estargz_writes_them() -> None:
    files = [tar_bytes({f"f{n}": b"%d" % n})[:1024] for n in range(3000)]
    raw = b"".join(gzip.compress(one) for one in files)
    check = ContentCheck(Digest.of(b"".join(files)))
    check.update(memoryview(raw))
    check.finish()
