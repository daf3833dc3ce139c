"""`boltseal doctor` on hosts below a folder: healthy ones, and ones with one thing wrong."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.runtime.doctor.examine import NAMES
from support.certificates import RECIPIENT, issue, private_key
from support.cli import boltseal
from support.hosts import CONTAINERD, FakeHost, healthy
from support.hosts_planted import KEY, PLANTED, link, put, remove
from support.peers import missing

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "key is locked": (
        "locked.pem", "fail", "is locked with a passphrase", "use a token or key provider",
    ),
    "key is public": (
        "public.pem", "fail", "is a public key", "put the private key there instead",
    ),
    "certificate expired": (
        "expired.pem", "warn", "expired on", "a renewed certificate of the same key",
    ),
    "certificate is not valid yet": (
        "future.pem", "warn", "is valid from", "see whether the clock is right",
    ),
    "certificate is alone": (
        "certificate.pem", "warn", "no key in the folder is its own", "its private key beside it",
    ),
}  # fmt: skip


V2 = {
    "pulled by the transfer service": (
        lambda h: h.replace(CONTAINERD, "  use_local_image_pull = true\n", ""),
        "containerd", "pull", "fail", "knows nothing of encrypted", "use_local_image_pull = true",
    ),
    "verifier is no program": (
        lambda h: h.write("/opt/containerd/image-verifier/bin/README", "x"),
        "refusing starts", "verifiers", "fail", "pulls nothing any more", "chmod 0755, or remove",
    ),
    "verifier is not asked": (
        lambda h: h.program("/opt/containerd/image-verifier/bin/boltseal"),
        "refusing starts", "verifiers", "warn", "asks no verifier", "hook print-config containerd",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key with a passphrase."""
    path = tmp_path_factory.mktemp("locked") / "locked.pem"
    done = boltseal("keygen", path, "-a", "p256", "--passphrase", "pass=secret")
    assert done.code == 0, done.err
    return path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, keys: Path, locked: Path) -> Path:
    """Files that end up where they should not: NAME.pem."""
    folder = tmp_path_factory.mktemp("material")
    shutil.copy(locked, folder / "locked.pem")
    shutil.copy(keys / "p256.pub.pem", folder / "public.pem")
    shutil.copy(keys / "other.pem", folder / "outside.pem")
    mine = issue("mine", private_key("p256"), extensions=RECIPIENT, days=(-40, -10))
    (folder / "expired.pem").write_bytes(mine.key_pem() + mine.pem())
    (folder / "future.pem").write_bytes(
        (one := issue("later", private_key("p256"), days=(10, 40))).key_pem() + one.pem()
    )
    strange = issue("strange", private_key("rsa2048"), extensions=RECIPIENT)
    (folder / "certificate.pem").write_bytes(strange.pem())
    return folder


def doctor(host: FakeHost, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what is not as it should be."""
    done = boltseal("doctor", "--json", "--root", host.root, *arguments)
    document = json.loads(done.out)
    findings: list[dict[str, Any]] = document["findings"]
    assert document["failed"] == sum(one["state"] == "fail" for one in findings)
    return done.code, [one for one in findings if one["state"] in ("fail", "warn")]


def expect(host: FakeHost, subject: str, check: str, state: str, message: str, fix: str) -> None:
    code, found = doctor(host)
    mine = [one for one in found if one["subject"] == subject and one["check"] == check]
    assert mine, found
    hits = [one for one in mine if message in one["message"]]
    assert hits, mine
    assert hits[0]["state"] == state
    assert fix in hits[0]["fix"]
    assert code == (1 if any(one["state"] == "fail" for one in found) else 0)
    if state == "fail":
        assert code == 1


@pytest.mark.parametrize("major", [1, 2])
def test_a_healthy_host_has_nothing_to_mend(tmp_path: Path, keys: Path, major: int) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem", major=major)
    assert doctor(host) == (0, [])


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_found(tmp_path: Path, keys: Path, planted: Any) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem")
    planted[0](host)
    expect(host, *planted[1:])


@pytest.mark.parametrize("planted", V2.values(), ids=V2)
def test_what_is_planted_beside_containerd_2(tmp_path: Path, keys: Path, planted: Any) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem", major=2)
    planted[0](host)
    expect(host, *planted[1:])


@pytest.mark.parametrize("planted", FILES.values(), ids=FILES)
def test_keys_that_are_none(tmp_path: Path, keys: Path, material: Path, planted: Any) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem")
    name, state, message, fix = planted
    put(host, material / name)
    kind = "certificate" if state == "warn" else "key"
    expect(host, "containerd", f"{kind} {name}", state, message, fix)


def test_keys_of_somebody_else(tmp_path: Path, keys: Path) -> None:
    if os.geteuid() != 0:
        missing("only root can give a file away")
    host = healthy(tmp_path / "host", keys / "p256.pem")
    os.chown(host.path(KEY), 1234, 0)
    expect(host, "containerd", "key prod.pem", "fail", "belongs to the user 1234", "chown root")


def test_an_empty_host_has_nothing_installed_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "host" / "var" / "tmp").mkdir(parents=True)
    done = boltseal("doctor", "--json", "--root", tmp_path / "host")
    assert done.code == 0
    found = json.loads(done.out)["findings"]
    absent = {one["subject"] for one in found if one["state"] == "not there"}
    assert {"containerd", "cri-o", "podman", "key providers", "gnupg", "host"} <= absent


def test_links_of_another_root_stay_in_it(tmp_path: Path, keys: Path) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem")
    host.path(CONTAINERD).rename(host.path("/etc/real.toml"))
    link(host, CONTAINERD, "/etc/real.toml")
    assert doctor(host) == (0, [])
    remove(host, CONTAINERD)
    link(host, CONTAINERD, "../../../../../../etc/real.toml")
    assert doctor(host) == (0, [])
    remove(host, CONTAINERD)
    link(host, CONTAINERD, CONTAINERD)
    _, found = doctor(host)
    assert "goes over more than 40 links" in found[0]["message"]


def test_the_table(tmp_path: Path, keys: Path) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem")
    host.path(KEY).chmod(0o644)
    done = boltseal("doctor", "--root", host.root, "--only", "containerd")
    assert done.code == 1
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == "containerd"
    at = next(number for number, line in enumerate(lines) if line.startswith("  fail"))
    assert "key prod.pem" in lines[at]
    assert " ".join(lines[at + 1].split()).startswith("/etc/containerd")  # wrapped, and whole
    assert lines[at + 2].strip().startswith("→ chown root")
    assert lines[-1] == "1 to mend, no warning"
    assert boltseal("doctor", "-q", "--root", host.root).out == ""


def test_only_and_config(tmp_path: Path, keys: Path) -> None:
    host = healthy(tmp_path / "host", keys / "p256.pem")
    bad = host.write("/elsewhere.toml", "version = [")
    code, found = doctor(host, "--only", "containerd", "--config", f"containerd={bad}")
    assert code == 1
    assert found[0]["message"].startswith(f"{bad} is not valid TOML")
    assert doctor(host, "--only", "cri-o", "--config", f"containerd={bad}") == (0, [])
    for name in NAMES:
        assert doctor(host, "--only", name)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "docker"], "there is nothing called 'docker'"),
        (["--config", "containerd"], "--config takes NAME=FILE"),
        (["--config", "docker=/x"], "--config takes NAME=FILE"),
        (["--root", "/nowhere"], "/nowhere is not a folder"),
        (["-k", "x.pem"], "-k goes with --image"),
        (["--keys-path", "/x"], "go with --print-config"),
        (["--print-config", "crio", "--image", "oci:x"], "goes with neither"),
        (["--print-config", "crio", "--keys-path", "keys"], "is a whole path"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = boltseal("doctor", *arguments)
    assert done.code == 2
    assert message in done.err
