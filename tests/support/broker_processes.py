"""A running broker whose releases are decided by processes, and hosts that ask at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.broker_load import Channel, Closed, Template, connect

from boltseal.keywrap.broker import protocol
from support import broker_identity as identity
from support import broker_world

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from boltseal.broker.model import KeyVersion
    from support.broker import Broker
    from support.broker_world import Host, World

SECONDS = 60  # that anything may take
MODULE = "boltseal.broker.app.worker"
ISSUER = "https://issuer.example"
PASSING = ("micros", "epoch", "fingerprint")  # of a record
Said = tuple[int, bytes]


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def code(said: Said) -> str:
    """Why something was refused; empty for a release."""
    return "" if said[0] == 200 else str(json.loads(said[1])["error"]["code"])


def request(said: Said) -> str:
    """The request's id."""
    document = json.loads(said[1])
    return str(document["request"] if said[0] == 200 else document["error"]["request"])


def children(pid: int) -> list[int]:
    """Processes that decide for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            command = folder.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if parent == str(pid) and MODULE.encode() in command:
            found.append(int(folder.name))
    return found


def is_gone(pid: int) -> bool:
    """Ended; a zombie that nobody has asked for yet has ended as well."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Clients:
    """``figures`` is the port of the broker's metrics; ``key`` is one that ``host`` may have."""

    def __init__(self, world: World, figures: int, key: KeyVersion, host: Host) -> None:
        self.world = world
        self.broker: Broker = world.broker
        self.key = key
        self.host = host
        self._figures = figures
        self._threads = ThreadPoolExecutor(8)
        body, self.fresh = broker_world.ask(key)
        members = {k: v for k, v in json.loads(body).items() if k not in ("v", "nonce", "time")}
        self._template = Template(members, "broker")

    def close(self) -> None:
        self._threads.shutdown()

    def bodies(self, count: int) -> list[bytes]:
        """Good requests, each with a nonce of its own."""
        return [self._template.body() for _ in range(count)]

    def start(
        self, bodies: Sequence[bytes], host: Host | None = None, token: str = ""
    ) -> Future[list[Said]]:
        """Ask for all of them at once, each over a connection of its own."""
        context = self.world.tls(None if token else host or self.host)
        head = f"POST {protocol.PATH} HTTP/1.1\r\nhost: broker\r\ncontent-type: application/json"
        if token:
            head += f"\r\nauthorization: Bearer {token}"
        raws = [f"{head}\r\ncontent-length: {len(one)}\r\n\r\n".encode() + one for one in bodies]
        return self._threads.submit(asyncio.run, self._ask(raws, context))

    def together(
        self, bodies: Sequence[bytes], host: Host | None = None, token: str = ""
    ) -> list[Said]:
        """The same, and wait for the answers."""
        return self.start(bodies, host, token).result(SECONDS)

    async def _ask(self, raws: Sequence[bytes], context: ssl.SSLContext) -> list[Said]:
        place, port = self.broker.url.removeprefix("https://").split(":")
        channels = await asyncio.gather(
            *(connect(place, int(port), context) for _ in raws), return_exceptions=True
        )
        try:
            return await asyncio.gather(
                *(_exchange(one, raw) for one, raw in zip(channels, raws, strict=True))
            )
        finally:
            opened = [one for one in channels if isinstance(one, Channel)]
            for one in opened:
                one.close()
            while not all(one.is_closed for one in opened):
                await asyncio.sleep(0.002)
            await asyncio.sleep(0)

    def figure(self, name: str) -> int:
        """One of the broker's metrics."""
        address = f"http://127.0.0.1:{self._figures}/metrics"
        with urllib.request.urlopen(address, timeout=SECONDS) as found:
            lines = found.read().decode().splitlines()
        (line,) = [one for one in lines if one.startswith(f"boltseal_broker_{name} ")]
        return int(float(line.rpartition(" ")[2]))

    @property
    def pids(self) -> list[int]:
        """Processes that decide, whether they are ready or not."""
        assert self.broker.process is not None
        return children(self.broker.process.pid)

    def engaged(self, count: int = 1) -> list[int]:
        """Its processes, once so many decide; what makes it start them is several at once."""
        if self.broker.process is None:
            self.broker.start()
        while self.figure("deciding_processes") < count:
            assert {code(one) for one in self.together(self.bodies(4))} <= {"", "unavailable"}
            time.sleep(0.1)
        return self.pids

    @contextmanager
    def held(self, bodies: Sequence[bytes], *rest: Any) -> Iterator[Future[list[Said]]]:
        """Requests that processes have, and that none of them decides before the block ends."""
        pids = self.engaged()
        for one in pids:
            os.kill(one, signal.SIGSTOP)
        try:
            asked = self.start(bodies, *rest)
            until(lambda: self.figure("in_flight") == len(bodies), "not all of them came")
            yield asked
        finally:
            for one in pids:
                if not is_gone(one):
                    os.kill(one, signal.SIGCONT)

    def records(self, said: Sequence[Said]) -> list[Any]:
        """The audit's one record of each."""
        found = [self.world.records(request=request(one)) for one in said]
        assert all(len(one) == 1 for one in found), found
        return [one for (one,) in found]


async def _exchange(channel: Channel | BaseException, raw: bytes) -> Said:
    """Status 0 when there was no answer."""
    if isinstance(channel, BaseException):
        return 0, b""
    try:
        return await channel.exchange(raw)
    except (Closed, OSError):
        return 0, b""


def attacks(clients: Clients, us: Host, tag: str) -> dict[str, tuple[bytes, Any, str]]:
    """Requests, who sends them (a host, a token or nobody), and the code that has to come."""
    key, host = clients.key, clients.host
    second = clients.world.key(f"second-{tag}")
    theirs = clients.world.key(f"theirs-{tag}", tenant=broker_world.OTHER)
    first, other, good = [json.loads(one) for one in clients.bodies(3)]
    of_second = broker_world.packet(second, broker_world.secret())
    wrapped = broker_world.wrap(key, broker_world.secret())
    renamed = broker_world.packet(second, b"", wrapped=wrapped)
    forged = identity.Signer("ec", place=32).token(identity.claims(iss=ISSUER))
    late = int(time.time()) - 90
    return {
        "forged token": (json.dumps(first).encode(), forged, "unauthenticated"),
        "nobody": (json.dumps(other).encode(), None, "unauthenticated"),
        "another region": (clients.bodies(1)[0], us, "forbidden"),
        "another's packet": (broker_world.ask(key, packet=of_second)[0], host, "malformed"),
        "another's name": (broker_world.ask(second, packet=renamed)[0], host, "malformed"),
        "another tenant's": (broker_world.ask(theirs)[0], host, "forbidden"),
        "late": (broker_world.ask(key, time=late)[0], host, "expired"),
        "weaker": (broker_world.ask(key, kem=protocol.X25519)[0], host, "malformed"),
        "a member twice": (json.dumps(good)[:-1].encode() + b',"v":1}', host, "malformed"),
        "no key": (
            json.dumps({**good, "key": "default/default/none"}).encode(), host, "not-found"),
    }  # fmt: skip


def refusals(clients: Clients, us: Host, tag: str) -> dict[str, str]:
    """What the audit says of each, without what depends on when it was asked."""
    found = {}
    for name, (body, who, expected) in attacks(clients, us, tag).items():
        if who is None:
            answer = clients.world.release(body, None)
            said = answer.status, answer.body
        else:
            token = who if isinstance(who, str) else ""
            (said,) = clients.together([body], None if token else who, token)
        assert code(said) == expected, name
        (record,) = clients.records([said])
        kept = {k: v for k, v in record.details.items() if k not in PASSING}
        if "circumstances" in kept:
            kept["circumstances"] = {**kept["circumstances"], "time": 0}
        text = json.dumps([record.outcome, record.tenant, record.actor, record.subject, kept])
        found[name] = re.sub("-9[0-9] seconds", "so many seconds", text).replace(f"-{tag}", "")
    return found
