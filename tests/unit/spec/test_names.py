"""Digests, platforms, references, media types, descriptors and selections."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import IntegrityError, LimitExceededError, MalformedError, UsageError
from boltseal.image.select import parse_selection, selected
from boltseal.spec import mediatypes
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.spec.platform import Platform
from boltseal.spec.reference import Reference, parse_path_reference

EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()
LAYER = "application/vnd.oci.image.layer.v1.tar"


@given(st.binary(), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_a_digest_is_read_back(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.hex == hashlib.new(algorithm, data).hexdigest()
    hasher = digest.hasher()
    hasher.update(data)
    assert Digest.finish(hasher) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:../../x",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "٣" * 64,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha1:" + "a" * 40,
        "SHA256:" + "a" * 64,
        "sha256+b64:" + "a" * 64,
        "sha256:/" + "a" * 63,
        None,
        7,
        ["sha256"],
    ],
)
def test_anything_else_is_no_digest(text: Any) -> None:
    with pytest.raises(MalformedError):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/x86_64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/aarch64", True),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm/v6", "linux/arm", True),
        ("Linux/AMD64", "linux/amd64", True),
        ("windows/amd64", "linux/amd64", False),
        ("linux/arm64", "linux/amd64", False),
    ],
)
def test_platforms(text: str, other: str, same: bool) -> None:
    assert Platform.parse(text).matches(Platform.parse(other)) is same


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "a/\x1b"]
)
def test_no_platform(text: str) -> None:
    with pytest.raises(UsageError):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:x", Reference("oci", "x")),
        ("oci:/a/b:v1", Reference("oci", "/a/b", "v1")),
        ("oci:x:ghcr.io/a/b:1.2", Reference("oci", "x", "ghcr.io/a/b:1.2")),
        (f"oci:x@{EMPTY}", Reference("oci", "x", None, Digest.parse(EMPTY))),
        (f"oci:x:t@{EMPTY}", Reference("oci", "x", "t", Digest.parse(EMPTY))),
        ("oci-archive:a@b.tar:v1", Reference("oci-archive", "a@b.tar", "v1")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert parse_path_reference(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "oci",
        "oci:",
        "oci::v1",
        "oci:x:",
        "oci:x:a b",
        "oci:x:" + "a" * 513,
        "oci:x\0:v",
        "oci:x@sha256:short",
        "OCI:x",
        "../x:y",
    ],
)
def test_no_reference(text: str) -> None:
    with pytest.raises(UsageError):
        parse_path_reference(text)


def test_the_media_type_table() -> None:
    docker = mediatypes.layer_type("application/vnd.docker.image.rootfs.diff.tar.gzip")
    assert docker is not None
    assert docker.encrypted_type == f"{LAYER}+gzip+encrypted"
    read_only = mediatypes.layer_type("application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted")
    assert read_only is not None
    assert read_only.encrypted
    assert read_only.plain == f"{LAYER}+gzip"
    assert mediatypes.layer_type("application/json") is None
    assert mediatypes.as_oci(mediatypes.DOCKER_LIST) == mediatypes.OCI_INDEX
    assert mediatypes.as_oci("application/json") == "application/json"


GOOD = {"mediaType": LAYER, "digest": EMPTY, "size": 0}


def test_a_descriptor() -> None:
    found = Descriptor.from_json({**GOOD, "data": "", "annotations": {"a": "b"}, "x": 1}, "it")
    assert (found.media_type, str(found.digest), found.size, found.data) == (LAYER, EMPTY, 0, b"")
    assert dict(found.annotations) == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mediaType": None}, MalformedError),
        ({"mediaType": "nonsense"}, MalformedError),
        ({"mediaType": "a/b\x1b[2J"}, MalformedError),
        ({"digest": "sha256:../x"}, MalformedError),
        ({"size": -1}, MalformedError),
        ({"size": 1.0}, MalformedError),
        ({"size": True}, MalformedError),
        ({"size": "1"}, MalformedError),
        ({"size": 1 << 41}, LimitExceededError),
        ({"annotations": []}, MalformedError),
        ({"annotations": {"a": 1}}, MalformedError),
        ({"annotations": {str(n): "" for n in range(513)}}, LimitExceededError),
        ({"annotations": {"a": "x" * (512 * 1024 + 1)}}, LimitExceededError),
        ({"urls": "x"}, MalformedError),
        ({"urls": [1]}, MalformedError),
        ({"platform": []}, MalformedError),
        ({"platform": {"os": 1}}, MalformedError),
        ({"data": 1}, MalformedError),
        ({"data": "!"}, MalformedError),
        ({"data": "YQ=="}, IntegrityError),
    ],
)
def test_a_descriptor_that_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="it"):
        Descriptor.from_json({**GOOD, **change}, "it")


@pytest.mark.parametrize(
    ("texts", "count", "chosen"),
    [
        ([], 3, {0, 1, 2}),
        (["0"], 3, {0}),
        (["-1"], 3, {2}),
        (["0", "-1"], 3, {0, 2}),
        (["0,2"], 3, {0, 2}),
        (["0..1"], 3, {0, 1}),
        (["1.."], 3, {1, 2}),
        (["..1"], 3, {0, 1}),
        (["-2.."], 3, {1, 2}),
        (["..-2"], 3, {0, 1}),
        (["1-2"], 3, {1, 2}),
    ],
)
def test_selections(texts: list[str], count: int, chosen: set[int]) -> None:
    assert selected(parse_selection(texts), count) == chosen


@pytest.mark.parametrize("text", ["3", "-4", "2..1", "", "x", "1..2..3", "1.5", "--1", "0x1", "٣"])
def test_selections_that_select_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        selected(parse_selection([text]), 3)
