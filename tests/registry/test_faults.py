"""What goes wrong between us and the registry: survived, or reported in one line."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import layouts
from support.cli import Run, boltseal, command
from support.images import MANIFEST, TAR, Layout, add_manifest, tar_bytes
from support.proxy import Fault, Proxy, proxied
from support.registry import PASSWORD, USER, Registry, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.registry import Authority, TokenServer

BLOBS = r"/blobs/sha256:"
UPLOAD = r"/blobs/uploads/[0-9a-f-]+"
SHARES = (0.01, 0.5, 0.99)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boltseal._io.retry.BASE_SECONDS", 0.01)


@pytest.fixture
def proxy(plain: Registry) -> Iterator[Proxy]:
    with proxied(plain) as one:
        yield one


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Two layers of 3 MiB, which stream, and one that is small."""
    layout = Layout(tmp_path_factory.mktemp("source") / "plain")
    tars = [tar_bytes({f"f{n}": random.Random(n).randbytes(3 << 20)}) for n in range(2)]
    tars.append(tar_bytes({"small": b"small" * 100}))
    entry = add_manifest(layout, tars, [TAR] * 3)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    return layout


def name_of(request: pytest.FixtureRequest) -> str:
    return "f" + "".join(c for c in request.node.name.lower() if c.isalnum())[:100]


def encrypt(source: Layout, target: str, keys: Path, *more: str) -> Run:
    return boltseal("encrypt", source.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem", *more)


def decrypted(reference: str, folder: Path, keys: Path, source: Layout) -> None:
    run = boltseal("decrypt", reference, f"oci:{folder}:v1", "-k", keys / "p256.pem")
    assert run.code == 0, run.err
    layouts.check(folder)
    entry = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    assert entry["digest"] == source.root()["digest"]


def one_line(run: Run) -> None:
    lines = [line for line in run.err.splitlines() if not line.startswith("hint:")]
    assert len(lines) == 1, run.err
    assert lines[0].startswith("error: ")


# --- survived -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
def test_an_upload_is_cut(
    tmp_path: Path, keys: Path, proxy: Proxy, source: Layout, share: float, request: Any
) -> None:
    target = proxy.reference(name_of(request))
    proxy.faults = [Fault("PATCH", UPLOAD, cut_request=share, times=2)]
    run = encrypt(source, target, keys)
    assert run.code == 0, run.err
    assert proxy.faults[0].met >= 4, "two failed, two went well"
    decrypted(target, tmp_path / "o", keys, source)


@pytest.mark.parametrize("share", SHARES)
def test_a_download_is_cut(
    tmp_path: Path, keys: Path, proxy: Proxy, source: Layout, share: float, request: Any
) -> None:
    target = proxy.reference(name_of(request))
    assert encrypt(source, target, keys).code == 0
    layers = json.loads(boltseal("inspect", target, "--json").out)["manifests"][0]["layers"]
    large = "|".join(layer["digest"] for layer in layers[:2])
    proxy.seen.clear()
    proxy.faults = [Fault("GET", large, cut_response=share, times=3)]
    decrypted(target, tmp_path / "o", keys, source)
    resumed = [one for one in proxy.seen if one.status == 206]
    assert resumed or share == 0.01
    total = sum(one.sent for one in proxy.seen if "/blobs/" in one.path)
    assert total < 2 * 3 * (3 << 20), "not everything was sent twice"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/$"),
        ("POST", "/blobs/uploads/"),
        ("PATCH", UPLOAD),
        ("PUT", UPLOAD),
        ("HEAD", BLOBS),
        ("PUT", "/manifests/"),
    ],
)
def test_a_storm_while_pushing(
    tmp_path: Path,
    keys: Path,
    proxy: Proxy,
    source: Layout,
    status: int,
    method: str,
    path: str,
    request: Any,
) -> None:
    proxy.faults = [Fault(method, path, status=status, times=2)]
    target = proxy.reference(name_of(request))
    run = encrypt(source, target, keys)
    assert run.code == 0, run.err
    assert proxy.faults[0].met > 2
    decrypted(target, tmp_path / "o", keys, source)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_storm_while_pulling(
    tmp_path: Path, keys: Path, proxy: Proxy, source: Layout, status: int, request: Any
) -> None:
    target = proxy.reference(name_of(request))
    assert encrypt(source, target, keys).code == 0
    proxy.faults = [
        Fault("GET", "/manifests/", status=status, times=3),
        Fault("GET", BLOBS, status=status, times=5),
    ]
    decrypted(target, tmp_path / "o", keys, source)
    assert all(fault.met > fault.times for fault in proxy.faults)


def test_retry_after_is_followed(
    tmp_path: Path, proxy: Proxy, source: Layout, request: Any
) -> None:
    proxy.faults = [Fault("PUT", "/manifests/", status=429, headers={"Retry-After": "1"})]
    begun = time.monotonic()
    assert boltseal("copy", source.reference(), proxy.reference(name_of(request))).code == 0
    assert time.monotonic() - begun >= 1


def test_retry_after_a_day_is_not(proxy: Proxy, source: Layout, request: Any) -> None:
    proxy.faults = [Fault("PUT", "/manifests/", status=503, headers={"Retry-After": "86400"})]
    run = boltseal("copy", source.reference(), proxy.reference(name_of(request)))
    assert (run.code, "answered 503" in run.err) == (1, True)
    one_line(run)


def test_the_registry_is_killed_and_restarted_in_the_middle(
    tmp_path: Path, keys: Path, source: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltseal._io.retry.BASE_SECONDS", 0.1)
    with running(tmp_path / "registry") as registry, proxied(registry) as proxy:

        def restart() -> None:
            registry.stop()
            threading.Timer(0.5, registry.start).start()

        proxy.faults = [Fault("PATCH", UPLOAD, before=restart)]
        target = proxy.reference("app:v1")
        run = encrypt(source, target, keys)
        assert run.code == 0, run.err
        proxy.faults = [Fault("GET", BLOBS, cut_response=0.5, before=None)]
        decrypted(target, tmp_path / "o", keys, source)


@pytest.mark.slow
def test_a_stall_of_30_seconds(
    tmp_path: Path, keys: Path, proxy: Proxy, source: Layout, request: Any
) -> None:
    target = proxy.reference(name_of(request))
    proxy.faults = [Fault("PATCH", UPLOAD, stall_request=30), Fault("GET", BLOBS, stall=30)]
    assert encrypt(source, target, keys).code == 0
    decrypted(target, tmp_path / "o", keys, source)
    assert all(fault.met for fault in proxy.faults)


def test_a_stall_without_end(
    proxy: Proxy, source: Layout, keys: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    monkeypatch.setattr("boltseal.transports.registry.http.STALL_SECONDS", 0.3)
    target = proxy.reference(name_of(request))
    assert boltseal("copy", source.reference(), target).code == 0
    proxy.faults = [Fault("GET", "/manifests/", stall=5, times=99)]
    run = boltseal("inspect", target)
    assert (run.code, "nothing came for" in run.err) == (1, True)
    one_line(run)


def test_a_blob_that_is_too_large_for_one_request(
    tmp_path: Path,
    keys: Path,
    proxy: Proxy,
    source: Layout,
    monkeypatch: pytest.MonkeyPatch,
    request: Any,
) -> None:
    monkeypatch.setattr("boltseal.transports.registry.upload.PIECE", 1 << 20)
    proxy.faults = [Fault("PATCH", UPLOAD, status=413)]
    target = proxy.reference(name_of(request))
    run = encrypt(source, target, keys, "--jobs", "1")
    assert run.code == 0, run.err
    pieces = [one.received for one in proxy.seen if one.method == "PATCH" and one.status == 202]
    assert max(pieces) <= 1 << 20
    decrypted(target, tmp_path / "o", keys, source)


def test_a_token_that_ends_in_the_middle_of_a_push(
    tmp_path: Path,
    keys: Path,
    proxy: Proxy,
    source: Layout,
    authority: Authority,
    tokens: TokenServer,
    request: Any,
) -> None:
    """It is refused for a layer's bytes, then for a blob's name, then for the manifest."""
    wanted = {"WWW-Authenticate": f'Bearer realm="{tokens.url}",service="registry"'}
    proxy.faults = [
        Fault(method, path, status=401, headers=wanted, skip=skip)
        for method, path, skip in (
            ("GET", "/v2/$", 0),
            ("PATCH", UPLOAD, 1),
            ("PUT", UPLOAD, 1),
            ("PUT", "/manifests/", 0),
        )
    ]
    tokens.given.clear()
    target = proxy.reference(name_of(request))
    access = ("--creds", f"{USER}:{PASSWORD}", "--cert-dir", str(authority.trusted()))
    run = encrypt(source, target, keys, *access)
    assert run.code == 0, run.err
    assert all(fault.met > fault.skip for fault in proxy.faults)
    # one at first, and a new one for each refusal; two layers that are refused at once share one
    assert len(tokens.given) >= 3
    proxy.faults = []
    decrypted(target, tmp_path / "o", keys, source)


def test_an_upload_that_is_answered_too_early(proxy: Proxy, source: Layout, request: Any) -> None:
    """The registry says thank you before it has anything, and hangs up: nobody waits for ever."""
    proxy.faults = [
        Fault("PATCH", UPLOAD, early=True, status=202, headers={"Location": "/x"}, times=99)
    ]
    run = boltseal("copy", source.reference(), proxy.reference(name_of(request)), "--jobs", "1")
    assert run.code == 1
    one_line(run)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_session_that_the_registry_forgot(
    tmp_path: Path, keys: Path, proxy: Proxy, source: Layout, method: str, request: Any
) -> None:
    proxy.faults = [Fault(method, UPLOAD, status=404, times=2)]
    target = proxy.reference(name_of(request))
    run = encrypt(source, target, keys)
    assert run.code == 0, run.err
    decrypted(target, tmp_path / "o", keys, source)


def test_an_answer_that_was_lost(proxy: Proxy, source: Layout, request: Any) -> None:
    """The registry has named the blob, and we did not hear of it."""
    proxy.faults = [
        Fault("PUT", UPLOAD, cut_response=0),
        Fault("PUT", "/manifests/", cut_response=0),
    ]
    run = boltseal("copy", source.reference(), proxy.reference(name_of(request)))
    assert run.code == 0, run.err


# --- reported -----------------------------------------------------------------------------------


def flipped(piece: bytes) -> bytes:
    return bytes([piece[0] ^ 1]) + piece[1:]


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ({"change": flipped}, 4, "digest"),
        ({"length": lambda n: n + 1}, 4, "are due by its descriptor"),
        ({"length": lambda n: n - 1}, 4, "are due by its descriptor"),
        ({"endless": True}, 4, "longer than the"),
        ({"status": 404}, 1, "is not in"),
        ({"status": 403}, 1, "denies blob"),
        ({"status": 302, "headers": {"Location": "ftp://x/y"}}, 1, "no HTTP URL"),
        ({"status": 302, "headers": {"Location": "/v2/"}}, 4, "are due by its descriptor"),
        ({"status": 206, "headers": {"Content-Range": "bytes 5-9/10"}}, 4, "another range"),
        ({"status": 500}, 1, "answered 500"),
    ],
)
def test_blobs_that_are_not_right(
    tmp_path: Path,
    keys: Path,
    proxy: Proxy,
    source: Layout,
    fault: dict[str, Any],
    code: int,
    message: str,
    request: Any,
) -> None:
    target = proxy.reference(name_of(request))
    assert encrypt(source, target, keys).code == 0
    proxy.faults = [Fault("GET", BLOBS, times=10_000, skip=1, **fault)]
    run = boltseal("decrypt", target, f"oci:{tmp_path}/o:v1", "-k", keys / "p256.pem")
    assert (run.code, message in run.err) == (code, True), run.err
    one_line(run)
    assert not (tmp_path / "o").exists()


def test_manifests_that_are_not_right(
    tmp_path: Path, proxy: Proxy, source: Layout, request: Any
) -> None:
    target = proxy.reference(name_of(request))
    assert boltseal("copy", source.reference(), target).code == 0
    digest = source.root()["digest"]
    for fault, message in (
        (Fault("GET", "/manifests/", times=99, change=flipped), "and called it"),
        (Fault("GET", "/manifests/", times=99, endless=True), "over the limit of 4194304"),
    ):
        proxy.faults = [fault]
        run = boltseal("inspect", f"{target}:latest")
        assert (run.code, message in run.err) == (4, True), run.err
    proxy.faults = [Fault("GET", "/manifests/", times=99, change=flipped)]
    run = boltseal("inspect", f"{target}@{digest}")
    assert (run.code, "the registry sent sha256:" in run.err) == (4, True)


def test_nothing_else_is_tried_again(proxy: Proxy, source: Layout, request: Any) -> None:
    for status in (400, 403, 405, 416, 501):
        proxy.seen.clear()
        proxy.faults = [Fault("PUT", "/manifests/", status=status, times=99)]
        run = boltseal("copy", source.reference(), proxy.reference(name_of(request)))
        assert run.code == 1
        one_line(run)
        assert sum(one.method == "PUT" and "/manifests/" in one.path for one in proxy.seen) == 1


def test_a_wrong_blob_is_never_named(
    tmp_path: Path, keys: Path, proxy: Proxy, source: Layout, request: Any
) -> None:
    """The source turns out to be wrong with its last byte: no upload is finished for it."""
    import shutil

    shutil.copytree(source.path, tmp_path / "bad")
    layer = source.json(source.root()["digest"])["layers"][0]["digest"]
    path = tmp_path / "bad" / "blobs" / "sha256" / layer.removeprefix("sha256:")
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    target = proxy.reference(name_of(request))
    run = boltseal(
        "encrypt", f"oci:{tmp_path}/bad:v1", target, "-r", f"jwe:{keys}/p256.pub.pem", "--jobs", "1"
    )
    assert run.code == 4
    assert not [one for one in proxy.seen if one.method == "PUT"]
    assert [one for one in proxy.seen if one.method == "DELETE"], "the session was given back"


def test_ctrl_c_in_the_middle_of_a_push(proxy: Proxy, source: Layout, request: Any) -> None:
    target = proxy.reference(name_of(request))
    proxy.faults = [Fault("PATCH", UPLOAD, stall_request=60, times=9)]
    process = subprocess.Popen(
        command("copy", source.reference(), target), stderr=subprocess.PIPE, text=True
    )
    while not any(one.method == "PATCH" for one in proxy.seen):
        time.sleep(0.01)
    process.send_signal(2)
    begun = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert time.monotonic() - begun < 20
