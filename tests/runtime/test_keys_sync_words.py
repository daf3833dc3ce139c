"""`boltseal keys sync` where something is missing or meant in another way, and its help."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boltseal.runtime.keysync import sync, watch
from support.cli import Run, boltseal, command


@pytest.fixture
def source(tmp_path: Path, keys: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copy(keys / "p256.pem", folder / "a.pem")
    return folder


def run(source: object, dest: Path, *more: object) -> Run:
    return boltseal("keys", "sync", "--source", source, "--dest", dest, *more)


def test_without_the_package_a_folder_is_looked_at_now_and_then(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)  # importing it fails
    assert not watch.sees_changes(str(source))
    place = sync.Place.of(str(tmp_path / "dest"))
    runs = watch.watch(lambda: sync.sync(str(source), place, {}), str(source), 0.01)
    assert isinstance(first := next(runs), sync.Report)
    assert first.is_change
    assert isinstance(second := next(runs), sync.Report)
    assert not second.is_change


def test_a_watch_tells_what_changes_at_once_and_nothing_else(source: Path, tmp_path: Path) -> None:
    words = ["keys", "sync", "--source", source, "--dest", tmp_path / "dest", "--watch"]
    process = subprocess.Popen(
        command(*words, "--interval", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(3)]
    assert told[0] == f"{tmp_path}/dest: 1 added\n"
    looks = tmp_path / "looks"
    (source / "a.pem").rename(looks)  # told once, however often it is looked
    assert process.stderr is not None
    assert process.stderr.readline().startswith("error: ")
    assert process.stderr.readline().startswith("hint: ")
    time.sleep(2.5)
    looks.rename(source / "a.pem")
    assert process.stdout.readline() == f"{tmp_path}/dest: 1 kept\n"
    time.sleep(2.5)
    process.terminate()
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (143, "", "note: stopped\n")


def test_a_folder_is_not_its_own_source(source: Path) -> None:
    done = run(source, source)
    assert done.code == 2
    assert "the very folder that they go to" in done.err


def test_the_folder_around_the_destination_is_not_made(source: Path, tmp_path: Path) -> None:
    done = run(source, tmp_path / "a" / "dest")
    assert done.code == 1
    assert f"the folder that {tmp_path}/a/dest should be made in does not exist" in done.err
    assert f"hint:  make it first: install -d -m 0700 {tmp_path}/a\n" in done.err


def test_a_program_that_prints_something_else_is_told_what_to_print(tmp_path: Path) -> None:
    done = run("command:/bin/echo", tmp_path / "dest")
    assert done.code == 4
    assert 'hint:  it prints {"keys": {"prod.pem":' in done.err


def test_the_unit_names_the_program_by_its_whole_path(source: Path, tmp_path: Path) -> None:
    """However it was called: systemd takes no other."""
    folder = Path(sys.executable).parent
    words = ["./boltseal", "keys", "sync", "--print-unit", "--source", source, "--dest", tmp_path]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    assert f"\nExecStart={folder}/boltseal keys sync --watch " in done.stdout
    assert f"\nExecStartPre=-{folder}/boltseal keys sync --source " in done.stdout


def test_the_help_has_the_name_that_the_pages_have() -> None:
    for name in ("key", "keys"):
        done = boltseal(name, "sync", "--help")
        assert done.code == 0
        assert done.out.startswith("usage: boltseal keys sync ")
        assert "examples:" in done.out
    assert "see boltseal keys sync --help" in boltseal("keys", "sync").err
