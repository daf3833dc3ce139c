"""The requests of the OCI Distribution Specification 1.1 that a client makes, seen at the proxy.

docs/distribution.md lists which section each test stands for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal import RegistryOptions
from boltseal.errors import NotFoundError, RegistryError
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.transports.registry import manifests
from boltseal.transports.registry.client import Repository, connect
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.routes import Route
from support.cli import boltseal
from support.images import (
    MANIFEST,
    TAR,
    Layout,
    add_manifest,
    compact,
    simple_image,
    tar_bytes,
)
from support.proxy import Fault, Proxy, proxied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.registry import Registry

DOC = Path(__file__).parents[2] / "docs" / "distribution.md"


@pytest.fixture
def proxy(plain: Registry) -> Iterator[Proxy]:
    with proxied(plain) as one:
        yield one


@pytest.fixture
def repository(proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[Repository]:
    http = HttpClient(RegistryOptions())
    name = re.sub(r"[^a-z]", "", request.node.name)
    yield connect(http, RegistryOptions(), Route(proxy.host, f"dist/{name}"), "pull,push,delete")
    http.close()


def requests(proxy: Proxy) -> list[tuple[str, int]]:
    """Method and kind of path, with the status."""
    kinds = []
    for one in proxy.seen:
        path = re.sub(r"sha256:[0-9a-f]+", "DIGEST", one.path.partition("?")[0])
        path = re.sub(r"uploads/[0-9a-f-]{36}", "uploads/SESSION", path)
        path = re.sub(r"/v2/dist/[a-z]+", "", path)
        kinds.append((f"{one.method} {path}", one.status))
    return kinds


def push(proxy: Proxy, repository: Repository, source: Layout, tag: str = "v1") -> str:
    target = f"docker://{proxy.host}/{repository.name}:{tag}"
    proxy.seen.clear()
    done = boltseal("copy", source.reference(), target, "--jobs", "1")
    assert done.code == 0, done.err
    return target


def test_support_is_determined(repository: Repository, proxy: Proxy) -> None:
    assert ("GET /v2/", 200) in requests(proxy)


def test_pushing_blobs_and_manifests(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    layout = Layout(tmp_path / "src")
    entry = add_manifest(layout, [tar_bytes({"big": bytes(400_000)})], [TAR])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    push(proxy, repository, layout)
    assert requests(proxy)[1:] == [
        ("HEAD /blobs/DIGEST", 404),  # "Checking if content exists in the registry"
        ("POST /blobs/uploads/", 202),  # the layer: "Pushing a blob in chunks"
        ("PATCH /blobs/uploads/SESSION", 202),
        ("PUT /blobs/uploads/SESSION", 201),
        ("HEAD /blobs/DIGEST", 404),
        ("POST /blobs/uploads/", 202),  # the config: "POST then PUT"
        ("PUT /blobs/uploads/SESSION", 201),
        ("PUT /manifests/v1", 201),  # "Pushing Manifests"
    ]


def test_pulling(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    target = push(proxy, repository, simple_image(tmp_path / "src", (TAR,)))
    proxy.seen.clear()
    assert boltseal("copy", target, f"oci:{tmp_path}/o:v1").code == 0
    seen = requests(proxy)
    assert ("GET /manifests/v1", 200) in seen
    assert ("GET /blobs/DIGEST", 200) in seen


def test_pulling_by_digest(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    source = simple_image(tmp_path / "src", (TAR,))
    target = push(proxy, repository, source)
    proxy.seen.clear()
    pinned = f"{target.removesuffix(':v1')}@{source.root()['digest']}"
    assert boltseal("copy", pinned, f"oci:{tmp_path}/o:v1").code == 0
    assert ("GET /manifests/DIGEST", 200) in requests(proxy)


def test_ranges(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    layout = Layout(tmp_path / "src")
    entry = add_manifest(layout, [tar_bytes({"big": bytes(4_000_000)})], [TAR])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    target = push(proxy, repository, layout)
    layer = layout.json(entry["digest"])["layers"][0]["digest"]
    proxy.seen.clear()
    proxy.faults = [Fault("GET", layer, cut_response=0.7)]
    assert boltseal("copy", target, f"oci:{tmp_path}/o:v1").code == 0
    assert ("GET /blobs/DIGEST", 206) in requests(proxy)


def test_cancelling(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    layout = Layout(tmp_path / "src")
    entry = add_manifest(layout, [tar_bytes({"big": bytes(400_000)})], [TAR])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    path = layout.blob_path(layout.json(entry["digest"])["layers"][0]["digest"])
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    target = f"docker://{proxy.host}/{repository.name}:v1"
    assert boltseal("copy", layout.reference(), target).code == 4
    assert ("DELETE /blobs/uploads/SESSION", 204) in requests(proxy)


def test_listing_tags(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    source = simple_image(tmp_path / "src", (TAR,))
    for tag in ("b", "a", "c"):
        push(proxy, repository, source, tag)
    assert sorted(manifests.tags(repository)) == ["a", "b", "c"]
    done = boltseal("ls", f"docker://{proxy.host}/{repository.name}")
    assert sorted(done.out.split()) == ["a", "b", "c"]


def test_listing_tags_page_by_page(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    """Distribution 2.8 sends every tag at once, so the proxy adds what makes it a page."""
    push(proxy, repository, simple_image(tmp_path / "src", (TAR,)))
    link = f'</v2/{repository.name}/tags/list?n=1000&last=v1>; rel="next"'
    proxy.faults = [Fault("GET", "/tags/list", headers={"Link": link}, times=2)]
    assert list(manifests.tags(repository)) == ["v1"] * 3
    elsewhere = '<http://127.0.0.9/v2/tags/list>; rel="next"'
    proxy.faults = [Fault("GET", "/tags/list", headers={"Link": elsewhere})]
    with pytest.raises(RegistryError, match="on another host"):
        list(manifests.tags(repository))


def test_listing_referrers_by_the_tag_scheme(
    tmp_path: Path, repository: Repository, proxy: Proxy
) -> None:
    """Distribution 2.8 has no referrers API, so the fallback is what is seen."""
    subject = Digest.of(b"subject")
    push(proxy, repository, simple_image(tmp_path / "src", (TAR,)))
    assert manifests.referrers(repository, subject) == ([], False)
    target = push(proxy, repository, simple_image(tmp_path / "two", (TAR,)), "two")
    digest = boltseal("digest", target).out.strip()
    found = manifests.get(repository, "two")
    descriptor = Descriptor(MANIFEST, found.digest, len(found.raw))
    for _ in range(2):
        manifests.list_referrer(repository, found.raw, descriptor, subject)
    [listed], api = manifests.referrers(repository, subject)
    assert (str(listed.digest), api) == (digest, False)


def test_listing_referrers_by_the_api(
    tmp_path: Path, repository: Repository, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that has it answers with an index, for an unknown subject too."""
    empty = Layout(tmp_path / "empty")
    digest, _ = empty.blob(compact({"schemaVersion": 2, "manifests": []}))
    source = simple_image(tmp_path / "src", (TAR,))
    push(proxy, repository, source)
    manifests.put(repository, "list", empty.read(digest), "application/vnd.oci.image.index.v1+json")
    proxy.faults = [
        Fault(
            "GET", "/referrers/", status=307, headers={"Location": repository.url("manifests/list")}
        )
    ]
    assert manifests.referrers(repository, Digest.of(b"x")) == ([], True)


def test_deleting_manifests(tmp_path: Path, repository: Repository, proxy: Proxy) -> None:
    source = simple_image(tmp_path / "src", (TAR,))
    push(proxy, repository, source)
    digest = manifests.head(repository, "v1")
    assert str(digest) == source.root()["digest"]
    assert digest is not None
    assert manifests.delete(repository, digest)
    assert not manifests.delete(repository, digest)
    assert ("DELETE /manifests/DIGEST", 202) in requests(proxy)


def test_errors_have_the_registrys_words(repository: Repository) -> None:
    with pytest.raises(NotFoundError, match="manifest nothing is not in"):
        manifests.get(repository, "nothing")
    missing = {"mediaType": "a/b", "digest": str(Digest.of(b"{}")), "size": 2}
    raw = compact(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": missing, "layers": [missing]}
    )
    with pytest.raises(RegistryError, match="answered 4") as refused:
        manifests.put(repository, "v1", raw, MANIFEST)
    assert refused.value.code == "MANIFEST_BLOB_UNKNOWN"


def test_every_test_is_in_the_documents_table() -> None:
    text = DOC.read_text()
    names = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    names.discard("test_every_test_is_in_the_documents_table")
    assert {name for name in names if f"`{name}`" not in text} == set()
    assert {name for name in re.findall(r"`(test_\w+)`", text) if name not in names} <= {
        "test_blobs_are_mounted_from_another_repository",
        "test_a_blob_that_is_too_large_for_one_request",
        "test_credentials_stay_with_the_registry",
        "test_retry_after_is_followed",
        "test_a_claim_comes_and_goes",
    }
