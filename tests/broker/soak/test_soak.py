"""Two replicas on PostgreSQL under load, while one is killed and the database is restarted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.audit.verify import verify_database
from boltseal.broker.service import keys, revocations
from boltseal.broker.service.access import SYSTEM
from support import broker_world as world
from support.broker import Broker
from support.broker_postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.broker.model import KeyVersion

pytestmark = pytest.mark.slow

RELEASED = 10_000
HOSTS = {"good": 34, "wrong-cluster": 8, "revoked": 9, "disabled": 8, "unknown-key": 5}  # 64
ALWAYS = {"good": "", "wrong-cluster": "forbidden", "unknown-key": "not-found"}
HALF_WAY = {"revoked": "revoked", "disabled": "disabled"}
# what happens when so many keys are released
KILL, REVOKE, RESTART, DISABLE = 1500, 3500, 5500, 7500


@dataclass
class Soak:
    """The world, both replicas, and when something was changed: before and after."""

    made: world.World
    replicas: list[Broker]
    postgres: Postgres
    keys: dict[str, KeyVersion]
    changed: dict[str, tuple[float, float]] = field(default_factory=dict)

    def kill(self) -> None:
        self.replicas[1].kill()
        self.replicas[1].start()

    def revoke(self) -> None:
        began = time.time()
        for number in range(HOSTS["revoked"]):
            identity = f"identity:x509:eu:revoked-{number}"
            revocations.revoke(self.made.database, SYSTEM, "default", identity)
        self.changed["revoked"] = began, time.time()

    def disable(self) -> None:
        began = time.time()
        keys.disable(self.made.database, SYSTEM, self.keys["disabled"].path, 1)
        self.changed["disabled"] = began, time.time()


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Soak]:
    server = Postgres()
    address = tmp_path / "address"
    address.write_text(server.database())
    address.chmod(0o600)
    made = world.World(Broker(tmp_path / "broker", "--database-file", str(address)), tmp_path)
    replicas = [made.broker, made.broker.replica()]
    try:
        found = {name: made.key(name) for name in ("prod", "disabled")}
        for one in replicas:
            one.start()
        yield Soak(made, replicas, server, found)
    finally:
        for one in replicas:
            one.stop()
        made.close()
        server.close()


def test_no_wrong_decision_and_no_release_without_its_record(soak: Soak, tmp_path: Path) -> None:
    told = _load(soak, tmp_path)
    assert told["released"] >= RELEASED
    # both outages were felt, and nobody was left without an answer in the end
    assert sum(told["trouble"].values()) > 0
    seen: Counter[tuple[str, str]] = Counter()
    for one in told["told"]:
        kind = one["host"].rpartition("-")[0]
        seen[kind, one["code"]] += 1
        assert one["code"] in _right(soak, kind, one), one
    for kind, code in {**ALWAYS, **HALF_WAY}.items():
        assert seen[kind, code] > 50, seen
    assert seen["revoked", ""] > 50, seen
    assert seen["disabled", ""] > 50, seen
    _check_audit(soak, told["told"])


def _load(soak: Soak, folder: Path) -> dict[str, Any]:
    plan, result = folder / "plan.json", folder / "told.json"
    plan.write_text(json.dumps(_plan(soak)))
    steps = [(KILL, soak.kill), (REVOKE, soak.revoke), (RESTART, soak.postgres.restart),
             (DISABLE, soak.disable)]  # fmt: skip
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.broker.soak.clients", str(plan), str(result)],
        stdout=subprocess.PIPE, text=True, cwd=root,
    ) as clients:  # fmt: skip
        assert clients.stdout is not None
        for line in clients.stdout:
            while steps and int(line) >= steps[0][0]:
                steps.pop(0)[1]()
    assert clients.returncode == 0
    assert not steps
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _plan(soak: Soak) -> dict[str, Any]:
    hosts = []
    for kind, count in HOSTS.items():
        key = soak.keys["disabled" if kind == "disabled" else "prod"]
        for number in range(count):
            of = "us" if kind == "wrong-cluster" else "eu"
            host = soak.made.host(f"{kind}-{number}", of)
            secret = world.secret()
            body, _ = world.ask(key, secret, layer=f"sha256:{len(hosts):064x}")
            members = {
                name: value
                for name, value in json.loads(body).items()
                if name not in ("v", "nonce", "time", "hpke")
            }
            if kind == "unknown-key":
                members["key"] = "default/default/there-is-none"
            hosts.append(
                {
                    "name": f"{kind}-{number}",
                    "certificate": str(host.certificate),
                    "key": str(host.key),
                    "requests": [{"members": members, "secret": secret.decode()}],
                }
            )
    places = [one.url.removeprefix("https://").split(":") for one in soak.replicas]
    return {
        "released": RELEASED,
        "ca": str(soak.made.broker.ca),
        "places": [[host, int(port)] for host, port in places],
        "hosts": hosts,
    }


def _right(soak: Soak, kind: str, one: dict[str, Any]) -> set[str]:
    """What this request may have been told."""
    if one["again"]:
        codes = _right(soak, kind, {**one, "again": False})
        # who may no longer have it is told so, and what was used is not released again
        return (codes - {""}) | ({"replayed"} if "" in codes else set())
    if kind in ALWAYS:
        return {ALWAYS[kind]}
    began, done = soak.changed[kind]
    if one["told"] < began:
        return {""}
    return {HALF_WAY[kind]} if one["sent"] > done else {"", HALF_WAY[kind]}


def _check_audit(soak: Soak, told: list[dict[str, Any]]) -> None:
    verdict = verify_database(soak.made.database)
    assert verdict.finding is None, verdict
    records = {one.request: one for one in soak.made.records(kind="release")}
    assert len({one["request"] for one in told}) == len(told)
    for one in told:
        entry = records[one["request"]]
        assert entry.outcome == ("refused" if one["code"] else "allowed")
        assert entry.details.get("code", "") == one["code"]
        of = "us" if one["host"].startswith("wrong-cluster") else "eu"
        assert entry.actor == f"x509:{of}:{one['host']}"
        if not one["code"]:
            assert entry.image_digest == world.IMAGE
            assert entry.details["decision"]["determining"] == ["prod-eu"]
