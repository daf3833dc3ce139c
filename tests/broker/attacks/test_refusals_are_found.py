"""The id in a refusal of an administrator is that of its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.broker import Broker

if TYPE_CHECKING:
    from pathlib import Path


def test_the_answer_names_the_record(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        broker.run("tenant", "create", "other")
        token = broker.run("admin", "create", "eve", "--tenant", "other", "--json").json["token"]
        answer = broker.ask("GET", "/v1/admin/tenants/default/keys", token=token)
        assert (answer.status, answer.code) == (403, "forbidden")
        broker.run("audit", "export", "--output", str(tmp_path / "audit.jsonl"))
        assert (tmp_path / "audit.jsonl").read_text().count(answer.json["error"]["request"]) == 1
