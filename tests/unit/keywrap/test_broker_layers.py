"""An image of many layers: a broker is asked for several at a time, and errors stay in order.

That requests overlap is shown by a broker that answers none of them until so many are there.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.keywrap.broker import settings
from boltseal.keywrap.broker.keys import BrokerIdentity
from boltseal.keywrap.keyring import Keyring
from support.broker_fake import SCHEME, FakeBroker, Handler, identity, wrapped
from support.cli import boltseal
from support.images import GZIP, index_image, simple_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 20  # until what nobody else came for is a failure


@dataclass
class Images:
    """A plain image, and what is made of it."""

    folder: Path
    broker: FakeBroker

    def at(self, name: str) -> str:
        return f"oci:{self.folder}/{name}:v1"

    @property
    def key(self) -> str:
        return f"broker:{self.broker.settings(timeout=60)}"

    def seal(self, layers: int | None = None) -> None:
        """Encrypt one of so many layers, or what is there."""
        if layers is not None:
            simple_image(self.folder / "app", [GZIP] * layers)
        half = f"broker:{self.broker.pinned()}"
        done = boltseal("encrypt", self.at("app"), self.at("sealed"), "-r", half)
        assert done.code == 0, done.err

    def layers(self) -> list[str]:
        """Digests of the encrypted layers, in order."""
        blobs = self.folder / "sealed" / "blobs" / "sha256"
        (root,) = json.loads((self.folder / "sealed" / "index.json").read_bytes())["manifests"]
        manifest = json.loads((blobs / root["digest"].removeprefix("sha256:")).read_bytes())
        return [one["digest"] for one in manifest["layers"]]

    @property
    def asked(self) -> list[str | None]:
        return [one.asked.layer for one in self.broker.releases]


@pytest.fixture
def images(tmp_path: Path, broker: FakeBroker) -> Images:
    return Images(tmp_path, broker)


class Crowd:
    """Answers the first ``together`` when all of them are there; counts how many wait at a time."""

    def __init__(self, together: int) -> None:
        self.most = self._now = self._came = 0
        self._together = together
        self._barrier = threading.Barrier(together)
        self._lock = threading.Lock()

    def __call__(self, handler: Handler) -> bool:
        with self._lock:
            self._came += 1
            is_first = self._came <= self._together
            self._now += 1
            self.most = max(self.most, self._now)
        if is_first:
            self._barrier.wait(SECONDS)
        with self._lock:
            self._now -= 1
        return handler.reply(*handler.honest())


COMMANDS = {
    "decrypt": "decrypt SEALED OPEN -k KEY",
    "check": "check SEALED -k KEY",
    "verify": "verify SEALED -k KEY",
    "unpack": "unpack SEALED BUNDLE --rootless -k KEY",
    "diff": "diff APP SEALED -k KEY",
    "add": "recipients add SEALED -r OTHER -k KEY",
    "set": "recipients set SEALED -r OTHER -k KEY --rotate",
    "encrypt": "encrypt SEALED OPEN -r OTHER -k KEY",
    "reuse": "encrypt APP OPEN -r OTHER -k KEY --reuse SEALED",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_two_layers_are_asked_for_together(command: str, images: Images, keys: Path) -> None:
    images.seal(2)
    wanted = sorted(images.layers())
    words = {one.upper(): images.at(one) for one in ("sealed", "app", "open")}
    words |= {"BUNDLE": f"{images.folder}/bundle", "KEY": images.key}
    words["OTHER"] = f"jwe:{keys}/p256.pub.pem"
    images.broker.script += [Crowd(2)] * 2
    done = boltseal(*(words.get(one, one) for one in command.split()))
    assert done.code == 0, done.err
    assert sorted(map(str, images.asked)) == wanted


def test_eight_at_a_time_and_no_more_on_as_many_connections(images: Images) -> None:
    images.seal(20)
    crowd, before = Crowd(settings.AT_ONCE), images.broker.connections
    images.broker.script += [crowd] * 20
    assert boltseal("check", images.at("sealed"), "-k", images.key).code == 0
    assert crowd.most == settings.AT_ONCE == 8
    assert sorted(map(str, images.asked)) == sorted(images.layers())
    assert images.broker.connections - before == 8


def test_a_layer_of_several_platforms_is_asked_for_once(images: Images) -> None:
    index_image(images.folder / "app", ["amd64", "arm64", "s390x"])
    images.seal()
    assert boltseal("decrypt", images.at("sealed"), images.at("open"), "-k", images.key).code == 0
    assert len(images.asked) == len(set(images.asked)) == 4  # one base, three of their own


def test_a_wrapped_key_beside_another_blob_is_asked_for_again(images: Images) -> None:
    """Whoever decides by a layer's digest, and writes it down, has to hear of each."""
    images.seal(2)
    _copy_packet(images.folder / "sealed")
    boltseal("check", images.at("sealed"), "-k", images.key)
    packets = {one.asked.packet for one in images.broker.releases}
    assert (len(packets), len(set(images.asked))) == (1, 2)


def test_the_first_layers_error_is_told_whoever_fails_first(images: Images) -> None:
    images.seal(20)
    order = {digest: place for place, digest in enumerate(images.layers())}
    others = threading.Semaphore(0)

    def fail(handler: Handler) -> bool:
        """The first layer last: when seven others have failed."""
        if order[str(handler.now.asked.layer)] == 0:
            for _ in range(settings.AT_ONCE - 1):
                assert others.acquire(timeout=SECONDS)
            return handler.refuse("expired")
        handler.refuse("unauthenticated")
        others.release()
        return True

    images.broker.script += [fail] * 20
    done = boltseal("check", images.at("sealed"), "-k", images.key)
    assert done.code == 1
    assert "layer 0: the key broker" in done.err
    assert "(expired, request" in done.err
    assert "(unauthenticated" not in done.err
    # what ends the command begins nothing more
    assert sorted(order[str(one)] for one in images.asked) == list(range(settings.AT_ONCE))


def test_what_is_told_of_refusals_is_what_one_after_another_would_tell(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.seal(10)
    closed = set(images.layers()[2::3])
    images.broker.allows = lambda seen: "forbidden" if seen.asked.layer in closed else None
    told = []
    for number in (settings.AT_ONCE, 1):
        monkeypatch.setattr(BrokerIdentity, "at_once", number)
        images.broker.seen.clear()
        done = boltseal("decrypt", images.at("sealed"), images.at("open"), "-k", images.key)
        assert done.code == 3
        assert len(images.asked) == 10  # each once, refused or not
        told.append(done.err)
    assert told[0] == told[1]
    assert "linux/amd64 2, 5, 8" in told[0], told[0]
    assert not (images.folder / "open").exists()


def test_a_hiccup_of_one_layer_is_tried_again(images: Images) -> None:
    images.seal(4)
    images.broker.script += [lambda handler: handler.refuse("unavailable")] * 3
    assert boltseal("check", images.at("sealed"), "-k", images.key).code == 0
    assert len(images.asked) == 7


def test_nothing_is_asked_for_when_the_first_layer_is_no_layer(images: Images) -> None:
    """What can be told without a broker is told before."""
    images.seal(3)
    _edit(images.folder / "sealed", lambda layers: layers[0].update(mediaType="text/plain"))
    done = boltseal("unpack", images.at("sealed"), images.folder / "b", "--rootless",
                    "-k", images.key)  # fmt: skip
    assert done.code != 0
    assert images.asked == []


class Lonely:
    """A key that takes one after another."""

    def __init__(self, scheme: str, **attributes: object) -> None:
        self.scheme = scheme
        self.__dict__ |= attributes

    def handles(self, scheme: str) -> bool:
        return scheme == self.scheme

    def unwrap(self, scheme: str, data: bytes) -> bytes:
        raise AssertionError

    def describe(self) -> str:
        return "lonely"


def test_beside_a_key_that_takes_one_after_another(broker: FakeBroker) -> None:
    annotations = {
        "org.opencontainers.image.enc.keys.provider.boltseal-broker": _b64(wrapped(broker))
    }
    both = {**annotations, "org.opencontainers.image.enc.keys.pgp": _b64(b"packet")}
    mine, card = identity(broker.settings()), Lonely("pgp")
    assert mine.handles(SCHEME)
    for given, ring, expected in (
        (annotations, [mine], 8),
        (annotations, [card, mine], 8),  # nobody asks the card
        (both, [card, mine], 1),
        (both, [mine, Lonely("pgp", is_concurrent=True)], 8),
        (both, [card], 1),
        ({}, [mine], 1),
        (annotations, [], 1),
    ):
        assert Keyring(tuple(ring)).at_once(given) == expected


def _b64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def _edit(layout: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the layers of a layout's only manifest."""
    from support.images import compact, sha256

    index = json.loads((layout / "index.json").read_bytes())
    (root,) = index["manifests"]
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / root["digest"].removeprefix("sha256:")).read_bytes())
    change(manifest["layers"])
    raw = compact(manifest)
    root["digest"], root["size"] = sha256(raw), len(raw)
    (blobs / root["digest"].removeprefix("sha256:")).write_bytes(raw)
    (layout / "index.json").write_text(json.dumps(index))


def _copy_packet(layout: Path) -> None:
    """The second layer gets the first one's annotations."""

    def change(layers: list[dict[str, Any]]) -> None:
        layers[1]["annotations"] = layers[0]["annotations"]

    _edit(layout, change)
