"""Archives, pipes, and what users should be told of their images."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from support.cli import Run, boltseal, command
from support.images import (
    Layout,
    simple_image,
    tar_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path) -> Layout:
    layout = Layout.__new__(Layout)
    layout.path = path
    return layout


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


def test_an_archive_replaces_nothing_but_an_archive(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    key = tmp_path / "prod.pem"
    key.write_text("a key that nobody has twice" * 50)
    other = tmp_path / "backup.tar"
    other.write_bytes(tar_bytes({"home": b"x"}))
    for path in (key, other):
        before = path.read_bytes()
        run = boltseal("copy", source.reference(), f"oci-archive:{path}:v1")
        assert (run.code, "is not an OCI archive" in run.err) == (1, True)
        assert path.read_bytes() == before
    run = boltseal("copy", source.reference(), "oci-archive:/dev/null:v1")
    assert (run.code, "is not an OCI archive" in run.err) == (1, True)
    empty = tmp_path / "empty"
    empty.touch()
    ok("copy", source.reference(), f"oci-archive:{empty}:v1")
    ok("copy", source.reference(), f"oci-archive:{empty}:v2")


def test_an_archive_behind_a_link_stays_behind_it(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    (tmp_path / "far").mkdir()
    link = tmp_path / "link.tar"
    link.symlink_to("far/real.tar")
    ok("copy", source.reference(), f"oci-archive:{link}:v1")
    assert link.is_symlink()
    assert (tmp_path / "far" / "real.tar").stat().st_size > 0


def test_encrypting_in_place_says_what_stays(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src")
    run = ok(
        "encrypt", source.reference(), source.reference("v2"), "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert "the image as it was before is still there, in the clear" in run.err
    run = ok(
        "encrypt", source.reference(), f"oci:{tmp_path}/o:v2", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert run.err == ""


def test_a_recipient_named_twice_counts_once(tmp_path: Path, keys: Path) -> None:
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = ok("encrypt", source.reference(), enc, *who, *who)
    assert "for 1 recipient\n" in run.out
    report = json.loads(ok("inspect", enc, "--json").out)
    assert len(report["manifests"][0]["layers"][0]["keys"]) == 1


def test_an_image_without_layers(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src", ())
    run = ok(
        "encrypt", source.reference(), f"oci:{tmp_path}/e:v1", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert "note: the image has no layer" in run.err


def test_layers_that_are_not_there_are_not_said_to_be_in_a_layer(
    tmp_path: Path, keys: Path
) -> None:
    source = simple_image(tmp_path / "src")
    run = boltseal(
        "encrypt",
        source.reference(),
        f"oci:{tmp_path}/e:v1",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
        "--layer",
        "5",
    )
    assert f"{source.reference()}, linux/amd64: there is no layer 5: the image has 2" in run.err


def test_an_archive_through_a_named_pipe(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(command("copy", source.reference(), f"oci-archive:{pipe}:v1"))
    ok("copy", f"oci-archive:{pipe}:v1", f"oci:{tmp_path}/o:v1")
    assert writer.wait(60) == 0
    assert opened(tmp_path / "o").root()["digest"] == source.root()["digest"]
    assert pipe.is_fifo()


def test_archives_through_standard_input_and_output(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    first = subprocess.Popen(
        command("encrypt", source.reference(), "oci-archive:-:v1", *who), stdout=subprocess.PIPE
    )
    second = subprocess.run(
        command("decrypt", "oci-archive:-", "oci-archive:-:v2", "-k", f"{keys}/p256.pem"),
        stdin=first.stdout,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert first.stdout is not None
    first.stdout.close()
    assert first.wait(60) == 0
    (tmp_path / "out.tar").write_bytes(second.stdout)
    ok("copy", f"oci-archive:{tmp_path}/out.tar:v2", f"oci:{tmp_path}/o:v1")
    assert opened(tmp_path / "o").root()["digest"] == source.root()["digest"]
    third = subprocess.run(
        command("decrypt", "oci-archive:-", "oci-archive:-", "-k", f"{keys}/other.pem"),
        input=second.stdout[:-3000],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert third.returncode != 0
    assert third.stdout == b""


def test_json_is_one_document(tmp_path: Path, keys: Path) -> None:
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    done = json.loads(ok("encrypt", source.reference(), enc, *who, "--json").out)
    assert done["digest"] == opened(tmp_path / "enc").root()["digest"]
    assert [layer["action"] for layer in done["layers"]] == ["encrypted", "encrypted"]
    shown = json.loads(ok("inspect", enc, "--json").out)
    (manifest,) = shown["manifests"]
    assert manifest["platform"] == "linux/amd64"
    for layer in manifest["layers"]:
        assert layer["encrypted"] is True
        assert layer["cipher"] == "AES_256_CTR_HMAC_SHA256"
        (key,) = layer["keys"]
        assert key["algorithm"] == "ECDH-ES+A256KW"
    run = boltseal("decrypt", enc, f"oci:{tmp_path}/no:v1", "-k", f"{keys}/other.pem", "--json")
    error = json.loads(run.out)["error"]
    assert run.code == error["exit_code"] == 3
    assert error["type"] == "NoMatchingKeyError"
    assert error["where"] == [enc, "linux/amd64", "layer 0"]
    assert [one["layer"] for one in error["attempts"]] == ["linux/amd64 0", "linux/amd64 1"]


def test_quiet_prints_errors_only(tmp_path: Path, keys: Path) -> None:
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = ok("encrypt", source.reference(), enc, *who, "--quiet")
    assert (run.out, run.err) == ("", "")
    # what changes the meaning of the result is told all the same
    run = ok("encrypt", enc, f"oci:{tmp_path}/again:v1", *who, "-q")
    assert run.out == ""
    assert run.err.startswith("warning: nobody was added")
    assert len(run.err.splitlines()) == 1
    run = boltseal("decrypt", enc, f"oci:{tmp_path}/no:v1", "-k", f"{keys}/other.pem", "-q")
    assert run.out == ""
    assert run.err.startswith("error: ")
