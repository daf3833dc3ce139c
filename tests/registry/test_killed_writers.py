"""Killed at random moments: the tag is the old or the new image, and the next change works."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from boltseal import list_recipients
from boltseal.spec.limits import MAX_MANIFEST_BYTES
from boltseal.transports.base import read_verified
from boltseal.transports.parse import open_source, parse_reference
from boltseal.transports.registry.options import RegistryOptions
from support import layouts
from support.cli import boltseal
from support.images import index_image
from support.writers import Job, writers

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Registry
    from support.writers import Writer

KILLS = 40
OPTIONS = RegistryOptions(tls_verify=False)

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.slow]


class Victim:
    """An image of two platforms that p256 opens, and p384 by turns."""

    def __init__(self, image: str, source: str, keys: Path) -> None:
        self.image = image
        self._keys = keys
        run = boltseal("encrypt", source, image, "-r", f"jwe:{keys}/p256.pub.pem")
        assert run.code == 0, run.err
        self._base = self._recipients()
        self._raw = self._root()
        self.moved = 0

    def job(self, kill: float) -> Job:
        action = "remove" if self._recipients() > self._base else "add"
        who = str(self._keys / "p384.pub.pem")
        return Job(self.image, action, who, str(self._keys / "p256.pem"), kill=kill)

    def look(self, outcome: str) -> None:
        """The tag is the old image byte for byte, or the new one, whole and with its recipients."""
        raw = self._root()
        if raw == self._raw:
            assert outcome == "killed"
            return
        self.moved += 1
        self._raw = raw
        assert len(self._recipients() - self._base) <= 1
        assert self._base <= self._recipients()
        run = boltseal("verify", self.image, "-k", self._keys / "p256.pem", "--tls-verify=false")
        assert run.code == 0, run.out + run.err

    def change(self) -> float:
        """The next change, tried again while somebody else's claim lasts; seconds it took."""
        begin = time.monotonic()
        who = ("-r", f"jwe:{self._keys}/p521.pub.pem", "-k", self._keys / "p256.pem")
        for _ in range(100):
            run = boltseal("recipients", "set", self.image, *who, "--tls-verify=false")
            if run.code == 0:
                break
            assert "somebody else is changing the tag" in run.err
            time.sleep(0.1)
        assert run.code == 0
        return time.monotonic() - begin

    def _root(self) -> bytes:
        with open_source(parse_reference(self.image), OPTIONS) as source:
            return read_verified(source, source.root().descriptor, "it", MAX_MANIFEST_BYTES)

    def _recipients(self) -> set[str]:
        listed = list_recipients(self.image, registry=OPTIONS)
        assert not listed.problems
        assert {one.layers for one in listed.recipients} == {listed.encrypted_layers}
        return {str(one.recipient) for one in listed.recipients}


def kill_often(victim: Victim, writer: Writer, window: float) -> list[str]:
    chance = random.Random(victim.image.rpartition("/")[2])
    outcomes = []
    for _ in range(KILLS):
        writer.begin(victim.job(chance.uniform(0, window)))
        outcomes += writer.results()
        victim.look(outcomes[-1])
        # how long a change takes is learnt, whatever this machine is busy with
        window *= 0.75 if outcomes[-1] == "done" else 1.15
    return outcomes


def test_on_a_registry(tmp_path: Path, plain: Registry, keys: Path) -> None:
    source = index_image(tmp_path / "src").reference()
    victim = Victim(plain.reference("killed/writer:v1"), source, keys)
    # the dead are passed over at once, or this would take minutes; test_claims.py has real times
    with writers(tmp_path / "writers", 1, life=0) as (writer,):
        outcomes = kill_often(victim, writer, 0.6)
    assert outcomes.count("killed") > KILLS // 10, "the kills came too late to mean anything"
    assert victim.moved > 0
    assert victim.change() >= 0


def test_in_a_layout(tmp_path: Path, keys: Path) -> None:
    source = index_image(tmp_path / "src").reference()
    layout = tmp_path / "layout"
    victim = Victim(f"oci:{layout}:v1", source, keys)
    with writers(tmp_path / "writers", 1) as (writer,):
        outcomes = kill_often(victim, writer, 0.1)
    assert outcomes.count("killed") > KILLS // 10, "the kills came too late to mean anything"
    assert victim.moved > 0
    layouts.check_tree(layout)
    assert victim.change() >= 0
    assert layouts.temporaries(layout) == []
