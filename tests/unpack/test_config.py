"""From an image's configuration to a runtime's, and users from the image's own files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.errors import BoltsealError, LimitExceededError, MalformedError, NotFoundError
from boltseal.runtime import imageconfig, users
from boltseal.runtime.bundle import Process, make
from boltseal.runtime.imageconfig import parse_image_config
from boltseal.runtime.users import User, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:An app:/home/app:/bin/sh
# comment:x:1:1:::
broken line
123:x:4000:4001::/digits:
strange:x:many:1::/:
"""
GROUP = "root:x:0:\napps:x:1001:\nextra:x:55:app,other\nmore:x:56:app\nodd:x:many:strange\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A tree with users in it, open."""
    (tmp_path / "rootfs" / "etc").mkdir(parents=True)
    (tmp_path / "rootfs" / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "rootfs" / "etc" / "group").write_text(GROUP)
    fd = os.open(tmp_path / "rootfs", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, (), "/root")),
        ("app", User(1000, 1001, (55, 56), "/home/app")),
        ("1000", User(1000, 1001, (55, 56), "/home/app")),
        ("app:extra", User(1000, 55, (), "/home/app")),
        ("app:77", User(1000, 77, (), "/home/app")),
        ("2000", User(2000, 0, (), "/")),
        ("2000:apps", User(2000, 1001, (), "/")),
        ("123", User(4000, 4001, (), "/digits")),  # a name comes before a number
        (":extra", User(0, 55, (), "/root")),
    ],
)
def test_users(root: int, text: str, expected: User) -> None:
    assert resolve(text, root) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nobody", NotFoundError),
        ("app:nogroup", NotFoundError),
        ("app:", MalformedError),
        ("strange", MalformedError),
        ("4294967295", NotFoundError),  # no number that a user can have
        ("-1", NotFoundError),
    ],
)
def test_users_that_are_not_there(root: int, text: str, error: type[BoltsealError]) -> None:
    with pytest.raises(error):
        resolve(text, root)


def test_users_are_never_those_of_the_host(tmp_path: Path, root: int) -> None:
    """The files may be links, and lead to the tree's own files alone."""
    etc = tmp_path / "rootfs" / "etc"
    (tmp_path / "passwd").write_text("spy:x:666:666::/:\n")
    (etc / "passwd").unlink()
    (etc / "passwd").symlink_to(f"{tmp_path}/passwd")
    with pytest.raises(NotFoundError):
        resolve("spy", root)
    (etc / "passwd").unlink()
    (etc / "passwd").symlink_to("../../passwd")
    with pytest.raises(MalformedError):
        resolve("spy", root)
    (etc / "passwd").unlink()
    (etc / "passwd").symlink_to("/etc/passwd.real")
    (etc / "passwd.real").write_text("inside:x:5:6::/:\n")
    assert resolve("inside", root) == User(5, 6, (), "/")
    (etc / "passwd").unlink()
    os.mkfifo(etc / "passwd")
    with pytest.raises(NotFoundError):
        resolve("inside", root)


def test_files_of_users_are_bounded(
    tmp_path: Path, root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "MAX_USERS_BYTES", 20)
    with pytest.raises(LimitExceededError, match="20 bytes"):
        resolve("app", root)


def config(document: Any) -> imageconfig.ImageConfig:
    return parse_image_config(json.dumps(document).encode())


def made(run: Any, root: int, process: Process | None = None, **more: Any) -> dict[str, Any]:
    rootless = more.pop("rootless", False)
    document = {"os": "linux", "architecture": "arm64", "config": run, **more}
    text, _ = make(config(document), root, process or Process(), rootless=rootless)
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_command(root: int) -> None:
    both = {"Entrypoint": ["/run", "-a"], "Cmd": ["b"]}
    assert made(both, root)["process"]["args"] == ["/run", "-a", "b"]
    other = made(both, root, Process(command=("c", "d")))
    assert other["process"]["args"] == ["/run", "-a", "c", "d"]
    for entrypoint, command, expected in (
        ("/x", None, ["/x"]),
        ("/x", ("c",), ["/x", "c"]),
        ("", ("c",), ["c"]),
        ("", None, ["/bin/sh"]),
    ):
        text, _ = make(
            config(both), root, Process(command=command, entrypoint=entrypoint), rootless=False
        )
        assert json.loads(text)["process"]["args"] == expected
    assert made({"Cmd": ["b"], "Entrypoint": None}, root)["process"]["args"] == ["b"]
    text, notes = make(config({}), root, Process(), rootless=False)
    assert json.loads(text)["process"]["args"] == ["/bin/sh"]
    assert notes == ["the image does not say what to run: the configuration has /bin/sh"]


def test_the_environment(root: int) -> None:
    process = Process(env=("A=3", "B="), terminal=True)
    found = made({"Env": ["A=1", "PATH=/opt", "HOME=/h"], "User": "app"}, root, process)
    assert found["process"]["env"] == ["A=3", "PATH=/opt", "HOME=/h", "B=", "TERM=xterm"]
    assert found["process"]["terminal"] is True
    assert "HOME=/home/app" in made({"User": "app"}, root)["process"]["env"]


def test_annotations_and_labels(root: int) -> None:
    """A label comes before what the image says elsewhere (conversion.md)."""
    run = {
        "Labels": {"a": "b", "org.opencontainers.image.author": "label"},
        "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    }
    more = {"author": "x", "variant": "v8", "os.version": "1", "os.features": ["f", "g"]}
    prefix = "org.opencontainers.image."
    assert made(run, root, **more)["annotations"] == {
        "a": "b",
        f"{prefix}os": "linux",
        f"{prefix}architecture": "arm64",
        f"{prefix}variant": "v8",
        f"{prefix}os.version": "1",
        f"{prefix}os.features": "f,g",
        f"{prefix}author": "label",
        f"{prefix}stopSignal": "SIGQUIT",
        f"{prefix}exposedPorts": "53/udp,80/tcp",
    }


def test_without_root(root: int) -> None:
    """One user, who is root inside and we outside; nothing that takes rights which we lack."""
    found = made({"User": "app"}, root, rootless=True)
    assert found["process"]["user"] == {"uid": 0, "gid": 0}
    assert found["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert {"type": "user"} in found["linux"]["namespaces"]
    assert all("gid=5" not in one.get("options", []) for one in found["mounts"])


@pytest.mark.parametrize(
    "document",
    [
        {"config": []},
        {"config": {"Env": "A=1"}},
        {"config": {"Env": [1]}},
        {"config": {"Cmd": ["a\0b"]}},
        {"config": {"User": 7}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Labels": ["a"]}},
        {"config": {"entrypoint": ["/spy"]}},
        {"config": {"WorkingDir": {}}},
        {"Config": {}},
        {"config": {"Volumes": [1]}},
        {"author": 1},
    ],
)
def test_configurations_that_are_refused(document: Any) -> None:
    with pytest.raises(MalformedError):
        config(document)


@pytest.mark.parametrize("place", ["data", "/data/../../etc", ""])
def test_volumes_that_are_refused(root: int, place: str) -> None:
    with pytest.raises(MalformedError):
        made({"Volumes": {place: {}}}, root)


def test_configurations_are_bounded() -> None:
    with pytest.raises(LimitExceededError, match="Env has 10001 members"):
        config({"config": {"Env": ["A=1"] * 10_001}})
