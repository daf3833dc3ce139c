"""`boltseal doctor` about what asks before a start, arguments of the decoder, and one runtime."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal
from support.hosts import CONTAINERD, DECODER, KEYS, POLICY, FakeHost, healthy
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path

SPEC = "/etc/containerd/cri-base.json"
CLASSES = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes'
HOOK = {"path": "/usr/bin/boltseal", "args": ["boltseal", "hook", "check"]}


def findings(host: FakeHost, *arguments: object) -> list[dict[str, Any]]:
    """What is not as it should be."""
    done = boltseal("doctor", "--json", "--root", host.root, *arguments)
    found = json.loads(done.out)["findings"]
    assert done.code == int(any(one["state"] == "fail" for one in found)), done.err
    return [one for one in found if one["state"] != "ok"]


def guarded(host: FakeHost, spec: object, *, also: str = "") -> None:
    text = host.path(CONTAINERD).read_text()
    entry = f'\n{CLASSES}.runc]\nbase_runtime_spec = "{SPEC}"\n{also}'
    host.write(CONTAINERD, text + entry)
    if spec is not None:
        host.write(SPEC, json.dumps(spec))


def one_finding(host: FakeHost, check: str) -> dict[str, Any]:
    """The only one of this check; nothing else is wrong."""
    found = findings(host, "--only", "refusing-starts")
    assert all(one["check"] == check or one["state"] == "not there" for one in found), found
    (mine,) = [one for one in found if one["check"] == check]
    return mine


@pytest.fixture
def host(tmp_path: Path, keys: Path) -> FakeHost:
    return healthy(tmp_path / "host", keys / "p256.pem")


def test_a_specification_with_the_hook(host: FakeHost) -> None:
    guarded(host, {"hooks": {"createRuntime": [HOOK]}})
    assert findings(host, "--only", "refusing-starts") == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "does not exist"),
        ([], "is not a JSON object"),
        ({"hooks": {"prestart": [{"path": "/opt/boltseal"}]}}, "names /opt/boltseal, which is not"),
    ],
)
def test_a_specification_that_stops_everything(host: FakeHost, spec: object, message: str) -> None:
    guarded(host, spec)
    found = one_finding(host, "runtime class runc")
    assert found["state"] == "fail"
    assert message in found["message"]
    assert len(findings(host, "--only", "refusing-starts")) == 1
    assert found["fix"].startswith("ctr oci spec | boltseal hook print-config containerd")


@pytest.mark.parametrize(
    "odd", [{"hooks": 3}, {"hooks": {"prestart": {}}}, {"hooks": {"prestart": [1, {"path": 2}]}}]
)
def test_hooks_of_other_forms_are_none_of_ours(host: FakeHost, odd: object) -> None:
    guarded(host, odd)
    assert one_finding(host, "containerd's hook")["state"] == "not there"
    host.path(POLICY).unlink()
    assert one_finding(host, "policy")["state"] == "not there"


def test_a_runtime_class_that_was_forgotten(host: FakeHost) -> None:
    spec = {"hooks": {"createRuntime": [HOOK]}}
    guarded(host, spec, also=f'{CLASSES}.kata]\nruntime_type = "io.containerd.kata.v2"\n')
    found = one_finding(host, "runtime class kata")
    assert found["state"] == "warn"
    assert "starts everything without asking" in found["message"]


def test_a_policy_whose_folder_has_no_key(host: FakeHost) -> None:
    host.path("/srv/keys").mkdir(parents=True, mode=0o700)
    host.write(POLICY, 'keys = ["/srv/keys"]\n')
    found = one_finding(host, "policy's keys")
    assert found["message"] == "/srv/keys has no key that can be used"


ARGUMENTS = {
    '"--bogus"': "--bogus",
    '"--release", "later"': "--release later",
    '"-k"': "-k without a value",
    '"secret"': "a word that belongs to no option",
}


@pytest.mark.parametrize(("arguments", "told"), ARGUMENTS.items(), ids=ARGUMENTS.values())
def test_arguments_that_the_decoder_does_not_take(
    host: FakeHost, arguments: str, told: str
) -> None:
    host.replace(CONTAINERD, f'"{KEYS}"]', f'"{KEYS}", {arguments}]')
    found = findings(host, "--only", "containerd")
    assert [one["check"] for one in found] == [
        "decoder.v1.tar: arguments",
        "decoder.v1.tar.gzip: arguments",
    ]
    assert found[0]["message"].startswith(f"args has {told}, which")
    host.replace(CONTAINERD, DECODER, "/usr/bin/provider")  # somebody else's may take them
    assert findings(host, "--only", "containerd") == []


def test_only_one_runtime_is_asked_about_an_image(
    host: FakeHost, tmp_path: Path, keys: Path
) -> None:
    image = f"oci:{tmp_path}/sealed:v1"
    simple_image(tmp_path / "app")
    done = boltseal(
        "encrypt", "-q", f"oci:{tmp_path}/app:v1", image, "-r", f"jwe:{keys}/rsa2048.pub.pem"
    )
    assert done.code == 0, done.err
    key = ("-k", keys / "rsa2048.pem")
    assert findings(host, "--only", "podman", "--image", image, *key) == []
    (found,) = findings(host, "--only", "containerd", "--image", image, *key)
    assert found["subject"] == "containerd"
    assert "prod.pem" in found["message"]
    assert found["fix"].startswith(f"see whom it is for: boltseal recipients list {image};")
    host.path(KEYS).rename(host.path("/gone"))
    hits = findings(host, "--only", "containerd", "--image", image)
    mine = next(one for one in hits if one["check"] == "this image")
    assert "does not exist" in mine["message"]
    assert mine["fix"].endswith("put such a key there")


def test_links_beside_which_cri_o_takes_no_key(host: FakeHost, tmp_path: Path, keys: Path) -> None:
    image = f"oci:{tmp_path}/sealed:v1"
    simple_image(tmp_path / "app")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", "-q", f"oci:{tmp_path}/app:v1", image, *who).code == 0
    assert findings(host, "--only", "cri-o", "--image", image) == []
    key = host.path("/etc/crio/keys/prod.pem")
    key.rename(key.with_name("..data.pem"))
    key.symlink_to("..data.pem")
    found = findings(host, "--only", "cri-o", "--image", image)
    assert "is a symbolic link" in found[0]["message"]
    assert found[-1]["check"] == "this image"
    assert found[-1]["message"].startswith(f"refuses it: {key} is a symbolic link")
    key = host.path(KEYS) / "prod.pem"
    key.rename(key.with_name("..data.pem"))
    key.symlink_to("..data.pem")
    assert findings(host, "--only", "containerd", "--image", image) == []  # ours follows it
    host.replace(CONTAINERD, DECODER, "/usr/bin/provider")
    found = findings(host, "--only", "containerd", "--image", image)
    assert found[-1]["message"].startswith(f"refuses it: {key} is a symbolic link")


def test_the_other_name_of_a_runtime_and_a_file_that_is_not_there(host: FakeHost) -> None:
    for name in ("crio", "cri-o", "buildah"):
        assert findings(host, "--only", name) == []
    done = boltseal("doctor", "--root", host.root, "--config", "crio=/nowhere.conf")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: the file /nowhere.conf of --config crio does not exist\n"


def test_an_image_that_cannot_be_read_hides_nothing_of_the_host(
    host: FakeHost, tmp_path: Path
) -> None:
    image = f"oci:{tmp_path}/nowhere:v1"
    done = boltseal("doctor", "--root", host.root, "--image", image)
    assert done.code == 1
    assert "  ok         key model " in done.out
    assert f"{image}: " in done.out.replace("\n", " ")
    (found,) = findings(host, "--only", "containerd", "--image", image)
    assert (found["subject"], found["state"]) == ("image", "fail")
    assert boltseal("doctor", "--image", "nothing").code == 2


def test_long_lines_are_wrapped_and_no_word_is_cut(host: FakeHost) -> None:
    host.replace(CONTAINERD, f'"{KEYS}"]', f'"{KEYS}", "--bogus"]')
    done = boltseal("doctor", "--root", host.root, "--only", "containerd")
    assert done.code == 1
    for line in done.out.splitlines():
        words = line.split()
        assert len(line) <= 100 or len(max(words, key=len)) > 50, line
    assert "\n             → write args" in done.out
