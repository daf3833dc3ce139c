"""A line of the log: as JSON writes it, of what is known and of the moment that it is written."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from boltseal.broker.app.logs import MAX_VALUE, Log
from boltseal.broker.release.jobs import Observed

if TYPE_CHECKING:
    import pytest

TEXT = st.text(max_size=8) | st.sampled_from(["x" * (MAX_VALUE + 1), '\u2028"\\\n\x00'])
SEEN = st.builds(
    Observed,
    kind=TEXT,
    code=TEXT,
    detail=TEXT,
    request=TEXT,
    tenant=TEXT,
    actor=TEXT,
    subject=TEXT,
    seconds=st.floats(0, 1e6),
    recorded=st.booleans(),
)
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@given(st.lists(SEEN, max_size=3), st.sampled_from(["info", "warning", "error"]))
def test_releases_are_written_as_json_writes_them(seen: list[Observed], least: str) -> None:
    lines: list[str] = []
    Log(lines.append, least).releases(seen)
    written = "".join(lines).splitlines(keepends=True) if lines else []
    wanted = []
    for one in seen:
        level = "warning" if one.code and not one.recorded else "info"
        if least == "error" or (least == "warning" and level == "info"):
            continue
        line = {"level": level, "event": one.kind, "code": one.code or "allowed"}
        texts = {
            name: getattr(one, name) for name in ("detail", "request", "tenant", "actor", "subject")
        }
        line |= {name: text[:MAX_VALUE] for name, text in texts.items() if text}
        line["code"] = line["code"][:MAX_VALUE]
        wanted.append({**line, "seconds": round(one.seconds, 6), "recorded": one.recorded})
    assert len(written) == len(wanted)
    for text, line in zip(written, wanted, strict=True):
        stamp = json.loads(text)["time"]
        assert STAMP.fullmatch(stamp)
        assert text == json.dumps({"time": stamp, **line}, separators=(",", ":")) + "\n"


def test_the_time_is_that_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    log = Log(lines.append)
    moments = [0.0, 0.9996, 1.0, 1.5, 1_795_636_349.25, 1_795_636_348.0, 86_399.999, 86_400.0]
    for moment in moments:
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        log.event("anything")
    for moment, line in zip(moments, lines, strict=True):
        wanted = datetime.fromtimestamp(moment, UTC)
        stamp = f"{wanted:%Y-%m-%dT%H:%M:%S}.{int(moment % 1 * 1000):03}Z"
        assert json.loads(line) == {"time": stamp, "level": "info", "event": "anything"}
