"""Processes that decide: what starts and ends them, what they decide. The last two stop it."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.app import worker
from boltseal.broker.audit.verify import verify_database
from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.keys.exchange import retire_others
from boltseal.broker.policy import versions
from boltseal.broker.policy.engine import decide
from boltseal.broker.release.handler import ReleaseService, Settings
from boltseal.broker.service import keys, limits, revocations, trusts
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store.database import read_head
from boltseal.broker.store.snapshot import Snapshots
from boltseal.keywrap.broker import protocol
from support import broker_identity as identity
from support import broker_world
from support.broker import Broker, free_port
from support.broker_processes import ISSUER, Clients, code, is_gone, refusals, request, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker_world import Host, World

SIGNER = identity.Signer("ec", place=31)
JOBS = """
@id("jobs")
permit (principal is Boltseal::Workload, action == Boltseal::Action::"unwrap", resource);
@id("public halves")
permit (principal is Boltseal::Host, action == Boltseal::Action::"wrap", resource);
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("processes")
    figures = free_port()
    settings = (
        "[limits]\nprocesses = 1\nworkers = 2\n"
        '[identity]\nkey_hosts = ["127.0.0.1", "localhost"]\n'
        f'[metrics]\nlisten = "127.0.0.1:{figures}"'
    )
    made = broker_world.World(Broker(folder / "broker", settings=settings), folder)
    made.figures = figures  # type: ignore[attr-defined]
    config = {
        "issuer": ISSUER,
        "audiences": ["broker"],
        "jwks": identity.key_set(SIGNER),
    }
    trusts.set_trust(made.database, SYSTEM, "default", "ci", kind="oidc", config=config)
    text = broker_world.POLICY + JOBS
    versions.add(made.database, SYSTEM, "default", text, activate=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clients(world: World) -> Iterator[Clients]:
    figures: int = world.figures  # type: ignore[attr-defined]
    made = Clients(world, figures, world.key("prod", algorithm="xwing"), world.host())
    yield made
    made.close()


def test_they_start_when_requests_wait_for_each_other_and_decide_from_then_on(
    clients: Clients, world: World
) -> None:
    with_them = world.broker.start()
    secret = broker_world.secret()
    body, fresh = broker_world.ask(clients.key, secret)
    for one in clients.bodies(5):  # one after the other is nothing to start a process for
        assert world.release(one, clients.host).status == 200
    assert clients.pids == []
    (pid,) = clients.engaged()
    with clients.held([body]) as asked:
        # whoever else asks is not kept waiting, nor does a thread decide what a process has
        assert with_them.ask("GET", "/v1/ping").status == 200
        assert clients.figure("in_flight") == 1
        assert not asked.done()
    ((status, answer),) = asked.result(60)
    assert status == 200
    assert fresh.open(protocol.parse_answer(answer), body) == secret
    (record,) = clients.records([(status, answer)])
    assert (record.outcome, record.actor) == ("allowed", "x509:eu:host-1")
    assert clients.pids == [pid]


def test_they_hold_no_root_key_and_show_nothing_to_who_looks(clients: Clients) -> None:
    (pid,) = clients.engaged()
    kernel = Path(f"/proc/{pid}")
    command = kernel.joinpath("cmdline").read_text()
    assert command.split("\0")[1:] == ["-P", "-m", "boltseal.broker.app.worker", ""]
    assert "root.key" not in kernel.joinpath("environ").read_text()
    (core,) = re.findall(
        "Max core file size +([0-9]+) +([0-9]+)", kernel.joinpath("limits").read_text()
    )
    assert core == ("0", "0")
    opened = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
    sockets = [one for one in opened if one.startswith("socket:")]
    assert len(sockets) == 1, opened  # the one to the server's process, with SQLite


def test_what_one_that_is_killed_had_is_refused_and_may_be_asked_again(
    clients: Clients, world: World
) -> None:
    (pid,) = clients.engaged()
    with clients.held(bodies := clients.bodies(30)) as asked:
        os.kill(pid, signal.SIGKILL)
        said = asked.result(60)
    assert {code(one) for one in said} == {"", "unavailable"}  # threads did what it had not got
    assert all(one[0] == 503 for one in said if code(one))
    # refused means that nothing went out and nothing was used up: the same bytes count
    again = [body for body, one in zip(bodies, said, strict=True) if code(one)]
    assert not any(world.records(request=request(one)) for one in said if code(one))
    # threads decide meanwhile
    assert [code(one) for one in clients.together(again)] == [""] * len(again)
    (second,) = clients.engaged()
    assert second != pid
    assert is_gone(pid)
    event = world.broker.wait_for_log("process")
    assert (event["level"], event["detail"]) == ("warning", f"{pid} ended (-9)")
    replayed = clients.together(again[:3])
    assert [code(one) for one in replayed] == ["replayed"] * 3


def test_it_is_killed_again_and_again_under_load(clients: Clients, world: World) -> None:
    """Every request has one answer, every release one record, every record's release an answer."""
    before = {one.request for one in world.records(kind="release", outcome="allowed")}
    said = []
    for _ in range(2):
        (pid,) = clients.engaged()
        load = [clients.start(clients.bodies(12)) for _ in range(6)]
        os.kill(pid, signal.SIGKILL)
        said += [one for each in load for one in each.result(60)]
    said += clients.together(clients.bodies(12))
    assert {code(one) for one in said} <= {"", "unavailable"}
    released = [request(one) for one in said if not code(one)]
    assert len(set(released)) == len(released)
    records = [one.request for one in world.records(kind="release", outcome="allowed")]
    assert len(set(records)) == len(records)
    assert set(released) <= set(records) - before
    assert world.broker.ask("GET", "/healthz").status == 200
    assert verify_database(world.database).finding is None


def test_a_revocation_counts_at_once_and_open_keys_are_dropped(
    clients: Clients, world: World
) -> None:
    clients.engaged()
    host = world.host("stolen")
    assert {code(one) for one in clients.together(clients.bodies(6), host)} == {""}
    assert clients.figure("open_keys") > 0
    load = [clients.start(clients.bodies(10), host) for _ in range(4)]
    revocations.revoke(world.database, SYSTEM, "default", "identity:x509:eu:stolen")
    after = clients.together(clients.bodies(6), host)
    assert [code(one) for one in after] == ["revoked"] * 6
    assert {code(one) for each in load for one in each.result(60)} <= {"", "revoked"}
    records = world.records()
    (at,) = [n for n, one in enumerate(records) if one.subject == "identity:x509:eu:stolen"]
    late = [one for one in records[at:] if one.actor == "x509:eu:stolen"]
    assert len(late) >= 6
    assert {one.outcome for one in late} == {"refused"}
    # those that are refused open nothing
    until(lambda: clients.figure("open_keys") == 0, "a key stayed open")
    # what is open is dropped when anything changes, though nobody asks for anything
    assert {code(one) for one in clients.together(clients.bodies(3))} == {""}
    assert clients.figure("open_keys") > 0
    revocations.revoke(world.database, SYSTEM, "default", "identity:x509:eu:nobody")
    until(lambda: clients.figure("open_keys") == 0, "a key stayed open")


def test_a_destroyed_key_is_gone_at_once(clients: Clients, world: World) -> None:
    clients.engaged()
    key = world.key("doomed")
    bodies = [broker_world.ask(key)[0] for _ in range(12)]
    assert {code(one) for one in clients.together(bodies[:6])} == {""}
    keys.destroy(world.database, SYSTEM, key.path, key.version, days=0)
    said = clients.together(bodies[6:])
    assert [code(one) for one in said] == ["disabled"] * 6
    until(lambda: clients.figure("open_keys") == 0, "a key stayed open")
    # what a process had opened and sealed before is not given out either
    with clients.held(clients.bodies(4)) as asked:
        keys.disable(world.database, SYSTEM, clients.key.path, clients.key.version)
    try:
        assert [code(one) for one in asked.result(60)] == ["disabled"] * 4
    finally:
        keys.enable(world.database, SYSTEM, clients.key.path, clients.key.version)
    assert {code(one) for one in clients.together(clients.bodies(3))} == {""}


def test_tokens_whose_issuers_keys_are_fetched_are_decided_here(
    clients: Clients, world: World, tmp_path: Path
) -> None:
    clients.engaged()
    with (
        identity.KeyServer(tmp_path).running() as server,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        server.sends(json.dumps(identity.key_set(SIGNER)).encode())
        near = f"https://localhost:{silent.getsockname()[1]}/keys"
        for name, uri in (("fetched", server.uri), ("silent", near)):
            config = {
                "issuer": f"https://{name}.example",
                "audiences": ["broker"],
                "jwks_uri": uri,
                "ca": server.ca.read_text(),
            }
            trusts.set_trust(world.database, SYSTEM, "default", name, kind="oidc", config=config)

        def token(issuer: str) -> str:
            return SIGNER.token(identity.claims(iss=f"https://{issuer}.example"))

        # one waits for the keys, as half of two threads may
        (said,) = clients.together(clients.bodies(1), None, token("fetched"))
        assert code(said) == ""
        for issuer in ("fetched", "issuer"):  # the other one's are in the trust
            said = clients.together(clients.bodies(4), None, token(issuer))
            assert [code(one) for one in said] == [""] * 4, issuer
            assert {one.actor.split(":")[0] for one in clients.records(said)} == {"oidc"}
        assert server.paths
        # an issuer that hangs keeps nobody else waiting
        hanging = clients.start(clients.bodies(6), None, token("silent"))
        until(lambda: clients.figure("in_flight") > 0, "nobody waits for the issuer")
        assert {code(one) for one in clients.together(clients.bodies(20))} == {""}
        assert not hanging.done()
        assert {code(one) for one in hanging.result(60)} == {"unavailable"}


def test_what_is_no_release_is_decided_here(clients: Clients, world: World) -> None:
    """Whoever may wrap for a key gets its public half, though it is not published."""
    clients.engaged()
    path = f"/v1/keys/{clients.key.path}"
    answer = world.broker.ask("GET", path, token="", tls=world.tls(clients.host))
    assert answer.status == 200, answer.body
    assert answer.json["version"] == clients.key.version
    (record,) = world.records(kind="wrap")
    assert (record.outcome, record.actor) == ("allowed", "x509:eu:host-1")


def test_attacks_are_refused_and_written_down_as_by_threads(clients: Clients, world: World) -> None:
    us = world.host(of="us")
    clients.engaged()
    by_processes = refusals(clients, us, "a")
    other = copy.copy(world)
    other.broker = world.broker.replica()
    settings = other.broker.folder / "config.toml"
    figures = free_port()
    text = settings.read_text().replace("processes = 1", "processes = 0")
    settings.write_text(text.replace(str(world.figures), str(figures)))  # type: ignore[attr-defined]
    alone = Clients(other, figures, clients.key, clients.host)
    with other.broker:
        assert [code(one) for one in alone.together(alone.bodies(12))] == [""] * 12
        assert refusals(alone, us, "b") == by_processes
        assert alone.figure("deciding_processes") == 0
        assert alone.pids == []
    alone.close()


def test_replays_and_limits_among_many_at_once(clients: Clients, world: World) -> None:
    clients.engaged()
    said = clients.together(clients.bodies(1) * 6)
    assert sorted(code(one) for one in said) == ["", *["replayed"] * 5]
    reasons = {one.details.get("reason") for one in clients.records(said)}
    assert reasons == {None, "its nonce was used before"}
    limits.set_limit(world.database, SYSTEM, "default", "identity", per_minute=4, per_day=0)
    try:
        greedy = world.host("greedy")
        said = [*clients.together(clients.bodies(6), greedy),
                *clients.together(clients.bodies(3), greedy)]  # fmt: skip
        assert sorted(code(one) for one in said) == [*[""] * 4, *["limited"] * 5]
        answer = world.release(clients.bodies(1)[0], greedy)
        assert (answer.status, answer.code) == (429, "limited")
        assert 0 < int(answer.headers["retry-after"]) <= 60
        refused = [one for one in clients.records(said) if one.outcome == "refused"]
        assert {(one.actor, one.details["code"], one.details["reason"]) for one in refused} == {
            ("x509:eu:greedy", "limited", "over the limit of the identity")
        }
        assert {code(one) for one in clients.together(clients.bodies(3))} == {""}  # not greedy
    finally:
        limits.set_limit(world.database, SYSTEM, "default", "identity", per_minute=0, per_day=0)


@pytest.fixture
def service(world: World) -> Iterator[ReleaseService]:
    """Another replica, in this process, with a process that decides."""
    opened = world.opened

    def hello() -> object | None:
        found = opened.safe.data_keys()
        return worker.hello(opened.settings.database, found, 60, 8) if found else None

    known = Known()
    made = ReleaseService(
        world.database,
        Snapshots(world.database),
        private=opened.safe.private,
        authenticate=lambda snapshot, who, now, /, *, tenant: authenticate(
            snapshot, who, now, known, tenant=tenant
        ),
        decide=decide,
        settings=Settings(workers=2, processes=1, refusals=5),
        worker=(worker.MODULE, hello),
    )
    made.start()
    yield made
    assert made.stop()
    assert not made.processes


def released(service: ReleaseService, host: Host, bodies: list[bytes]) -> list[str]:
    """Their codes."""
    who = identity.presented(host.issued)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(service.release_async(one, who) for one in bodies))

    return [one.code for one in asyncio.run(ask())]


def test_another_data_key_and_who_is_over_a_limit(
    service: ReleaseService, clients: Clients, world: World
) -> None:
    host = world.host("here")

    def ask(count: int = 4) -> set[str]:
        return set(released(service, host, clients.bodies(count)))

    until(lambda: ask() == {""} and service._pool.open_keys == 1, "no process came")
    pids = service.processes
    # every private key is sealed anew by a data key that the process has not got
    retire_others(world.database, world.opened.safe, "system", int(time.time()))
    until(lambda: service._pool.open_keys == 0, "it has not noticed")
    assert ask() == {""}
    until(lambda: ask() == {""} and service._pool.open_keys == 1, "it never got the data key")
    assert service.processes == pids

    limits.set_limit(world.database, SYSTEM, "default", "identity", per_minute=3, per_day=0)
    try:
        with world.database.read() as connection:
            epoch = read_head(connection).epoch
        until(lambda: service._decider._epoch == epoch, "the server has not noticed")
        greedy = world.host("glutton")
        first = released(service, greedy, clients.bodies(6))
        assert sorted(first) == ["", "", "", "limited", "limited", "limited"]
        # what is known to be used up is counted, and does not fill the audit
        assert set(released(service, greedy, clients.bodies(40))) == {"limited"}
    finally:
        limits.set_limit(world.database, SYSTEM, "default", "identity", per_minute=0, per_day=0)
    records = world.records(actor="x509:eu:glutton", outcome="refused")
    assert 3 < len(records) <= 3 + 5


def test_sigterm_to_all_of_them_leaves_nothing_unanswered(clients: Clients, world: World) -> None:
    (pid,) = clients.engaged()
    place, port = world.broker.url.removeprefix("https://").split(":")

    def listens() -> bool:
        with socket.socket() as one:
            return one.connect_ex((place, int(port))) == 0

    with clients.held(clients.bodies(8)) as asked:
        assert world.broker.process is not None
        for one in (pid, world.broker.process.pid):
            os.kill(one, signal.SIGTERM)
        until(lambda: not listens(), "it goes on listening")
        # none of them can be opened by what the process has: it is left to the threads
        retire_others(world.database, world.opened.safe, "system", int(time.time()))
    said = asked.result(60)
    assert [code(one) for one in said] == [""] * 8
    assert world.broker.stop() == 0
    assert {one.outcome for one in clients.records(said)} == {"allowed"}
    assert is_gone(pid)


def test_when_the_server_is_killed_they_end_by_themselves(clients: Clients, world: World) -> None:
    (pid,) = clients.engaged()
    before = len(world.records(kind="release"))
    with clients.held(clients.bodies(8)) as asked:
        world.broker.kill()
    assert {status for status, _ in asked.result(60)} == {0}
    until(lambda: is_gone(pid), "it goes on without its server")
    assert len(world.records(kind="release")) == before
    assert verify_database(world.database).finding is None
