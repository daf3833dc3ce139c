"""Two writers on a network where requests and answers come late, later than any pace allows for."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import BoltsealError, add_recipients, list_recipients, remove_recipients
from boltseal.keywrap.generate import generate_key
from boltseal.transports.registry import claim as claims
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.options import RegistryOptions
from support.cli import boltseal
from support.images import GZIP, simple_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boltseal.keywrap.generate import KeyPair
    from support.registry import Registry

TAGS, ROUNDS = 10, 5
LATE = (0.02, 0.1, 0.3, 1.0)  # seconds at the most, of one in four requests and one in four answers

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.slow]


@dataclass
class Race:
    """One image that two writers change at once, again and again."""

    image: str
    opener: str
    pair: list[KeyPair]
    options: RegistryOptions
    lost: int = 0  # changes that were reported as done, and are not there, without an error
    done: int = 0

    def run(self) -> None:
        for _ in range(ROUNDS):
            before = self.members()
            wanted = [one.thumbprint not in before for one in self.pair]
            said = ["", ""]
            threads = [
                threading.Thread(target=self.change, args=(one, comes, said, number))
                for number, (one, comes) in enumerate(zip(self.pair, wanted, strict=True))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            after = self.members()
            there = [
                (one.thumbprint in after) is comes
                for one, comes in zip(self.pair, wanted, strict=True)
            ]
            self.done += said.count("done")
            told = any("may be lost" in text for text in said)
            for text, is_there in zip(said, there, strict=True):
                self.lost += text == "done" and not is_there and not told

    def change(self, key: KeyPair, comes: bool, said: list[str], number: int) -> None:
        try:
            if comes:
                who, opener = [f"jwe:{key.public_file}"], [self.opener]
                add_recipients(self.image, who, opener, registry=self.options)
            else:
                remove_recipients(self.image, [key.public_file], registry=self.options)
            said[number] = "done"
        except BoltsealError as error:
            said[number] = f"{type(error).__name__}: {error}"

    def members(self) -> set[str | None]:
        listed = list_recipients(self.image, registry=self.options)
        return {one.recipient for one in listed.recipients}


def late(send: Callable[..., Any]) -> Callable[..., Any]:
    """Some requests for manifests reach the registry late, and so do some answers to them."""
    chance = random.Random()  # threads take turns in no order, so a seed would fix nothing

    def pause(url: str) -> None:
        if "/manifests/" in url and chance.random() < 0.25:
            time.sleep(chance.choice(LATE) * chance.random())

    def sending(client: HttpClient, method: str, url: str, *more: Any, **named: Any) -> Any:
        pause(url)
        answer = send(client, method, url, *more, **named)
        pause(url)
        return answer

    return sending


@pytest.mark.parametrize("with_claims", [True, False])
def test_nothing_is_lost_without_an_error(
    tmp_path: Path, plain: Registry, keys: Path, monkeypatch: pytest.MonkeyPatch, with_claims: bool
) -> None:
    """With claims. Without them something is, or this could not fail."""
    monkeypatch.setattr(claims, "QUICK", replace(claims.QUICK, wait=0.1, change=0.08, life=0.5))
    monkeypatch.setattr(claims, "SLOW", replace(claims.SLOW, wait=0.8, change=0.6, life=2))
    pair = [generate_key(str(tmp_path / f"{name}.pem"), "p256") for name in ("left", "right")]
    options = RegistryOptions(tls_verify=False, claims=with_claims)
    source = simple_image(tmp_path / "src", (GZIP,)).reference()
    races = []
    for number in range(TAGS):
        image = plain.reference(f"late/with-{with_claims}:t{number}".lower())
        assert boltseal("encrypt", source, image, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
        races.append(Race(image, str(keys / "p256.pem"), pair, options))
    monkeypatch.setattr(HttpClient, "send", late(HttpClient.send))
    threads = [threading.Thread(target=race.run) for race in races]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(race.done for race in races) > TAGS * ROUNDS // 4
    lost = sum(race.lost for race in races)
    assert lost == 0 if with_claims else lost > 0
