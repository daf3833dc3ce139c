"""The journal of a bulk run is input like any other: torn, hostile, somebody else's, in use."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boltseal.errors import BoltsealError, IntegrityError, UsageError
from boltseal.image.bulk.journal import Entry, Journal
from boltseal.image.bulk.report import DONE, FAILED
from support.bulk import entries, states

if TYPE_CHECKING:
    from pathlib import Path

    from support.bulk import Place

HEADER = {"recipients": ["jwe x"], "identities": [], "options": {}}
DIGEST = "sha256:" + "a" * 64
ENTRY = Entry("oci:a:v1", DIGEST, "oci:b:v1", DIGEST, DONE, DIGEST)


def write(path: Path, *items: Entry) -> bytes:
    with Journal(str(path), HEADER) as journal:
        for one in items:
            journal.record(one)
    return path.read_bytes()


def test_lines_are_read_back_and_the_newest_counts(tmp_path: Path) -> None:
    path = tmp_path / "j"
    failed = Entry("oci:a:v2", None, "oci:b:v2", None, FAILED, DIGEST, 'no "\u2028\x1b there')
    later = Entry("oci:a:v1", DIGEST, "oci:b:v1", "sha256:" + "b" * 64, DONE, DIGEST)
    write(path, ENTRY, failed)
    write(path, later)
    with Journal(str(path), HEADER) as journal:
        assert journal.entries == {"oci:b:v1": later, "oci:b:v2": failed}


def test_every_torn_end_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "j"
    raw = write(path, ENTRY, Entry("s", DIGEST, "oci:c:v1", DIGEST, DONE, DIGEST))
    lines = raw.splitlines(keepends=True)
    ends = [len(b"".join(lines[:count])) for count in range(len(lines) + 1)]
    for cut in range(len(raw)):
        path.write_bytes(raw[:cut])
        whole = max(count for count, end in enumerate(ends) if end <= cut)
        with Journal(str(path), HEADER) as journal:
            assert len(journal.entries) == max(0, whole - 1)
            journal.record(ENTRY)
        assert path.read_bytes() == (
            b"".join(lines[: max(whole, 1)]) + lines[1]
        )  # and what is written next begins a line of its own


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"state":"encrypted"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_broken_line_before_the_end_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j"
    first, second = write(path, ENTRY).splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    with pytest.raises(IntegrityError) as caught, Journal(str(path), HEADER):
        pass
    assert caught.value.where[-1] == "line 2"
    assert path.read_bytes() == first + line + b"\n" + second


@pytest.mark.parametrize(
    "change",
    [
        {"state": "done"},
        {"digest": None},
        {"source_digest": None},
        {"digest": "sha256:abc"},
        {"digest": 1},
        {"source": ["oci:a:v1"]},
        {"destination": None},
        {"more": ""},
    ],
)
def test_a_line_with_other_members_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "j"
    first, second = write(path, ENTRY).splitlines(keepends=True)
    path.write_bytes(first + json.dumps({**json.loads(second), **change}).encode() + b"\n")
    with pytest.raises(IntegrityError), Journal(str(path), HEADER):
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_file_is_read_or_refused_and_then_left_alone(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(raw)
    path.chmod(0o600)
    try:
        with Journal(str(path), HEADER):
            pass
    except BoltsealError:
        assert path.read_bytes() == raw
    else:
        assert path.read_bytes().startswith(b'{"boltseal-bulk-journal":1,"recipients":["jwe x"]')


def test_a_file_that_is_no_journal_is_not_written_to(place: Place) -> None:
    place.images(1)
    place.write_list(1)
    for text in ("precious\n", "precious", "{}\n", '{"boltseal-bulk-journal":2}\n'):
        (place.folder / "precious").write_text(text)
        assert place.encrypt("--journal", "precious").code == 2
        assert (place.folder / "precious").read_text() == text
    assert not (place.folder / "sealed").exists()


def test_links_pipes_and_folders_are_no_journals(place: Place) -> None:
    place.images(1)
    place.write_list(1)
    os.symlink("elsewhere", place.folder / "link")
    os.mkfifo(place.folder / "pipe")
    (place.folder / "folder").mkdir()
    for name in ("link", "pipe", "folder", "missing/j"):
        run = place.encrypt("--journal", name)
        assert run.code == 1, name
    assert not (place.folder / "elsewhere").exists()
    assert not (place.folder / "sealed").exists()


def test_a_journal_that_others_may_write_is_not_believed(place: Place) -> None:
    place.images(1)
    place.write_list(1)
    assert place.encrypt().code == 0
    (place.folder / "list.journal").chmod(0o620)
    run = place.encrypt()
    assert run.code == 1
    assert "somebody else may write to it" in run.err


def test_a_journal_in_use_is_left_alone(place: Place) -> None:
    place.images(1)
    place.write_list(1)
    with (place.folder / "list.journal").open("w") as held:
        (place.folder / "list.journal").chmod(0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        run = place.encrypt()
        assert (run.code, "another run is using it" in run.err) == (1, True)
        assert not (place.folder / "sealed").exists()
    assert place.encrypt().code == 0


def test_a_journal_that_lies_skips_nothing_else(place: Place) -> None:
    """It can only make an image pass for done that is there under that digest."""
    place.images(2)
    place.write_list(2)
    assert place.encrypt().code == 0
    path = place.folder / "list.journal"
    lines = path.read_text().splitlines()
    lies = [{**json.loads(one), "digest": DIGEST, "destination": "oci:sealed:v9"}
            for one in lines[1:]]  # fmt: skip
    path.write_text("\n".join([lines[0], *map(json.dumps, lies)]) + "\n")
    assert states(place.encrypt("--json")) == ["encrypted"] * 2
    swapped = [{**one, "source": "oci:plain:v7"} for one in entries(path)]
    path.write_text("\n".join([lines[0], *map(json.dumps, swapped)]) + "\n")
    assert states(place.encrypt("--json")) == ["encrypted"] * 2


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """With room for half of the next line: none of it stays."""
    before = write(tmp_path / "j", ENTRY)
    code = f"""
import resource
from boltseal.errors import StorageError
from boltseal.image.bulk.journal import Entry, Journal
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100}, {len(before) + 100}))
with Journal("j", {HEADER!r}) as journal:
    try:
        journal.record({ENTRY!r})
    except StorageError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "while writing the journal j" in done.stdout
    assert (tmp_path / "j").read_bytes() == before


def test_another_job_is_told_by_the_first_line(tmp_path: Path) -> None:
    write(tmp_path / "j")
    with pytest.raises(UsageError, match=r"another job, with other options \(layers\)"):
        with Journal(str(tmp_path / "j"), {**HEADER, "options": {"layers": ["0"]}}):
            pass
