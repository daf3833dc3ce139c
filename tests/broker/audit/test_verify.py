"""Verifying finds every change, and says where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boltseal.broker.audit import lines
from boltseal.broker.audit.checkpoint import Checkpoint
from support.broker_audit import (
    NOW,
    Forger,
    History,
    canonical,
    checkpoint_of,
    ended,
    principal,
    release,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.broker.audit.conftest import Kept

    from boltseal.broker.store.database import Database


def _records(data: bytes) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in data.splitlines())
    return [line["record"] for line in found if "record" in line]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a record that has a value, also lists and objects as a whole."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _paths(value[key], (*path, key))


def _changed(document: Any, path: tuple[Any, ...]) -> Any:
    """The document with another value at a place."""
    made = json.loads(json.dumps(document))
    place = made
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    if isinstance(old, bool) or old is None:
        place[path[-1]] = not old
    elif isinstance(old, int):
        place[path[-1]] = old + 1
    elif isinstance(old, str):
        place[path[-1]] = old + "x"
    else:
        place[path[-1]] = {} if old else {"x": 1}
        if isinstance(old, list):
            place[path[-1]] = list(place[path[-1]]) or old[:-1]
    assert made != document
    return made


def test_every_field_of_every_kind_of_record(kept: Kept) -> None:
    """As somebody would who cannot compute hashes, and as somebody who can."""
    history, tried = kept.history, 0
    forger = Forger(kept.data)
    raw = kept.data.splitlines()
    for place, document in enumerate(_records(kept.data)[:13]):  # the others are like these
        for path in _paths(document):
            seq, changed = place + 1, _changed(document, path)
            before = f'"record":{canonical(document)}}}'
            one = [
                line.decode().replace(before, f'"record":{canonical(changed)}}}')
                for line in raw[: place + 5]
            ]
            verdict = history.verify(ended(one, forger.newest))
            assert verdict.finding is not None, (path, document)
            assert verdict.finding.seq == seq, (path, verdict.finding)
            assert verdict.finding.code in ("changed", "gap"), verdict.finding
            tried += 1
    assert tried > 250
    assert {one["kind"] for one in _records(kept.data)[:13]} == {
        "release", "wrap", "key", "policy", "trust", "revocation", "administer", "system",
    }  # fmt: skip


def test_every_kind_of_record_with_all_hashes_computed_anew(kept: Kept) -> None:
    last_signed = kept.checkpoints[-1].seq
    marks = [one.seq for one in kept.checkpoints]
    for place, document in enumerate(_records(kept.data)):
        forger = Forger(kept.data)
        forger.set(place, {**document, "actor": "mallory"})
        finding = kept.history.verify(forger.encode()).finding
        seq = place + 1
        if seq > last_signed:  # nothing signs it yet
            assert finding is None
            continue
        assert finding is not None
        assert finding.code == "rewritten"
        upper = next(mark for mark in marks if mark >= seq)
        assert finding.seq == max([mark for mark in marks if mark < seq], default=0) + 1
        assert f"up to record {upper}" in finding.message


def _remove(forger: Forger) -> None:
    del forger.links[5]
    forger.renumber()


def _insert(forger: Forger) -> None:
    forger.links.insert(5, forger.links[4])
    forger.renumber()


def _swap(forger: Forger) -> None:
    forger.links[5], forger.links[6] = forger.links[6], forger.links[5]
    forger.renumber()


def _hide(forger: Forger) -> None:
    for place in range(len(forger.links)):
        forger.links[place] = (None, forger.links[place][1])


@pytest.mark.parametrize("change", [_remove, _insert, _swap])
def test_records_that_are_removed_inserted_or_swapped(
    kept: Kept, change: Callable[[Forger], None]
) -> None:
    forger = Forger(kept.data)
    change(forger)
    finding = kept.history.verify(forger.encode()).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("rewritten", kept.checkpoints[0].seq + 1)


def _lines(data: bytes) -> list[str]:
    return data.decode().splitlines()


@pytest.mark.parametrize(
    ("edit", "code", "seq"),
    [
        (lambda one: one.pop(6), "gap", 5),
        (lambda one: one.insert(6, one[6]), "duplicate", 5),
        (lambda one: one.insert(7, one[5]), "order", 6),
        (lambda one: one.__setitem__(slice(6, 8), [one[7], one[6]]), "gap", 5),
        (lambda one: one.__setitem__(slice(2, 9), []), "gap", 2),
        (lambda one: one.insert(4, one[3]), "replayed", 2),
        (lambda one: one.insert(9, one[3]), "replayed", 2),
    ],
)
def test_lines_that_are_removed_inserted_or_swapped(
    kept: Kept, edit: Callable[[list[str]], None], code: str, seq: int
) -> None:
    """Line 3 is the first checkpoint, of record 2; line n has record n - 1 from there on."""
    found = _lines(kept.data)
    newest = json.loads(found.pop())["end"]["newest"]
    assert '"checkpoint"' in found[3]
    edit(found)
    finding = kept.history.verify(ended(found, newest)).finding
    assert finding is not None
    assert (finding.code, finding.seq) == (code, seq), finding


def test_a_tail_that_is_cut_off(kept: Kept) -> None:
    found = _lines(kept.data)
    second = next(n for n, line in enumerate(found) if str(kept.checkpoints[1]) in line)
    cut = ended(found[: second + 1], str(kept.checkpoints[1]))
    # a whole, older export looks just like this: only a checkpoint from elsewhere tells
    assert kept.history.verify(cut).finding is None
    finding = kept.history.verify(cut, kept.checkpoints[2:]).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("truncated", kept.checkpoints[1].seq + 1)
    # with the newest checkpoint left in the last line
    finding = kept.history.verify(ended(found[: second + 1], str(kept.checkpoints[2]))).finding
    assert finding is not None
    assert finding.code == "truncated"
    for size in (0, 1, 100, len(kept.data) // 2, len(kept.data) - 1):
        finding = kept.history.verify(kept.data[:size]).finding
        assert finding is not None
        assert finding.code == "malformed"
        assert "cut off" in finding.message


def test_an_older_checkpoint_in_place_of_the_newest(kept: Kept) -> None:
    forger = Forger(kept.data)
    forger.newest = str(kept.checkpoints[0])
    finding = kept.history.verify(forger.encode()).finding
    assert finding is not None
    assert finding.code == "replayed"


def test_forged_and_foreign_checkpoints(kept: Kept) -> None:
    one = kept.checkpoints[1]
    by_stranger = checkpoint_of(one.broker, one.seq, one.hash)
    stolen = Checkpoint.parse(by_stranger)
    claimed = Checkpoint(one.broker, one.seq, one.time, one.hash, one.key, stolen.signature)
    for line, code in ((by_stranger, "foreign"), (str(claimed), "forged")):
        forger = Forger(kept.data)
        place = next(at for at, text in forger.checkpoints.items() if text == str(one))
        forger.checkpoints[place] = line
        finding = kept.history.verify(forger.encode()).finding
        assert finding is not None
        assert (finding.code, finding.seq) == (code, one.seq)
        finding = kept.history.verify(kept.data, [Checkpoint.parse(line)]).finding
        assert finding is not None
        assert finding.code == code
    finding = kept.history.verify(kept.data.replace(b'"seal":"', b'"seal":"AAAA')).finding
    assert finding is not None


def test_two_chains_spliced(kept: Kept, sqlite: Database) -> None:
    other = History(sqlite)
    other.fill()
    mine, theirs = Forger(kept.data), Forger(other.export())
    mine.links[8:] = theirs.links[8:]
    finding = kept.history.verify(mine.encode()).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("rewritten", kept.checkpoints[0].seq + 1)
    # with the other's links as they are
    found = _lines(kept.data)[:9] + _lines(other.export())[9:-1]
    finding = kept.history.verify(ended(found, None)).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("changed", 8)
    # and another broker's export as a whole
    finding = kept.history.verify(other.export()).finding
    assert finding is not None
    assert finding.code == "foreign"


def test_a_broker_with_two_histories(sqlite: Database, tmp_path: Path) -> None:
    """As after a restored backup, or with a copy: both are signed by the broker's own key."""
    history = History(sqlite)
    one = history.checkpoint()
    history.add(release(principal("node-1")))
    first = history.checkpoint()
    other = history.signer.sign(first.seq, "0" * 64, NOW)
    finding = history.verify(history.export(), [first, other]).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("rewritten", first.seq)
    assert "two histories" in finding.message
    finding = history.verify_database([one, other]).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("rewritten", one.seq + 1)


def test_a_record_behind_its_hash(kept: Kept) -> None:
    """Somebody hides what happened: the chain holds, and the signature under it all does not."""
    data = kept.history.export("acme")
    forger = Forger(data)
    _hide(forger)
    verdict = kept.history.verify(forger.encode())
    assert (verdict.finding, verdict.records, verdict.sealed) == (None, 0, False)
    assert any("hidden" in one for one in verdict.warnings)
    last = _lines(data)[-1]
    body = "".join(f"{line}\n" for line in _lines(forger.encode())[:-1])
    finding = kept.history.verify(f"{body}{last}\n".encode()).finding
    assert finding is not None
    forger = Forger(kept.data)  # an export of everything has no reason to
    _hide(forger)
    finding = kept.history.verify(forger.encode()).finding
    assert finding is not None
    assert finding.code == "gap"


def test_another_tenants_record(kept: Kept) -> None:
    forger = Forger(kept.data)
    forger.header["tenant"] = "acme"
    finding = kept.history.verify(forger.encode()).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("foreign", 1)


def test_versions_that_are_not_known(kept: Kept) -> None:
    forger = Forger(kept.data)
    forger.header["boltseal"] = "boltseal audit export/2"
    finding = kept.history.verify(forger.encode()).finding
    assert finding is not None
    assert (finding.code, finding.line) == ("version", 1)
    forger = Forger(kept.data)
    forger.checkpoints = {}
    document = json.loads(forger.links[3][0] or "")
    forger.set(3, {**document, "v": 2})
    finding = kept.history.verify(forger.encode()).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("version", 4)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n" * 3,
        b"\xff\xfe\n",
        b'{"boltseal":"boltseal audit export/1"}\n',
        b'{"boltseal":["boltseal audit export/1"]}\n',
        b'{"boltseal":"broker backup/1"}\n',
        b"{" * 4000 + b"\n",
        b"x" * (lines.MAX_LINE + 5) + b"\n",
        b'{"boltseal":"boltseal audit export/1","broker":"' + b"\xe2\x80\xae" + b'"}\n',
    ],
)
def test_hostile_files(kept: Kept, data: bytes) -> None:
    finding = kept.history.verify(data).finding
    assert finding is not None
    assert finding.code == "malformed"
    assert finding.line == 1
    assert finding.message.isprintable()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"hash":"%b","record":{}}' % (b"0" * 64),
        b'{"end":{}}',
        b'{"end":null}',
        b'{"checkpoint":"boltseal-checkpoint/1"}',
        b'{"hash":"%b","record_hash":"%b","seq":99999999999999999999}' % (b"0" * 64, b"0" * 64),
        b'{"hash":"%b","record_hash":"%b","seq":0}' % (b"0" * 64, b"0" * 64),
        b'{"hash":"%b","record":{"x":"%b"}}' % (b"0" * 64, b"y" * lines.MAX_LINE),
        b'{"hash":"%b","record":{"\xff":1}}' % (b"0" * 64),
    ],
)
def test_hostile_lines(kept: Kept, line: bytes) -> None:
    first = kept.data.splitlines(keepends=True)[0]
    verdict = kept.history.verify(first + line + b"\n")
    assert verdict.finding is not None
    assert verdict.finding.line == 2
    assert verdict.last == 0
    assert verdict.finding.message.isprintable()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_byte_that_changes_is_found(kept: Kept, data: st.DataObject) -> None:
    tenant = data.draw(st.sampled_from(("*", "acme")))
    export = kept.data if tenant == "*" else kept.history.export("acme")
    place = data.draw(st.integers(0, len(export) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != export[place]))
    changed = export[:place] + bytes([byte]) + export[place + 1 :]
    verdict = kept.history.verify(changed)
    assert verdict.finding is not None
