"""What somebody is told whose command line makes no sense: which word, and what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path

PAIR = ("encrypt", "oci:a:v1", "oci:b:v1", "-r", "jwe:k.pub.pem")


def told(*arguments: object, code: int = 2) -> tuple[str, str]:
    """The error and its hint, a line each and nothing else."""
    run = boltseal(*arguments)
    assert (run.code, run.out) == (code, "")
    error, hint = run.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint:  ")
    return error.removeprefix("error: "), hint.removeprefix("hint:  ")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (("encryp",), "'encryp' is no command of boltseal", "did you mean boltseal encrypt?"),
        (("show", "oci:a:v1"), "'show' is no command", "did you mean boltseal inspect?"),
        (("recipients", "rotate"), "'rotate' is no action", "boltseal recipients set --rotate?"),
        (("recipients", "oci:a:v1"), "'oci:a:v1' is no action", "recipients list IMAGE?"),
        (("key", "rotate"), "'rotate' is no action of boltseal key", "there are show, sync"),
        ((*PAIR, "--recipients", "x"), "--recipients …", "did you mean --recipient?"),
        ((*PAIR, "--layers=1"), "--layers=…", "did you mean --layer?"),
        ((*PAIR, "--override-arch", "arm64"), "--override-arch …", "write --platform OS/ARCH"),
        (("copy", "oci:a:v1", "oci:b:v1", "--all"), "--all", "all platforms are taken"),
        (("run", "oci:a:v1", "-k", "k", "ls"), "unrecognized arguments: …", "stands behind --"),
        (
            ("run", "oci:a:v1", "-k", "k", "-it", "sh"),
            "-it …",
            "the container's without any option",
        ),
        (("run", "oci:a:v1", "--rm"), "--rm", "is removed in every case"),
        (("run", "oci:a:v1", "-v", "/a:/b"), "-v …", "edit the config.json"),
        (("--json", "keygen", "k.pem"), "unrecognized arguments: --json", "behind the command"),
    ],
)
def test_what_was_meant(arguments: tuple[str, ...], error: str, hint: str) -> None:
    run = boltseal(*arguments)
    first, second = run.err.splitlines()
    assert run.code == 2
    assert error in first
    assert hint in second
    assert "see boltseal" in second


def test_the_help_that_is_named_is_that_of_the_command() -> None:
    _, hint = told("recipients", "list", "oci:a:v1", "--frobnicate")
    assert hint == "see boltseal recipients list --help"


def test_a_value_in_a_wrong_place_is_shown_when_it_is_a_file(keys: Path) -> None:
    key = keys / "p256.pem"
    error, hint = told("check", "oci:a:v1", key)
    assert error == f"unrecognized arguments: {key}"
    assert hint.startswith("keys are named with -k")
    error, hint = told("check", "oci:a:v1", "hunter2", "--creds=me:hunter2", "--cred=me:hunter2")
    assert "hunter2" not in error + hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("registry.example:5000/team/app:v1", "write docker://registry.example:5000/team/app:v1"),
        ("localhost/app", "write docker://localhost/app"),
        ("app", "write docker://HOST/NAME[:TAG] for a registry, oci:PATH[:TAG] for a layout"),
        ("app:v1", "write docker://NAME[:TAG] for a registry, oci:PATH[:TAG] for a layout"),
        ("docker://registry.example/Team/app", "with NAME in lower case"),
    ],
)
def test_an_image_without_its_transport(text: str, hint: str) -> None:
    assert hint in told("inspect", text)[1]


@pytest.mark.parametrize("text", ["k.pem:pass=hunter2/x", "me:hunter2@registry.example/app"])
def test_what_may_be_a_secret_is_not_repeated(text: str) -> None:
    assert "hunter2" not in "".join(told("inspect", text))


def test_places_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = simple_image(tmp_path / "layout")
    monkeypatch.chdir(tmp_path)
    assert boltseal("copy", image.reference(), "dir:folder", "-q").code == 0
    for text, code, hint in (
        ("layout:v1", 2, "write oci:layout[:TAG] for the layout in that folder"),
        ("dir:layout", 1, "it is a layout: write oci:layout"),
        ("oci:folder", 1, "read it as dir:folder"),
        ("oci-archive:gone.tar", 1, "look at the path"),
    ):
        assert hint in told("inspect", text, code=code)[1]
    error, hint = told("copy", image.reference(), "oci:far/away/x:v1", code=1)
    assert "far/away/x should be made in does not exist" in error
    assert hint == "make it first: mkdir -p far/away"


def test_files_with_nearly_the_right_name(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prod.pem").write_bytes((keys / "p256.pem").read_bytes())
    (tmp_path / "prod.pub.pem").write_bytes((keys / "p256.pub.pem").read_bytes())
    wanted = {
        "jwe:prd.pub.pem": "did you mean prod.pub.pem?",
        "jwe:nothing": "look at the path",
        "jwe:gone/prod.pem": "there is no folder gone",
        "jwe:prod.pem": "name its public half, which is beside it: prod.pub.pem",
    }
    for who, hint in wanted.items():
        assert told("encrypt", "oci:a:v1", "oci:b:v1", "-r", who, code=1)[1] == hint


def test_more_layers_than_there_are(tmp_path: Path, keys: Path) -> None:
    pair = (simple_image(tmp_path / "l").reference(), f"oci:{tmp_path}/x:v1")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    error, _ = told("encrypt", *pair, *who, "--top", 9)
    assert error.endswith("there are no 9 layers: the image has 2")
    _, hint = told("encrypt", *pair, *who, "--layer", 7)
    assert hint == "layers are 0 to 1, or -2 to -1 from the end"


def test_what_scrub_takes_may_stand_behind_it(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "l").reference()
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", source, f"oci:{tmp_path}/a:v1", *who, "--scrub", "history").code == 0
    run = boltseal("encrypt", "--scrub", source, f"oci:{tmp_path}/b:v1", *who)
    assert run.code == 0  # alone it means all


def test_what_is_encrypted_for_others_names_the_command_that_tells_for_whom(
    tmp_path: Path, keys: Path
) -> None:
    source, sealed = simple_image(tmp_path / "l").reference(), f"oci:{tmp_path}/a:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", source, sealed, *who, "-q").code == 0
    run = boltseal("encrypt", sealed, f"oci:{tmp_path}/b:v1", *who, "-k", keys / "p384.pem")
    assert run.code == 3
    assert run.err.endswith(f"hint:  see who can open it with: boltseal recipients list {sealed}\n")


def test_a_base_that_has_everything(tmp_path: Path, keys: Path) -> None:
    image = simple_image(tmp_path / "l").reference()
    error, hint = told("plan", image, "--except-base", image)
    assert error.endswith("nothing would be encrypted")
    assert hint.startswith("name the base that the image was built on")
