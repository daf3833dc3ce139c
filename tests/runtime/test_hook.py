"""`boltseal hook`: what a container's state says, what is printed, and runc with a hook of ours."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import BoltsealError
from boltseal.runtime.gate import started
from support.cli import boltseal, command
from support.containerd import runnable
from support.images import GZIP, Layout
from support.peers import missing, require
from support.registry import Registry, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRI, CRIO = "io.kubernetes.cri.", "io.kubernetes.cri-o."
PINNED = f"r.example/app@sha256:{'1' * 64}"

# what annotations say: the image, None for a pod's own container
ANNOTATED: dict[str, tuple[dict[str, str], str | None]] = {
    "containerd": ({f"{CRI}image-name": "r.example/app:v1"}, "r.example/app:v1"),
    "containerd's container": (
        {f"{CRI}container-type": "container", f"{CRI}image-name": "r.example/app:v1"},
        "r.example/app:v1",
    ),
    "containerd's sandbox": ({f"{CRI}container-type": "sandbox"}, None),
    "CRI-O": ({f"{CRIO}ImageName": "r.example/app:v1"}, "r.example/app:v1"),
    "CRI-O, pinned": (
        {f"{CRIO}ImageName": "r.example/app:v1", f"{CRIO}ImageRef": PINNED},
        PINNED,
    ),
    "CRI-O, by its identifier": (
        {f"{CRIO}ImageName": "r.example/app:v1", f"{CRIO}ImageRef": "1" * 64},
        "r.example/app:v1",
    ),
    "CRI-O's sandbox": ({f"{CRIO}ContainerType": "sandbox"}, None),
}
REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (b"", "is not valid JSON"),
    "noise": (bytes(range(256)), "is not UTF-8"),
    "a list": ([], "is not a JSON object"),
    "no identifier": ({"bundle": "/b"}, "has no id"),
    "no bundle": ({"id": "c"}, "no bundle"),
    "numbers": ({"id": 1, "bundle": 2}, "has no id"),
    "annotations are a list": ({"id": "c", "bundle": "/b", "annotations": [1]}, "no texts"),
    "annotations are numbers": ({"id": "c", "bundle": "/b", "annotations": {"a": 1}}, "no texts"),
    "no annotation": ({"id": "c", "bundle": "/b"}, "does not say which image"),
    "others' annotations": (
        {"id": "c", "bundle": "/b", "annotations": {"image": "r.example/app"}},
        "does not say which image",
    ),
    "a pod's author speaks for another runtime": (
        {
            "id": "c",
            "bundle": "/b",
            "annotations": {
                f"{CRI}container-type": "sandbox",
                f"{CRIO}ContainerType": "container",
                f"{CRIO}ImageName": "r.example/app:v1",
            },
        },
        "of two runtimes",
    ),
    "a name for another runtime": (
        {
            "id": "c",
            "bundle": "/b",
            "annotations": {f"{CRI}image-name": "r.example/plain", f"{CRIO}ImageName": "r/app"},
        },
        "of two runtimes",
    ),
    "two annotations": (
        b'{"id":"c","bundle":"/b","annotations":{"a":"1","a":"2"}}',
        "twice in one object",
    ),
    "a name without end": (
        {"id": "c", "bundle": "/b", "annotations": {f"{CRI}image-name": "a" * 2000}},
        "more than 1024 characters",
    ),
    "too large": (b" " * (started.MAX_STATE_BYTES + 1), "over the limit"),
    "too deep": (b'{"id":' * 100 + b"1" + b"}" * 100, "levels"),
}


def raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.mark.parametrize("case", ANNOTATED.values(), ids=ANNOTATED)
def test_the_image_of_a_container(case: tuple[dict[str, str], str | None]) -> None:
    annotations, image = case
    state = {"ociVersion": "1.0.2", "id": "c", "status": "creating", "pid": 1, "bundle": "/b"}
    assert started.parse(raw({**state, "annotations": annotations})).image == image


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_does_not_say_it_does_not_start(case: tuple[Any, str]) -> None:
    with pytest.raises(BoltsealError) as caught:
        started.parse(raw(case[0]))
    assert case[1] in caught.value.message


@given(st.binary(max_size=400) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "bundle", "annotations", f"{CRI}image-name", "x"]), inner, max_size=5
    ),
).map(raw))  # fmt: skip
def test_any_state_is_read_or_refused(state: bytes) -> None:
    try:
        found = started.parse(state)
    except BoltsealError:
        return
    assert found.image is None or found.image


def storage(folder: Path, record: Any, images: Any = ()) -> str:
    """Podman's storage with one container; its bundle."""
    bundle = folder / "overlay-containers" / "c1" / "userdata"
    bundle.mkdir(parents=True)
    (folder / "overlay-containers" / "containers.json").write_bytes(raw(record))
    (folder / "overlay-images").mkdir()
    (folder / "overlay-images" / "images.json").write_bytes(raw(images))
    return str(bundle)


def test_podmans_record_goes_before_annotations(tmp_path: Path) -> None:
    digests = [f"sha256:{number * 64}" for number in "123"]
    metadata = json.dumps({"image-name": "r.example/app:v1"})
    names = [f"manifest-{digests[1]}", "manifest", f"{digests[2]}", "signature-x"]
    bundle = storage(
        tmp_path,
        [{"id": "other"}, {"id": "c1", "image": "i1", "metadata": metadata}],
        [{"id": "i1", "digest": digests[0], "big-data-names": names}],
    )
    claimed = {f"{CRI}image-name": "r.example/plain", f"{CRI}container-type": "sandbox"}
    found = started.parse(raw({"id": "c1", "bundle": bundle, "annotations": claimed}))
    assert found.image == "r.example/app:v1"
    assert found.digests == (digests[0], digests[1])


@pytest.mark.parametrize(
    ("record", "images"),
    [
        (b"{", []),
        (b"[" * 1000, []),
        ([{"id": "c1", "metadata": "{"}], []),
        ([{"id": "c1", "metadata": '{"image-name": "a"}', "image": "i"}], b"["),
    ],
)
def test_a_record_that_is_broken_refuses(tmp_path: Path, record: Any, images: Any) -> None:
    bundle = storage(tmp_path, record, images)
    with pytest.raises(BoltsealError):
        started.parse(raw({"id": "c1", "bundle": bundle, "annotations": {f"{CRI}image-name": "p"}}))


@pytest.mark.parametrize(
    "record",
    [[], {}, [{"id": "c1"}], [{"id": "c1", "metadata": 1}], [{"id": "c1", "metadata": "{}"}]],
)
def test_a_record_that_says_nothing_leaves_the_annotations(tmp_path: Path, record: Any) -> None:
    bundle = storage(tmp_path, record)
    state = {"id": "c1", "bundle": bundle, "annotations": {f"{CRI}image-name": "r.example/app"}}
    assert started.parse(raw(state)).image == "r.example/app"


def test_the_printed_hook(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    done = boltseal("hook", "print-config", "crio", "--config", policy)
    assert "does not exist yet: until then every start is refused" in done.err
    hook = json.loads(done.out)["hook"]
    assert hook["args"] == ["boltseal", "hook", "check", "--config", str(policy)]
    assert hook["timeout"] == 10
    policy.write_text('keys = ["/k"]\nseconds = 20.5\n')
    policy.chmod(0o644)
    done = boltseal("hook", "print-config", "podman", "--config", policy, "--json")
    assert done.err == ""
    document = json.loads(json.loads(done.out)["text"])
    assert document["hook"]["timeout"] == 22
    assert (document["stages"], document["when"]) == (["createRuntime"], {"always": True})


def hook(*arguments: object, stdin: bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command("hook", *arguments), input=stdin, capture_output=True, check=False, timeout=60
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def test_a_specification_keeps_what_is_in_it_and_gets_the_hook_once(tmp_path: Path) -> None:
    other = {"path": "/usr/bin/other"}
    spec = {
        "ociVersion": "1.0.2",
        "process": {},
        "hooks": {"createRuntime": [other], "poststop": []},
    }
    config = ("--config", tmp_path / "p.toml")
    first = hook("print-config", "containerd", *config, stdin=raw(spec))
    again = hook("print-config", "containerd", *config, stdin=first.stdout.encode())
    assert again.stdout == first.stdout
    made = json.loads(first.stdout)
    assert made["hooks"]["createRuntime"][1:] == [other]
    assert made["hooks"]["poststop"] == []
    assert made["process"] == {}
    for bad in (b"", b"[]", raw({}), raw({**spec, "hooks": []})):
        done = hook("print-config", "containerd", *config, stdin=bad)
        assert done.returncode in (2, 4)
        assert done.stdout == ""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Registry]:
    """`app:v1` for a key."""
    folder = tmp_path_factory.mktemp("hook")
    layout = Layout(folder / "app")
    runnable(layout, (GZIP, GZIP), "v1")
    with running(folder / "registry") as found:
        to = found.reference("app:v1")
        done = boltseal("encrypt", "-q", layout.reference(), to, "-r", f"jwe:{keys}/p256.pub.pem")
        assert done.code == 0, done.err
        yield found


@pytest.fixture
def policy(tmp_path: Path, keys: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(f'keys = ["{keys}/p256.pem"]\n')
    path.chmod(0o644)
    return path


def test_check(registry: Registry, policy: Path, keys: Path) -> None:
    state = {
        "id": "c",
        "bundle": "/b",
        "annotations": {f"{CRI}image-name": f"{registry.host}/app:v1"},
    }
    done = hook("check", "--config", policy, stdin=raw(state))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    policy.write_text(f'keys = ["{keys}/other.pem"]\n')
    done = hook("check", "--config", policy, "--json", stdin=raw(state))
    assert done.returncode == 1
    assert json.loads(done.stdout)["accepted"] is False
    assert done.stderr.startswith("error: boltseal refuses to start c: no key of this host opens")
    assert re.search(r"; it is for jwe [\w-]{43}$", done.stderr.splitlines()[0])
    assert hook("check", "--config", policy, stdin=b"").returncode == 4
    assert hook("check", "--config", "/nowhere.toml", stdin=raw(state)).returncode == 1
    sandbox = {"id": "p", "bundle": "/b", "annotations": {f"{CRI}container-type": "sandbox"}}
    assert hook("check", "--config", policy, stdin=raw(sandbox)).returncode == 0


def test_runc_does_not_start_what_the_hook_refuses(
    tmp_path: Path, registry: Registry, policy: Path, keys: Path
) -> None:
    """Without any engine: a bundle whose configuration has the hook and CRI-O's annotation."""
    runc = require("runc")
    bundle = tmp_path / "bundle"
    done = boltseal("unpack", registry.reference("app:v1"), bundle, "-k", keys / "p256.pem", "-q")
    if done.code != 0:
        missing(f"this bundle cannot be made here: {done.err}")
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = ["/bin/busybox", "cat", "/secret"]
    config["process"]["terminal"] = False
    config.setdefault("annotations", {})[f"{CRIO}ImageName"] = f"{registry.host}/app:v1"
    spec = hook("print-config", "containerd", "--config", policy, stdin=raw(config)).stdout
    (bundle / "config.json").write_text(spec)

    def start(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [runc, "--root", tmp_path / "state", "run", "--bundle", bundle, name],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    first = start("c1")
    if first.returncode != 0 and "boltseal" not in first.stderr:
        missing(f"runc starts nothing here: {first.stderr}")
    assert (first.returncode, first.stdout) == (0, "what the layer hides\n"), first.stderr
    policy.write_text(f'keys = ["{keys}/other.pem"]\n')
    second = start("c2")
    assert second.returncode != 0
    assert second.stdout == ""
    assert "boltseal refuses to start c2: no key of this host opens" in second.stderr
