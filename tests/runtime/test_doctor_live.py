"""`boltseal doctor` where programs are started: versions, decoders, providers; and images."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.keywrap.options import KeyOptions
from boltseal.runtime.doctor.examine import Runtimes, examine
from boltseal.runtime.doctor.host import Host
from support.cli import boltseal
from support.hosts import CONTAINERD, FakeHost, healthy
from support.images import simple_image
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Callable

BOLTSEAL = str(Path(sys.executable).with_name("boltseal"))


@pytest.fixture
def bin_dir(tmp_path: Path) -> FakeHost:
    """Programs that go before this machine's."""
    return FakeHost(tmp_path / "bin")


@pytest.fixture
def look(tmp_path: Path, bin_dir: FakeHost) -> Callable[..., list[dict[str, Any]]]:
    """What the doctor says of this machine with these programs and files."""

    def find(only: str, now: datetime | None = None, **files: Path) -> list[dict[str, Any]]:
        environment = {"PATH": f"{bin_dir.root}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        providers = (str(files.pop("providers")),) if "providers" in files else ()
        host = Host(
            files={name.replace("_", "-"): str(path) for name, path in files.items()},
            keys=KeyOptions(environment=environment, provider_files=providers),
            **({"now": now} if now else {}),
        )
        return [one.to_json() for one in examine(host, Runtimes.of(host), [only]).findings]

    return find


def one(found: list[dict[str, Any]], check: str) -> dict[str, Any]:
    (hit,) = [finding for finding in found if finding["check"] == check]
    return hit


def printed(tmp_path: Path, major: str, keys: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        boltseal(
            "doctor",
            "--print-config",
            "containerd",
            "--runtime-version",
            major,
            "--keys-path",
            keys,
        ).out
    )
    return path


@pytest.mark.parametrize(
    ("version", "decrypts"),
    [
        ("2.0.11", False),
        ("2.1.6", False),
        ("2.1.7", True),
        ("2.2.1", False),
        ("2.2.2", True),
        ("2.3.0", True),
    ],
)
def test_versions_of_containerd_2_that_do_not_decrypt(
    tmp_path: Path, bin_dir: FakeHost, look: Any, keys: Path, version: str, decrypts: bool
) -> None:
    said = f"containerd github.com/containerd/containerd/v2 v{version} 0123"
    bin_dir.program("containerd", f'#!/bin/sh\n[ "$1" = --version ] && echo "{said}" || cat "$2"\n')
    found = look("containerd", containerd=printed(tmp_path, "2", keys))
    assert one(found, "program")["message"].endswith(version)
    assert one(found, "what containerd reads")["state"] == "ok"
    broken = [finding for finding in found if finding["check"] == "decryption"]
    assert bool(broken) != decrypts
    if broken:
        assert broken[0]["state"] == "fail"
        assert "2.1.7, 2.2.2 or 2.3" in broken[0]["fix"]


def test_debians_containerd_does_not_read_version_3(tmp_path: Path, look: Any, keys: Path) -> None:
    require("containerd")
    found = look("containerd", containerd=printed(tmp_path, "2", keys))
    assert one(found, "configuration version")["state"] == "fail"
    assert "write version = 2" in one(found, "configuration version")["fix"]
    found = look("containerd", containerd=printed(tmp_path, "1", keys))
    assert one(found, "configuration version")["state"] == "ok"
    assert one(found, "what containerd reads")["state"] == "ok"
    path = printed(tmp_path, "1", keys)
    path.write_text(path.read_text() + "[timeouts]\nx = 1\n")  # TOML, and not what it reads
    refused = one(look("containerd", containerd=path), "what containerd reads")
    assert refused["state"] == "fail"
    assert refused["message"].startswith("containerd does not take it: ")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\nexit 1\n", "does not answer as a decoder does"),
        ("#!/bin/sh\necho hello\n", "does not answer as a decoder does"),
        ("#!/nowhere/python\n", "cannot be started"),
        ("\0", "cannot be started"),
    ],
)
def test_a_decoder_that_is_none(
    tmp_path: Path, look: Any, keys: Path, script: str, words: str
) -> None:
    path = printed(tmp_path, "1", keys)
    program = FakeHost(tmp_path).program("decoder", script)
    text = path.read_text().replace(
        str(Path(BOLTSEAL).with_name("boltseal-ctd-decoder")), str(program)
    )
    path.write_text(text)
    found = one(look("containerd", containerd=path), "decoder.v1.tar: program")
    assert found["state"] == "fail"
    assert words in found["message"]


_WRAPS = """#!/bin/sh
case "$(cat)" in *'"op":"keywrap"'*) echo '{"keywrapresults":{"annotation":"QQ=="}}'; exit;; esac
"""
PROVIDERS = {
    "nonsense": ("#!/bin/sh\necho hello\n", "fail", "does not keep to the protocol"),
    "silence": ("#!/bin/sh\n", "fail", "does not keep to the protocol"),
    "another secret": (
        _WRAPS + """echo '{"keyunwrapresults":{"optsdata":"QQ=="}}'""",
        "fail", "gives back something else than it wrapped",
    ),
    "wraps alone": (_WRAPS + "echo no key >&2; exit 3", "fail", "exit status 3: no key"),
    "opens alone": ("#!/bin/sh\necho wrap for whom >&2\nexit 1\n", "warn", "wrap for whom"),
    "killed": ("#!/bin/sh\nkill -9 $$\n", "fail", "signal 9"),
    "floods": ("#!/bin/sh\ncat /dev/zero\n", "fail", "answered with over"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROVIDERS.values(), ids=PROVIDERS)
def test_providers_that_fail_the_test(
    tmp_path: Path, look: Any, case: tuple[str, str, str]
) -> None:
    script, state, words = case
    program = FakeHost(tmp_path).program("provider", script)
    config = tmp_path / "providers.json"
    config.write_text(json.dumps({"key-providers": {"one": {"cmd": {"path": str(program)}}}}))
    found = one(look("key-providers", providers=config), "provider one")
    assert found["state"] == state
    assert words in found["message"]
    assert found["fix"]


def test_our_own_provider_passes(tmp_path: Path, look: Any, keys: Path) -> None:
    config = tmp_path / "providers.json"
    args = ["keyprovider", "exec", "-k", f"{keys}/p256.pem", "-r", f"jwe:{keys}/p256.pub.pem"]
    far = {"grpc": "unix:/nowhere.sock"}
    document = {
        "key-providers": {"boltseal": {"cmd": {"path": BOLTSEAL, "args": args}}, "far": far}
    }
    config.write_text(json.dumps(document))
    found = look("key-providers", providers=config)
    assert one(found, "provider boltseal")["state"] == "ok"
    assert "wrapped and unwrapped 256 random bytes" in one(found, "provider boltseal")["message"]
    assert one(found, "provider far")["state"] == "fail"


@pytest.mark.parametrize("year", [1970, 2020, 2150])
def test_a_clock_that_is_wrong(look: Any, year: int) -> None:
    found = one(look("host", now=datetime(year, 1, 2, tzinfo=UTC)), "clock")
    assert found["state"] == "fail"
    assert f"it says {year}-01-02" in found["message"]
    assert "set the clock" in found["fix"]


def test_programs_that_are_too_old(bin_dir: FakeHost, look: Any) -> None:
    bin_dir.program("gpg", "#!/bin/sh\necho 'gpg (GnuPG) 1.4.23'\n")
    assert "which is too old" in one(look("gnupg"), "gpg")["message"]
    bin_dir.program("gpg", "#!/bin/sh\nexit 2\n")
    assert "does not say which version" in one(look("gnupg"), "gpg")["message"]
    bin_dir.program("podman", "#!/bin/sh\necho podman version 4.3.1\n")
    bin_dir.program("buildah", "#!/bin/sh\necho buildah version 1.28.2\n")
    assert "has no --decryption-key" in one(look("podman"), "podman")["message"]
    bin_dir.program("podman", "#!/bin/sh\necho podman version 5.2.0\n")
    assert one(look("podman"), "podman")["state"] == "ok"


def test_what_runtimes_would_do_with_an_image(tmp_path: Path, keys: Path) -> None:
    """With the healthy host below a folder; that an image opens depends on the key named."""
    host = healthy(tmp_path / "host", keys / "p256.pem")
    image = f"oci:{tmp_path}/sealed:v1"
    simple_image(tmp_path / "app")
    done = boltseal(
        "encrypt", "-q", f"oci:{tmp_path}/app:v1", image, "-r", f"jwe:{keys}/rsa2048.pub.pem"
    )
    assert done.code == 0, done.err
    asked = ("doctor", "--json", "--root", host.root, "--image", image)

    def about(*more: object) -> dict[str, tuple[str, str]]:
        found = json.loads(boltseal(*asked, *more).out)["findings"]
        return {
            one["subject"]: (one["state"], one["message"])
            for one in found
            if one["check"] == "this image"
        }

    found = about()
    assert found["containerd"][0] == found["cri-o"][0] == "fail"
    assert "refuses it: no key given opens it" in found["cri-o"][1]
    assert found["podman"] == ("warn", "Podman and Buildah refuse it unless a key is named")
    assert about("-k", keys / "rsa2048.pem")["podman"][0] == "ok"
    assert about("-k", keys / "other.pem")["podman"][0] == "fail"
    host.replace(CONTAINERD, "tar+gzip+encrypted", "tar+none+encrypted")
    assert "of the stream processors none accepts it" in about()["containerd"][1]
    assert boltseal("doctor", "--root", host.root, "--image", f"oci:{tmp_path}/nowhere").code == 1
