"""A bulk run that is killed or stopped goes on where it was: nothing twice, nothing left out."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from support.bulk import entries, states
from support.cli import command
from support.images import TAR, Layout, add_manifest, tar_bytes
from support.layouts import check, tags, temporaries

if TYPE_CHECKING:
    from pathlib import Path

    from support.bulk import Place

IMAGES = 12


@pytest.fixture
def big(place: Place) -> Place:
    """Images of 2 MiB each, and a list of them."""
    layout = Layout(place.folder / "plain")
    for number in range(IMAGES):
        tar = tar_bytes({"f": random.Random(number).randbytes(2 << 20)})
        entry = add_manifest(layout, [tar], [TAR])
        layout.tag(entry["mediaType"], entry["digest"], entry["size"], f"v{number}")
    place.write_list(IMAGES)
    return place


def start(place: Place, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("encrypt", "--from", "list", "--jobs", "2", *place.recipient, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def until_it_has_done(process: subprocess.Popen[str], journal: Path, count: int) -> None:
    """Wait for so many more lines of the journal."""
    wanted = lines(journal) + count
    while process.poll() is None and lines(journal) < wanted:
        time.sleep(0.001)


def test_sigkill_at_random_moments(big: Place) -> None:
    journal, sealed = big.folder / "list.journal", big.folder / "sealed"
    chance, kills = random.Random("bulk"), 0
    for _ in range(40):
        process = start(big)
        until_it_has_done(process, journal, chance.choice([0, 1, 1, 2]))
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        kills += 1
        known = {one["destination"]: one["digest"] for one in entries_so_far(journal)}
        index = json.loads((sealed / "index.json").read_bytes()) if tags(sealed) else None
        digests = {one["digest"] for one in index["manifests"]} if index else set()
        assert set(known.values()) <= digests  # what the journal says is there
    assert kills >= 3, "the kills came too late to mean anything"
    done = start(big, "--json")
    out, err = done.communicate()
    assert done.returncode == 0, err
    found = json.loads(out)
    assert found["encrypted"] + found["skipped"] == IMAGES
    assert tags(sealed) == {f"v{n}" for n in range(IMAGES)}
    check(sealed)
    assert temporaries(sealed) == []
    # a line is written once: what was done was never done again
    assert set(Counter(one["destination"] for one in entries(journal)).values()) == {1}
    assert all(big.is_right(f"oci:sealed:v{n}") for n in range(IMAGES))


def entries_so_far(journal: Path) -> list[dict[str, str]]:
    """All whole lines."""
    text = journal.read_bytes() if journal.exists() else b""
    return [json.loads(one) for one in text[: text.rfind(b"\n") + 1].splitlines()[1:]]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_stops_it_and_it_says_how_to_go_on(big: Place, number: int, code: int) -> None:
    journal = big.folder / "list.journal"
    process = start(big)
    until_it_has_done(process, journal, 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "to go on, run the same command again: list.journal knows what is done" in err
    assert f" of {IMAGES} images have ended" in err
    assert "Traceback" not in err
    assert temporaries(big.folder / "sealed") == []
    check(big.folder / "sealed")
    # what is in the layout is in the journal, too: images that ended meanwhile count
    known = {one["destination"].rpartition(":")[2] for one in entries(journal)}
    assert tags(big.folder / "sealed") == known
    assert 2 <= len(known) < IMAGES
    again = big.encrypt("--json")
    assert states(again).count("skipped") == len(known)
    assert states(again).count("encrypted") == IMAGES - len(known)


def test_a_killed_run_lets_go_of_the_journal(big: Place) -> None:
    first = start(big)
    until_it_has_done(first, big.folder / "list.journal", 2)
    second = big.encrypt()
    first.kill()
    first.communicate()
    assert (second.code, "another run is using it" in second.err) == (1, True)
    assert big.encrypt().code == 0
