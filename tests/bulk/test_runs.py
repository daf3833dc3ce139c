"""Bulk runs on layouts: what they write, skip and report, and how they end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import boltseal as library
from support.bulk import entries, many_images, states
from support.cli import boltseal, command
from support.layouts import check, tags
from support.pages import blocks

if TYPE_CHECKING:
    from support.bulk import Place


def test_a_list_is_encrypted_and_then_passed_over(place: Place) -> None:
    place.images(5)
    place.write_list(5)
    first = place.encrypt()
    assert first.code == 0, first.err
    assert first.out.startswith("encrypted 5 images\n")
    check(place.folder / "sealed")
    assert tags(place.folder / "sealed") == {f"v{n}" for n in range(5)}
    assert all(place.is_right(f"oci:sealed:v{n}") for n in range(5))
    before = (place.folder / "sealed" / "index.json").read_bytes()
    written = (place.folder / "list.journal").read_bytes()
    second = place.encrypt("--json")
    assert states(second) == ["skipped"] * 5
    assert (place.folder / "sealed" / "index.json").read_bytes() == before
    assert (place.folder / "list.journal").read_bytes() == written
    assert (place.folder / "list.journal").stat().st_mode & 0o777 == 0o600


def test_what_changed_meanwhile_is_encrypted_again(place: Place) -> None:
    plain = place.images(4)
    place.write_list(4)
    assert place.encrypt().code == 0
    root = plain.root("v0")  # v1's name moves to another image
    moved = [one for one in plain.entries if one["annotations"] != plain.root("v1")["annotations"]]
    plain.entries = [*moved, {**root, "annotations": plain.root("v1")["annotations"]}]
    plain._write_index()
    recipients = ("-r", f"jwe:{place.keys}/p384.pub.pem", "-k", f"{place.keys}/p256.pem")
    assert boltseal("recipients", "add", "oci:sealed:v2", *recipients, "-q").code == 0
    run = place.encrypt("--json")
    found = {
        one["destination"]: (one["state"], one["why"]) for one in json.loads(run.out)["images"]
    }
    assert found == {
        "oci:sealed:v0": ("skipped", ""),
        "oci:sealed:v1": ("encrypted", "the source has changed"),
        "oci:sealed:v2": ("encrypted", "the destination had changed"),
        "oci:sealed:v3": ("skipped", ""),
    }
    shutil.rmtree(place.folder / "sealed")
    assert "oci:sealed:v3 was encrypted again: the destination was gone" in place.encrypt().err


def test_one_failure_stops_nobody_else(place: Place) -> None:
    place.images(3)
    place.write_list(3, "oci:plain:nothing oci:sealed:n1", "oci:nowhere:v1 oci:sealed:n2")
    run = place.encrypt()
    assert run.code == 1
    assert "encrypted 3 images, 2 failed" in run.out
    assert "error: oci:plain:nothing: there is no such tag" in run.err
    assert "to go on, run the same command again: list.journal" in run.err
    assert tags(place.folder / "sealed") == {"v0", "v1", "v2"}
    again = place.encrypt("--json")
    assert again.code == 1
    assert states(again) == ["skipped"] * 3 + ["failed"] * 2
    failures = [one["failure"] for one in json.loads(again.out)["images"][3:]]
    assert [one["exit_code"] for one in failures] == [1, 1]


def test_the_exit_code_says_what_kind_of_failure(place: Place) -> None:
    plain = place.images(2)
    place.write_list(2)
    manifest = plain.blob_path(plain.root("v0")["digest"])
    manifest.write_bytes(manifest.read_bytes().replace(b"v1.tar", b"v2.tar"))
    assert place.encrypt("-q").code == 4
    place.write_list(2, "oci:nowhere:v1 oci:sealed:n1")
    assert place.encrypt("-q").code == 1
    assert tags(place.folder / "sealed") == {"v1"}


def test_fail_fast_begins_nothing_more(place: Place) -> None:
    place.images(6)
    listed = place.write_list(6)
    listed.write_text("oci:nowhere:v1 oci:sealed:n1\n" + listed.read_text())
    run = place.encrypt("--fail-fast", "--jobs", 1, "--json")
    assert run.code == 1
    found = json.loads(run.out)
    assert found["failed"] == 1
    assert found["not_done"] >= 5
    assert states(place.encrypt("--json")).count("failed") == 1
    assert tags(place.folder / "sealed") == {f"v{n}" for n in range(6)}


def test_options_apply_to_every_image_and_lines_have_their_own(place: Place) -> None:
    place.images(3)
    own = {
        "source": "oci:plain:v2",
        "destination": "oci:own:v2",
        "layers": ["0"],
        "recipients": [f"jwe:{place.keys}/p384.pub.pem"],
    }
    place.write_list(2, json.dumps(own))
    assert place.encrypt("--layer", "-1").code == 0
    for image, hidden, key in (
        ("oci:sealed:v0", [False, True], "p256"),
        ("oci:sealed:v1", [False, True], "p256"),
        ("oci:own:v2", [True, False], "p384"),
    ):
        layers = library.inspect(image).manifests[0].layers
        assert [one.encrypted for one in layers] == hidden
        assert place.is_right(image, key)
    own["layers"] = ["0", "1"]
    place.write_list(2, json.dumps(own))
    assert states(place.encrypt("--layer", "-1", "--json")) == ["skipped", "skipped", "encrypted"]


def test_another_job_needs_another_journal(place: Place) -> None:
    place.images(1)
    place.write_list(1)
    assert place.encrypt().code == 0
    for changed, what in (
        (("--top", "1"), "options (layers)"),
        (("-r", f"jwe:{place.keys}/p384.pub.pem"), "recipients"),
        (("-k", f"{place.keys}/p256.pem"), "identities"),
        (("--no-kid",), "recipients"),
    ):
        run = place.encrypt(*changed)
        assert run.code == 2
        assert f"journal list.journal, line 1: it is of another job, with other {what}" in (run.err)
    assert place.encrypt("--jobs", 1, "--fail-fast").code == 0  # what is written is the same


def test_a_list_on_standard_input_and_images_by_pattern(place: Place) -> None:
    place.images(3)
    done = subprocess.run(
        command("encrypt", "--from", "-", "--to", "oci:s1:{tag}", "--journal", "j", "--json",
                *place.recipient),
        input="oci:plain:v0\noci:plain:v2\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["encrypted"] == 2
    assert tags(place.folder / "s1") == {"v0", "v2"}
    run = place.encrypt("--to", "oci:s2:{name}-{tag}", "--journal", "k", source="oci:plain:v[12]")
    assert run.code == 0
    assert tags(place.folder / "s2") == {"plain-v1", "plain-v2"}
    run = place.encrypt("--to", "oci:s3:{tag}", "--journal", "l", source="oci:plain:x*")
    assert (run.code, "no image fits" in run.err) == (1, True)


def test_one_layout_takes_many_writers(place: Place) -> None:
    place.images(12)
    place.write_list(12)
    assert place.encrypt("--jobs", 6, "-q").code == 0
    assert tags(place.folder / "sealed") == {f"v{n}" for n in range(12)}
    check(place.folder / "sealed")
    assert len(entries(place.folder / "list.journal")) == 12


def test_notes_are_told_once(place: Place) -> None:
    place.images(3)
    place.write_list(3)
    assert place.encrypt().code == 0
    lines = [f"oci:sealed:v{n} oci:twice:v{n}" for n in range(3)]
    (place.folder / "again").write_text("\n".join(lines))
    run = place.encrypt(source="again")
    assert run.code == 0
    assert run.err.count("(3 images)") == 1, run.err
    assert run.err.count("warning: 3 images: nobody was added") == 1, run.err
    assert [line for line in run.err.splitlines() if line.startswith("  oci:twice:v")] == [
        f"  oci:twice:v{n}" for n in range(3)
    ]


def test_the_python_of_the_page(place: Place) -> None:
    many_images(place.folder / "app", ["v1", "v2"])
    shutil.copy(place.keys / "p256.pub.pem", "prod.pub.pem")
    (code,) = blocks(Path(__file__).parents[2] / "docs" / "how-to" / "bulk.md", "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2 0\n", "")


def test_from_python(place: Place) -> None:
    place.images(3)
    told: list[tuple[str, int, int]] = []
    report = library.encrypt_many(
        [
            ("oci:plain:v0", "oci:sealed:v0"),
            library.Job("oci:plain:v1", "oci:sealed:v1", options={"layers": ["0"]}),
        ],
        [f"jwe:{place.keys}/p256.pub.pem"],
        journal="journal",
        report=lambda image, done, total: told.append((image.state, done, total)),
    )
    assert (report.exit_code, report.count("encrypted")) == (0, 2)
    assert [one.layers for one in report.images] == [2, 1]
    assert told == [("encrypted", 1, 2), ("encrypted", 2, 2)]
    for wrong in ({"progress": print}, {"nothing": 1}):
        with pytest.raises((library.BoltsealError, TypeError)):
            library.encrypt_many([("oci:plain:v0", "oci:x:v0")], [], **wrong)
    with pytest.raises(library.BoltsealError, match="no recipient"):
        library.encrypt_many([("oci:plain:v0", "oci:x:v0")])
