"""`encrypt --scrub` takes out of the config what an image does not need to run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal
from support.configs import config_of, image
from support.images import GZIP, Layout

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "created": "2026-01-02T03:04:05.678901234Z",
    "author": "somebody <somebody@example.org>",
    "docker_version": "20.10.12",
    "container": "0a" * 32,
    "container_config": {"Hostname": "5f0d7a1fd1f2", "Cmd": ["/bin/sh", "-c", "make A=1"]},
    "comment": "committed",
    "moby.buildkit.buildinfo.v1": "eyJmcm9udGVuZCI6IngifQ==",
    "org.example.number": 12345678901234567890123,
    "org.example.float": 1.10e3,
    "config": {
        "Hostname": "5f0d7a1fd1f2",
        "Image": "sha256:" + "0b" * 32,
        "Env": ["PATH=/bin", "A=1"],
        "Cmd": ["/bin/app"],
        "Labels": {"org.example.ci.job": "7", "org.example.ci.user": "x", "keep": "this"},
        "OnBuild": None,
    },
    "history": [
        {"created": "2026-01-01T00:00:00Z", "created_by": "ADD base", "author": "somebody"},
        {"created_by": "ENV A=1", "empty_layer": True, "comment": "buildkit.dockerfile.v0"},
        {"created": "2026-01-02T00:00:00.000000001Z", "created_by": "|1 A=1 /bin/sh -c make"},
    ],
}
BUILD = {"docker_version", "container", "container_config", "comment", "moby.buildkit.buildinfo.v1"}


@pytest.fixture
def app(tmp_path: Path) -> Layout:
    return image(tmp_path / "app", CONFIG, types=(GZIP, GZIP))


def scrubbed(tmp_path: Path, keys: Path, app: Layout, *options: str) -> dict[str, Any]:
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--no-lint", *options)
    run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/sealed:v1", *who)
    assert run.code == 0, run.err
    manifest, raw = config_of(tmp_path / "sealed")
    assert manifest["config"]["size"] == len(raw)
    found: dict[str, Any] = json.loads(raw)
    _, before = config_of(app)
    assert found["rootfs"] == json.loads(before)["rootfs"]
    return found


def test_all_of_it(tmp_path: Path, keys: Path, app: Layout) -> None:
    found = scrubbed(tmp_path, keys, app, "--scrub")
    assert set(found) == {*CONFIG, "os", "architecture", "rootfs"} - BUILD - {"author"}
    assert found["history"] == [
        {"created": "2026-01-01T00:00:00Z"},
        {"created": "2026-01-02T00:00:00.000000001Z"},
    ]
    kept = {
        key: value for key, value in CONFIG["config"].items() if key not in ("Hostname", "Image")
    }
    assert found["config"] == kept
    assert found["org.example.number"] == CONFIG["org.example.number"]
    run = boltseal("decrypt", f"oci:{tmp_path}/sealed:v1", f"oci:{tmp_path}/out:v1", "-k",
                   keys / "p256.pem", "--check-content")  # fmt: skip
    assert run.code == 0, run.err
    before, after = config_of(app)[0]["layers"], config_of(tmp_path / "out")[0]["layers"]
    assert before == after
    assert boltseal("verify", f"oci:{tmp_path}/sealed:v1", "-k", keys / "p256.pem").code == 0


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (("--scrub=author",), {"author"}),
        (("--scrub=build",), BUILD),
        (("--scrub=build,author",), BUILD | {"author"}),
        (("--scrub=author", "--scrub=build"), BUILD | {"author"}),
    ],
)
def test_parts(
    tmp_path: Path, keys: Path, app: Layout, options: tuple[str, ...], gone: set[str]
) -> None:
    found = scrubbed(tmp_path, keys, app, *options)
    assert {*CONFIG} - {*found} == gone
    assert found["history"] == CONFIG["history"]


def test_labels(tmp_path: Path, keys: Path, app: Layout) -> None:
    found = scrubbed(tmp_path, keys, app, "--scrub-label", "org.example.ci.*")
    assert found["config"]["Labels"] == {"keep": "this"}
    assert {*CONFIG} <= {*found}


def test_scrub_alone_takes_no_word_after_it(tmp_path: Path, keys: Path, app: Layout) -> None:
    target = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", "--scrub", app.reference(), target, *who).code == 0
    assert "author" not in json.loads(config_of(tmp_path / "sealed")[1])


def test_the_old_config_is_told_of_where_it_stays(tmp_path: Path, keys: Path, app: Layout) -> None:
    """Also when no layer changes: they were encrypted before."""
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--no-lint")
    sealed, new = f"oci:{tmp_path}/sealed:v1", f"oci:{tmp_path}/sealed:v2"
    assert boltseal("encrypt", app.reference(), sealed, *who).code == 0
    run = boltseal("encrypt", sealed, new, *who, "--scrub")
    assert "note: the config as it was before is still there" in run.err
    run = boltseal("encrypt", sealed, f"oci:{tmp_path}/other:v1", *who, "--scrub")
    assert "still there" not in run.err


def test_nothing_to_scrub(tmp_path: Path, keys: Path) -> None:
    plain = image(tmp_path / "plain", {"config": {"Cmd": ["x"]}})
    target = f"oci:{tmp_path}/sealed:v1"
    run = boltseal(
        "encrypt", plain.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem", "--scrub"
    )
    assert "the config had nothing of what was to be scrubbed" in run.err
    boltseal("decrypt", target, f"oci:{tmp_path}/out:v1", "-k", keys / "p256.pem")
    assert (
        boltseal("digest", f"oci:{tmp_path}/out:v1").out
        == boltseal("digest", plain.reference()).out
    )


def test_what_makes_no_sense(tmp_path: Path, keys: Path, app: Layout) -> None:
    for wrong in (
        "--scrub=env",
        "--scrub=",
        "--scrub-label=" + "*" * 9,
        "--scrub-label=" + "x" * 999,
    ):
        who = ("-r", f"jwe:{keys}/p256.pub.pem", wrong)
        run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/sealed:v1", *who)
        assert run.code == 2, (wrong, run.err)
    assert not (tmp_path / "sealed").exists()
