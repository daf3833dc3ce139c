"""Many hosts at once, each asking on until it has an answer; what each was told goes to a file.

It says on standard output how many keys were released, and ends once there are enough.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvloop
from bench.broker_load import Channel, Closed, Template, connect, tls

from boltseal._io import b64
from boltseal.keywrap.broker import protocol, sealing

if TYPE_CHECKING:
    import ssl

_PATIENCE = 40.0  # seconds until a request has to have its answer, with all its tries
_PAUSE = 0.1
_EACH = 15.0  # seconds of one try


@dataclass
class Load:
    """What all hosts share."""

    plan: dict[str, Any]
    released: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    trouble: Counter[str] = field(default_factory=Counter)

    @property
    def is_enough(self) -> bool:
        return self.released >= self.plan["released"]


class Host:
    """One host with one certificate; it talks to one replica until that fails."""

    def __init__(self, load: Load, number: int, plan: dict[str, Any]) -> None:
        self._load = load
        self._name: str = plan["name"]
        self._tls: ssl.SSLContext = tls(load.plan["ca"], plan["certificate"], plan["key"])
        self._fresh = sealing.FreshKey(protocol.X25519)
        public = b64.encode(self._fresh.public)
        self._packets = [
            (Template({**one["members"], "hpke": public}, "127.0.0.1"), one["secret"].encode())
            for one in plan["requests"]
        ]
        self._place = number
        self._channel: Channel | None = None

    async def run(self) -> None:
        """Until there is enough."""
        while not self._load.is_enough:
            template, secret = random.choice(self._packets)
            body = await self._ask(template, secret)
            if body is not None and random.random() < 0.03:
                self._place += 1  # whether another replica knows the nonce as well
                self._channel = None
                await self._ask(template, secret, again=body)
        if self._channel is not None:
            self._channel.close()

    async def _ask(self, template: Template, secret: bytes, again: bytes = b"") -> bytes | None:
        """The body that something was released for."""
        began = time.time()
        while time.time() - began < _PATIENCE:
            body = again or template.body()
            sent = time.time()
            answer = await self._exchange(template.raw(body))
            if answer is None:
                await asyncio.sleep(_PAUSE)
                continue
            status, raw = answer
            found = {"host": self._name, "sent": sent, "told": time.time(), "again": bool(again)}
            if status == 200:
                reply = protocol.parse_answer(raw)
                assert self._fresh.open(reply, body) == secret, "another layer's secret"
                self._load.released += 1
                self._load.told.append({**found, "code": "", "request": reply.request})
                if self._load.released % 250 == 0:
                    print(self._load.released, flush=True)
                return body
            refusal = protocol.parse_refusal(raw)
            assert refusal.status == status, (status, raw)
            if refusal.code == "unavailable":
                self._load.trouble[refusal.code] += 1
                await asyncio.sleep(_PAUSE)
                continue
            self._load.told.append({**found, "code": refusal.code, "request": refusal.request})
            return None
        raise AssertionError(f"{self._name} got no answer in {_PATIENCE} seconds")

    async def _exchange(self, raw: bytes) -> tuple[int, bytes] | None:
        try:
            if self._channel is None or self._channel.is_closed:
                places = self._load.plan["places"]
                host, port = places[self._place % len(places)]
                self._channel = await connect(host, port, self._tls)
            return await asyncio.wait_for(self._channel.exchange(raw), _EACH)
        except (OSError, Closed, TimeoutError) as error:
            self._load.trouble[type(error).__name__] += 1
            self._channel = None
            self._place += 1
            return None


async def _everybody(plan: dict[str, Any]) -> Load:
    load = Load(plan)
    hosts = [Host(load, number, one) for number, one in enumerate(plan["hosts"])]
    async with asyncio.TaskGroup() as group:
        for one in hosts:
            group.create_task(one.run())
    return load


def main(source: str, target: str) -> None:
    with open(source) as file:
        plan = json.load(file)
    load = uvloop.run(_everybody(plan))
    with open(target, "w") as file:
        json.dump({"told": load.told, "trouble": load.trouble, "released": load.released}, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
