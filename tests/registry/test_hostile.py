"""Registries that want credentials that are not theirs, our time, or our memory."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.errors import RegistryError
from boltseal.transports.registry.http import Origin
from support.cli import Run, boltseal
from support.evil import Evil, asking, evil, text
from support.images import (
    GZIP,
    MANIFEST,
    TAR,
    Layout,
    add_manifest,
    compact,
    sha256,
    simple_image,
    tar_bytes,
)
from support.proxy import Fault, proxied
from support.registry import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.registry import Authority, Registry

CREDS = ("--creds", "alice:hunter2")
BLOBS = "GET /v2/a/b/blobs/"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boltseal._io.retry.BASE_SECONDS", 0.01)


@pytest.fixture
def one() -> Iterator[Evil]:
    with evil() as registry:
        yield registry


@pytest.fixture
def other() -> Iterator[Evil]:
    with evil() as registry:
        yield registry


def pull(registry: Evil, tmp_path: Path, *more: object) -> Run:
    run = boltseal("copy", registry.reference(), f"oci:{tmp_path}/o:v1", *more)
    assert "hunter2" not in run.err + run.out
    if run.code:
        assert not (tmp_path / "o").exists()
        errors = [line for line in run.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
    return run


def redirect(to: str) -> Any:
    return lambda handler: (307, {"Location": to}, b"")


def test_a_good_one(tmp_path: Path, one: Evil) -> None:
    assert pull(one, tmp_path).code == 0


def test_a_stranger_behind_a_redirect_gets_no_credentials(
    tmp_path: Path, one: Evil, other: Evil
) -> None:
    one.routes[BLOBS] = redirect(f"http://{other.host}/stolen")
    other.routes["/stolen"] = asking(f'Bearer realm="http://{other.host}/steal",service="x"')
    run = pull(one, tmp_path, *CREDS)
    assert run.code == 1
    assert other.seen
    assert not other.authorized()
    assert not [path for _, path, _ in other.seen if "steal?" in path]


def test_credentials_stay_with_the_registry(
    tmp_path: Path, basic: Registry, plain: Registry, authority: Any
) -> None:
    """A redirect to another host is followed without them."""
    source = simple_image(tmp_path / "src")
    assert boltseal("copy", source.reference(), plain.reference("elsewhere:v1")).code == 0
    layer = source.json(source.root()["digest"])["layers"][0]["digest"]
    with proxied(plain) as other, proxied(plain) as first:
        first.faults = [
            Fault("GET", "/v2/$", status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
            Fault(
                "GET",
                r"/blobs/sha256:",
                status=307,
                times=99,
                headers={"Location": f"http://{other.host}/v2/elsewhere/blobs/{layer}?token=s3"},
            ),
        ]
        run = boltseal(
            "copy",
            f"docker://{first.host}/elsewhere:v1",
            f"oci:{tmp_path}/o:v1",
            "--creds",
            f"{USER}:{PASSWORD}",
        )
        assert run.code in (1, 4), "the other blobs are not there"
        assert any(one.authorized for one in first.seen)
        assert other.seen
        assert not any(one.authorized for one in other.seen)
        assert "s3" not in run.err


@pytest.mark.parametrize("mark", ["\\@", "%5c@", "\t@", " @", "user@"])
def test_hosts_that_two_parsers_read_in_two_ways(
    tmp_path: Path, one: Evil, other: Evil, mark: str
) -> None:
    one.routes["GET /v2/$"] = asking('Basic realm="x"')
    one.routes[BLOBS] = redirect(f"http://{other.host}{mark}{one.host}/x")
    pull(one, tmp_path, *CREDS)
    assert not other.authorized()


@pytest.mark.parametrize(
    "url",
    [
        "http://evil\\@good/",
        "http://user:password@good/",
        "http://good\n/",
        "http:// good/",
        "http://[evil/",
        "http://good:99999/",
        "//good/",
        "ftp://good/",
        "http://",
        "",
        "http://gööd/",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(RegistryError):
        Origin.of(url)


def test_urls() -> None:
    assert Origin.of("https://h.example/x?y#z") == Origin("https", "h.example", 443)
    assert Origin.of("http://[::1]:5000/v2/") == Origin("http", "::1", 5000)


def test_credentials_of_the_command_line_are_not_for_mirrors(
    tmp_path: Path, one: Evil, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'[[registry]]\nprefix = "primary.invalid"\n[[registry.mirror]]\nlocation = "{one.host}"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    one.routes["/v2/"] = asking('Basic realm="x"')
    run = boltseal("digest", "docker://primary.invalid/a/b:t", *CREDS)
    assert run.code == 1
    assert one.seen
    assert not one.authorized()


def test_an_upload_does_not_leave_tls(
    tmp_path: Path, basic: Registry, authority: Authority, one: Evil, monkeypatch: Any
) -> None:
    from boltseal.transports.registry import upload
    from support.registry import PASSWORD, USER

    monkeypatch.setattr(
        upload.RegistryUploads, "location", lambda self, headers, url: f"http://{one.host}/up"
    )
    source = simple_image(tmp_path / "src")
    arguments = ("--creds", f"{USER}:{PASSWORD}", "--cert-dir", authority.trusted())
    run = boltseal("copy", source.reference(), basic.reference("tls:up"), *arguments)
    assert (run.code, "to a place without TLS" in run.err) == (1, True)
    assert not one.seen


@pytest.mark.parametrize("value", ["999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_being_asked_to_wait_for_years(tmp_path: Path, one: Evil, value: str) -> None:
    for part in (BLOBS, "GET /v2/a/b/manifests/"):
        one.routes = {part: lambda handler: (503, {"Retry-After": value}, b"")}
        run = pull(one, tmp_path)
        assert (run.code, "answered 503" in run.err) == (1, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "http://[evil/"},
        {"Location": "/up", "OCI-Chunk-Min-Length": "²"},
        {"Location": "/up", "Range": "0-²"},
        {"Location": "/up", "Range": "0-" + "9" * 5000},
        {},
    ],
)
def test_headers_that_are_no_numbers_or_places(
    tmp_path: Path, one: Evil, headers: dict[str, str]
) -> None:
    layout = Layout(tmp_path / "src")
    entry = add_manifest(layout, [tar_bytes({"f": bytes(400_000)})], [TAR])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    one.routes = {
        "HEAD ": lambda handler: (404, {}, b""),
        "POST ": lambda handler: (202, encoded, b""),
        "PATCH ": lambda handler: (202, encoded, b""),
        "PUT ": lambda handler: (201, {}, b""),
    }
    run = boltseal("copy", layout.reference(), one.reference())
    assert run.code in (0, 1)
    assert (run.code == 0) == ("Location" in headers and "[" not in headers["Location"])


def test_a_redirect_to_tls_that_is_none(tmp_path: Path, one: Evil, other: Evil) -> None:
    one.routes[BLOBS] = redirect(f"https://{other.host}/x")
    run = pull(one, tmp_path)
    assert (run.code, "does not speak TLS" in run.err) == (1, True)


def test_redirects_without_end(tmp_path: Path, one: Evil) -> None:
    one.routes[BLOBS] = lambda handler: (302, {"Location": handler.path}, b"")
    run = pull(one, tmp_path)
    assert (run.code, "more often than the limit" in run.err) == (1, True)


def test_tags_without_end(one: Evil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boltseal.transports.registry.manifests._MAX_TAGS", 2500)
    link = {"Link": '</v2/a/b/tags/list?n=1000>; rel="next"'}
    one.routes["/tags/list"] = lambda handler: (200, link, text({"tags": ["t"] * 1000}))
    run = boltseal("tags", f"docker://{one.host}/a/b")
    assert (run.code, "limit of 2500 tags" in run.err) == (4, True)


def test_a_token_server_that_is_always_busy(tmp_path: Path, one: Evil) -> None:
    one.routes = {
        "GET /token": lambda handler: (503, {"Retry-After": "0"}, b""),
        "GET /v2/": asking(f'Bearer realm="http://{one.host}/token",service="x"'),
    }
    run = pull(one, tmp_path, *CREDS)
    assert run.code == 1
    assert sum("/token" in path for _, path, _ in one.seen) <= 8


def test_the_rest_of_an_answer_is_not_the_next_one(one: Evil) -> None:
    """A long answer that nobody reads to its end does not stay in the connection."""
    smuggled = b"x" * 9000 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    one.routes["GET /v2/a/b/manifests/"] = lambda handler: (404, {}, smuggled)
    for _ in range(3):
        run = boltseal("digest", one.reference())
        assert (run.code, "is not in" in run.err) == (1, True)


@pytest.mark.parametrize("answer", [b"{}", b'{"token":"a\\nb"}', b'{"token":5}', b"x", b"[1]"])
def test_tokens_that_are_none(tmp_path: Path, one: Evil, answer: bytes) -> None:
    one.routes = {
        "GET /token": lambda handler: (200, {}, answer),
        "GET /v2/": asking(f'Bearer realm="http://{one.host}/token"'),
    }
    run = pull(one, tmp_path, *CREDS)
    assert (run.code, "token server" in run.err) == (1, True)


def test_a_registry_token_that_is_none(tmp_path: Path, one: Evil) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(text({"auths": {one.host: {"registrytoken": "s3cret\nX: y"}}}))
    one.routes["GET /v2/"] = asking('Bearer realm="http://127.0.0.1/"')
    run = pull(one, tmp_path, "--authfile", path)
    assert (run.code, "is not valid" in run.err) == (1, True)
    assert "s3cret" not in run.err


def test_a_manifest_that_is_no_text(one: Evil) -> None:
    one.manifest = b"\xff\xfe{}"
    run = boltseal("manifest", one.reference())
    assert run.code == 4


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_one_blob_in_many_places_of_an_archive(tmp_path: Path, one: Evil, jobs: str) -> None:
    layers = [
        {"mediaType": media_type, "digest": sha256(one.layer), "size": len(one.layer)}
        for media_type in (TAR, GZIP, TAR)
    ]
    config = compact(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [sha256(one.layer)] * 3},
        }
    )
    one.blobs[sha256(config)] = config
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config)}
    one.manifest = compact(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {**described, "digest": sha256(config)},
            "layers": layers,
        }
    )
    target = f"oci-archive:{tmp_path}/a.tar:v1"
    assert boltseal("copy", one.reference(), target, "--jobs", jobs).code == 0
    assert boltseal("copy", target, f"oci:{tmp_path}/o:v1").code == 0


def test_layers_that_are_one_when_they_are_opened(tmp_path: Path, keys: Path) -> None:
    """Encrypted apart, they are two blobs; opened, one, which an archive holds once."""
    tar = tar_bytes({"f": b"y" * 70_000})
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    sealed = []
    for name in ("a", "b"):
        layout = Layout(tmp_path / name)
        entry = add_manifest(layout, [tar], [TAR])
        layout.tag(MANIFEST, entry["digest"], entry["size"])
        run = boltseal("encrypt", layout.reference(), f"oci:{tmp_path}/sealed:{name}", *who)
        assert run.code == 0
        view = Layout.__new__(Layout)
        view.path = tmp_path / "sealed"
        sealed.append(view.json(view.root(name)["digest"])["layers"][0])
    entry = add_manifest(layout, [tar, tar], [TAR, TAR])
    manifest = layout.json(entry["digest"])
    both = Layout(tmp_path / "both")
    manifest["layers"] = sealed
    for descriptor, place in ((manifest["config"], layout), *((one, view) for one in sealed)):
        both.blob(place.read(descriptor["digest"]))
    both.tag(MANIFEST, *both.blob(compact(manifest)))
    target = f"oci-archive:{tmp_path}/a.tar:v1"
    run = boltseal("decrypt", both.reference(), target, "-k", keys / "p256.pem")
    assert run.code == 0, run.err
    assert boltseal("copy", target, f"oci:{tmp_path}/o:v1").code == 0


def test_logins_at_the_same_time(tmp_path: Path) -> None:
    """Each adds its own to the file, and none is lost."""
    code = (
        "import sys; from boltseal import RegistryOptions\n"
        "from boltseal.transports.registry import credentials as c\n"
        "for n in range(5):\n"
        "    c.store(RegistryOptions(auth_file=sys.argv[1]), f'{sys.argv[2]}{n}.example',"
        " c.Credentials('u', 'p'))\n"
    )
    path = tmp_path / "auth.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    import json

    assert len(json.loads(path.read_text())["auths"]) == 20
