"""Tables fit a terminal of 100 columns, and say once what is the same for several layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import GZIP, index_image, simple_image

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = 100


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.startswith("  ")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_changes_that_are_alike_are_told_once(place: Path, keys: Path) -> None:
    index_image(place / "app")
    both = [f"-rjwe:{keys}/{name}.pub.pem" for name in ("p256", "p384")]
    assert boltseal("encrypt", "oci:app:v1", "oci:sealed:v1", *both, "-q").code == 0
    run = boltseal("recipients", "remove", "oci:sealed:v1", "-r", f"{keys}/p384.pub.pem")
    assert run.code == 0, run.err
    changes = [row[:3] for row in rows(run.out) if row[0].startswith("linux/")]
    assert changes == [
        ["linux/amd64", "0..1", "removed"],
        ["linux/amd64", "0..1", "kept"],
        ["linux/arm64", "0..1", "removed"],
        ["linux/arm64", "0..1", "kept"],
    ]


def test_changes_that_differ_are_told_apart(place: Path, keys: Path) -> None:
    simple_image(place / "app", [GZIP] * 4)
    one, two = (f"-rjwe:{keys}/{name}.pub.pem" for name in ("p256", "p384"))
    key = ("-k", f"{keys}/p256.pem")
    run = boltseal("encrypt", "oci:app:v1", "oci:part:v1", one, two, "--layer", "1", "-q")
    assert run.code == 0
    assert boltseal("encrypt", "oci:part:v1", "oci:all:v1", one, "-q").code == 0
    run = boltseal("recipients", "add", "oci:all:v1", two, *key)
    assert run.code == 0, run.err
    assert [row[:3] for row in rows(run.out) if row[0] == "linux/amd64"] == [
        ["linux/amd64", "0,", "2..3"],
        ["linux/amd64", "0,", "2..3"],
    ]


def test_inspect_is_not_wider_than_a_terminal(place: Path, keys: Path) -> None:
    simple_image(place / "app")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", "oci:app:v1", "oci:sealed:v1", *who, "-q").code == 0
    run = boltseal("inspect", "oci:app:v1", "oci:sealed:v1")
    assert max(map(len, run.out.splitlines())) <= COLUMNS
    assert "AES_256_CTR_HMAC_SHA256" in run.out


def test_images_with_long_names_have_a_row_each(place: Path) -> None:
    names = [f"oci:{letter * 30}:v1" for letter in "ab"]
    for name in names:
        simple_image(place / name.split(":")[1])
    for command in ("inspect", "plan"):
        run = boltseal(command, *names)
        assert max(map(len, run.out.splitlines())) <= COLUMNS
        table = rows(run.out.partition("the same blob in several images\n")[2])
        assert [row[-1] for row in table[1:]] == names * 2


def test_key_show_counts_in_words(place: Path, keys: Path) -> None:
    simple_image(place / "app", [GZIP])
    key = f"{keys}/p256.pub.pem"
    assert boltseal("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", f"jwe:{key}", "-q").code == 0
    assert (
        "linux/amd64  1 layer    1 of 1"
        in boltseal("key", "show", key, "--image", "oci:sealed:v1").out
    )


def test_verify_says_what_to_do_about_the_plain_image(place: Path, keys: Path) -> None:
    simple_image(place / "app")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", "oci:app:v1", "oci:app:sealed", *who, "-q").code == 0
    run = boltseal("verify", "oci:app:sealed", "-k", f"{keys}/p256.pem")
    assert run.code == 4
    assert run.err.count("hint:  boltseal copy it to a place") == 1
    assert boltseal("copy", "oci:app:sealed", "oci:clean:v1", "-q").code == 0
    assert boltseal("verify", "oci:clean:v1", "-k", f"{keys}/p256.pem").code == 0
