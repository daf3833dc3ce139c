"""``boltseal keys sync``: a runtime's folder follows a source, and an outage deletes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import BoltsealError
from boltseal.runtime.keysync import sync
from support.cli import Run, boltseal, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("a.pem", "b.pem", "c.pem", "d.pem")


@pytest.fixture
def source(tmp_path: Path, keys: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copy(keys / "p256.pem", folder / "a.pem")
    shutil.copy(keys / "p384.pem", folder / "b.pem")
    return folder


def run(source: object, dest: Path, *more: object) -> Run:
    return boltseal("keys", "sync", "--source", source, "--dest", dest, *more)


def names(dest: Path) -> list[str]:
    return sorted(os.listdir(dest))


def test_keys_come_change_and_go(tmp_path: Path, source: Path, keys: Path) -> None:
    dest = tmp_path / "dest"
    assert run(source, dest).code == 0
    assert names(dest) == ["a.pem", "b.pem"]
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    assert all(stat.S_IMODE((dest / name).stat().st_mode) == 0o600 for name in names(dest))
    shutil.copy(keys / "rsa2048.pem", source / "a.pem")
    shutil.copy(keys / "p521.pem", source / "c.pem")
    (source / "b.pem").unlink()
    report = json.loads(run(source, dest, "--json").out)
    assert (report["added"], report["changed"]) == (["c.pem"], ["a.pem"])
    assert (report["removed"], report["kept"]) == (["b.pem"], [])
    assert (dest / "a.pem").read_bytes() == (keys / "rsa2048.pem").read_bytes()
    assert names(dest) == ["a.pem", "c.pem"]
    assert "2 kept" in run(source, dest).out


def test_the_keys_open_an_image(tmp_path: Path, source: Path, keys: Path, data: Path) -> None:
    from support.images import simple_image

    image, dest = simple_image(tmp_path / "image"), tmp_path / "dest"
    sealed = f"oci:{tmp_path}/sealed:v1"
    assert (
        boltseal("encrypt", image.reference(), sealed, "-r", f"jwe:{keys}/p384.pub.pem").code == 0
    )
    run(source, dest)
    assert boltseal("check", sealed, "-k", dest).code == 0
    (source / "b.pem").unlink()
    run(source, dest)
    assert boltseal("check", sealed, "-k", dest).code == 3


def test_files_of_others_are_never_touched(tmp_path: Path, source: Path, keys: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir(mode=0o700)
    shutil.copy(keys / "other.pem", dest / "mine.pem")
    run(source, dest)
    shutil.rmtree(source)
    source.mkdir()
    shutil.copy(keys / "p256.pem", source / "a.pem")
    assert run(source, dest).code == 0
    assert names(dest) == ["a.pem", "mine.pem"]
    shutil.copy(keys / "p521.pem", source / "mine.pem")
    refused = run(source, dest)
    assert refused.code == 1
    assert "another file called mine.pem" in refused.err
    assert (dest / "mine.pem").read_bytes() == (keys / "other.pem").read_bytes()


def test_two_sources_share_a_folder(tmp_path: Path, source: Path, keys: Path) -> None:
    dest, second = tmp_path / "dest", tmp_path / "second"
    second.mkdir()
    shutil.copy(keys / "p521.pem", second / "z.pem")
    run(source, dest)
    run(second, dest)
    assert names(dest) == ["a.pem", "b.pem", "z.pem"]
    (source / "a.pem").unlink()
    run(source, dest)
    assert names(dest) == ["b.pem", "z.pem"]
    shutil.copy(keys / "p521.pem", second / "b.pem")
    clash = run(second, dest)
    assert clash.code == 1
    assert f"b.pem comes from {source} already" in clash.err


def outage_gone(source: Path) -> None:
    shutil.rmtree(source)


def outage_empty(source: Path) -> None:
    for name in os.listdir(source):
        (source / name).unlink()


def outage_loop(source: Path) -> None:
    (source / "a.pem").unlink()
    (source / "a.pem").symlink_to("a.pem")


def outage_outside(source: Path) -> None:
    (source / "a.pem").unlink()
    (source / "a.pem").symlink_to("/etc/passwd")


def outage_pipe(source: Path) -> None:
    (source / "a.pem").unlink()
    os.mkfifo(source / "a.pem")


def outage_half(source: Path) -> None:
    (source / "a.pem").write_bytes(b"")


def outage_large(source: Path) -> None:
    with (source / "more.pem").open("wb") as file:
        file.truncate(64 << 20)


def outage_many(source: Path) -> None:
    for number in range(1001):
        (source / f"{number}.txt").touch()


@pytest.mark.parametrize(
    "outage",
    [
        outage_gone, outage_empty, outage_loop, outage_outside, outage_pipe, outage_half,
        outage_large, outage_many,
    ],
)  # fmt: skip
def test_an_outage_is_not_a_deletion(tmp_path: Path, source: Path, outage: object) -> None:
    dest = tmp_path / "dest"
    run(source, dest)
    before = {name: (dest / name).read_bytes() for name in names(dest)}
    outage(source)  # type: ignore[operator]
    failed = run(source, dest)
    assert failed.code in (1, 4), failed
    assert failed.err.startswith("error: ")
    assert {name: (dest / name).read_bytes() for name in names(dest)} == before


def test_all_of_them_withdrawn_on_purpose(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "dest"
    run(source, dest)
    outage_empty(source)
    assert run(source, dest, "--allow-empty").code == 0
    assert names(dest) == []


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"command:{path}"


def test_a_program_that_knows_keys(tmp_path: Path, keys: Path) -> None:
    answer = tmp_path / "answer"
    listing = program(
        tmp_path, f'printf \'{{"keys": {{"a.pem": "%s"}}}}\' "$(base64 -w0 {answer})"'
    )
    shutil.copy(keys / "p256.pem", answer)
    dest = tmp_path / "dest"
    assert run(listing, dest).code == 0
    assert (dest / "a.pem").read_bytes() == answer.read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        "exit 3", "kill -9 $$", "echo", "echo '{}'", "head -c 20000000 /dev/zero",
        "echo '{\"keys\": []}'", "echo '{\"keys\": {}}'", 'echo \'{"keys": {"a.pem": 1}}\'',
        'echo \'{"keys": {"a.pem": "!"}}\'', 'echo \'{"keys": {"../x": "MA=="}}\'',
    ],
)  # fmt: skip
def test_a_program_that_fails_deletes_nothing(tmp_path: Path, keys: Path, text: str) -> None:
    dest = tmp_path / "dest"
    key = program(
        tmp_path, f'printf \'{{"keys": {{"a.pem": "%s"}}}}\' "$(base64 -w0 {keys}/p256.pem)"'
    )
    assert run(key, dest).code == 0
    program(tmp_path, text)
    failed = run(key, dest)
    assert failed.code in (1, 4), failed
    assert names(dest) == ["a.pem"]
    assert not (tmp_path / "x").exists()


def test_places_that_are_not_for_keys(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    dest.chmod(0o777)
    assert "others may write to it" in run(source, dest).err
    (tmp_path / "link").symlink_to(dest)
    assert run(source, tmp_path / "link").code == 4
    assert names(dest) == []


def test_a_record_that_lies(tmp_path: Path, source: Path) -> None:
    dest, record = tmp_path / "dest", tmp_path / "record"
    victim = tmp_path / "victim"
    victim.write_text("stays")
    for text in (
        "[]", "{", '{"version": 2, "sources": {}}', '{"version": 1, "sources": {"x": []}}',
        json.dumps({"version": 1, "sources": {str(source): {"../victim": "sha256:0"}}}),
        json.dumps({"version": 1, "sources": {str(source): {"..": "sha256:0"}}}),
    ):  # fmt: skip
        record.write_text(text)
        assert run(source, dest, "--record", record).code == 4, text
    assert victim.read_text() == "stays"


def test_a_record_that_somebody_else_put_there(tmp_path: Path, source: Path) -> None:
    """It neither says what to remove nor leads to where else to write."""
    dest, record = tmp_path / "dest", tmp_path / ".dest.boltseal-sync.json"
    dest.mkdir(mode=0o700)
    shutil.copy(source / "a.pem", dest / "own.pem")
    record.symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link" in run(source, dest).err
    record.unlink()
    os.mkfifo(record)
    assert "not a regular file" in run(source, dest).err
    record.unlink()
    mine = {"version": 1, "sources": {str(source): {"own.pem": "sha256:0"}}}
    record.write_text(json.dumps(mine))
    record.chmod(0o666)
    assert "others may write to it" in run(source, dest).err
    assert names(dest) == ["own.pem"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_dry_run_changes_nothing(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "dest"
    assert "2 would be added" in run(source, dest, "--dry-run").out
    assert names(dest) == []


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("p256", "p384", "p521")))))
def test_the_folder_is_what_the_source_is(
    tmp_path_factory: pytest.TempPathFactory, keys: Path, states: list[dict[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("states")
    source, place = root / "source", sync.Place.of(str(root / "dest"))
    for state in states:
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for name, key in state.items():
            shutil.copy(keys / f"{key}.pem", source / name)
        sync.sync(str(source), place, {}, allow_empty=True)
        found = {name: (root / "dest" / name).read_bytes() for name in os.listdir(root / "dest")}
        assert found == {name: (source / name).read_bytes() for name in state}


def test_a_run_that_is_stopped_forgets_nothing(
    tmp_path: Path, source: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stops: the next one takes away what was withdrawn meanwhile."""
    dest, place = tmp_path / "dest", sync.Place.of(str(tmp_path / "dest"))
    for stop_at in range(1, 6):
        calls = 0

        def stop(*_: object, limit: int = stop_at) -> None:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise KeyboardInterrupt

        shutil.copy(keys / "p521.pem", source / f"{stop_at}.pem")
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(os, "fsync", stop)
            sync.sync(str(source), place, {})
        (source / f"{stop_at}.pem").unlink()
        assert not [name for name in names(dest) if name.startswith(".")]
        sync.sync(str(source), place, {})
        assert names(dest) == ["a.pem", "b.pem"]


@contextmanager
def watching(source: Path, dest: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("keys", "sync", "--watch", "--source", source, "--dest", dest, *more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_secret_of_kubernetes_is_followed(tmp_path: Path, keys: Path) -> None:
    """Such a mount is links into a folder that is put in place of another, all at once."""
    mount, dest = tmp_path / "mount", tmp_path / "dest"
    mount.mkdir()

    def publish(version: str, **content: str) -> None:
        (mount / f"..{version}").mkdir()
        for name, key in content.items():
            shutil.copy(keys / f"{key}.pem", mount / f"..{version}" / f"{name}.pem")
            if not (mount / f"{name}.pem").is_symlink():
                (mount / f"{name}.pem").symlink_to(f"..data/{name}.pem")
        (mount / "..new").symlink_to(f"..{version}")
        (mount / "..new").rename(mount / "..data")
        for link in list(mount.glob("*.pem")):
            if not link.exists():
                link.unlink()

    publish("one", a="p256", b="p384")
    with watching(mount, dest, "--interval", "600") as process:
        until(lambda: dest.exists() and names(dest) == ["a.pem", "b.pem"])
        publish("two", a="p521")
        until(lambda: names(dest) == ["a.pem"])
        until(lambda: (dest / "a.pem").read_bytes() == (keys / "p521.pem").read_bytes())
        os.rename(mount, tmp_path / "away")  # an outage
        until(lambda: process.poll() is None and names(dest) == ["a.pem"])
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors
    assert errors.endswith("note: stopped\n")
    assert names(dest) == ["a.pem"]


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path, source: Path) -> None:
    printed = run(source, tmp_path / "dest", "--print-unit")
    assert printed.code == 0
    assert f"--source {source} --dest {tmp_path}/dest" in printed.out
    assert "@" not in printed.out.replace("@system", "")
    assert "--interval" not in printed.out
    assert printed.out.count(" keys sync --source ") == 1  # the runtimes wait for the first look
    program = run("command:/bin/echo", tmp_path / "dest", "--print-unit")
    assert "ExecStartPre" not in program.out
    refused = run(f"{source}; reboot", tmp_path / "dest", "--print-unit")
    assert refused.code == 2
    assert run(source, tmp_path / "dest", "--print-unit", "--allow-empty").code == 2
    often = run(source, tmp_path / "none" / "dest", "--print-unit", "--interval", "5")
    assert "/record.json --interval 5\n" in often.out
    assert f"{tmp_path}/none does not exist, and the unit does not start" in often.err
    if shutil.which("systemd-analyze"):
        unit = tmp_path / "boltseal-keys-sync.service"
        unit.write_text(re.sub(r"(ExecStart(?:Pre)?)=\S+", r"\1=/bin/true", printed.out))
        done = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )
        assert "boltseal-keys-sync" not in done.stderr, done.stderr


def test_errors_are_of_the_tree(tmp_path: Path) -> None:
    with pytest.raises(BoltsealError):
        sync.sync(str(tmp_path / "nothing"), sync.Place.of(str(tmp_path / "dest")), {})
    assert not (tmp_path / "dest").exists()
