"""Claims on a tag: whom they keep out, how they end, and registries that make it hard."""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.transports.registry import claim as claims
from boltseal.transports.registry import manifests, routes
from boltseal.transports.registry.client import connect
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.options import RegistryOptions
from support.cli import Run, boltseal, command
from support.images import GZIP, INDEX, compact, sha256, simple_image
from support.proxy import Fault, proxied
from support.registry import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boltseal.transports.registry.client import Repository
    from support.proxy import Proxy
    from support.registry import Registry

TAG = claims.claim_tag("v1")

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def proxy(plain: Registry) -> Iterator[Proxy]:
    with proxied(plain) as one:
        yield one


@pytest.fixture
def image(tmp_path: Path, proxy: Proxy, keys: Path) -> str:
    """An image for p256, in a repository of its own."""
    name = proxy.reference(f"claims/{sha256(str(tmp_path).encode())[-20:]}:v1")
    source = simple_image(tmp_path / "src", (GZIP,)).reference()
    assert boltseal("encrypt", source, name, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
    proxy.seen.clear()
    return name


@contextmanager
def repository(image: str) -> Iterator[Repository]:
    options = RegistryOptions()
    from boltseal.transports.parse import parse_reference

    http = HttpClient(options)
    try:
        route = routes.load(options).destination(parse_reference(image))
        yield connect(http, options, route, "pull,push")
    finally:
        http.close()


def put_claim(image: str, *, age: float = 0, pace: str = "quick", **more: Any) -> None:
    """Somebody else's claim on v1."""
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    notes = {
        "org.boltseal.claim": "0123456789abcdef" * 2,
        "org.boltseal.claim.tag": "v1",
        "org.boltseal.claim.pace": pace,
        "org.boltseal.claim.time": moment.isoformat(),
        **more,
    }
    put_index(image, {"annotations": notes})


def put_index(image: str, more: dict[str, Any]) -> None:
    raw = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], **more})
    with repository(image) as place:
        manifests.put(place, TAG, raw, INDEX)


def claim_now(image: str) -> dict[str, Any] | None:
    with repository(image) as place:
        raw, _ = manifests.peek(place, TAG, 1 << 16)
    found: dict[str, Any] | None = None if raw is None else json.loads(raw)
    return found


def digest(image: str) -> str:
    return boltseal("digest", image).out


def add(image: str, keys: Path, *more: object) -> Run:
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
    return boltseal("recipients", "add", image, *who, *more)


def is_changed(image: str, keys: Path) -> bool:
    return boltseal("check", image, "-k", keys / "p384.pem").code == 0


def test_a_claim_comes_and_goes(proxy: Proxy, image: str, keys: Path) -> None:
    run = add(image, keys)
    assert run.code == 0, run.err
    assert "warning" not in run.err
    assert claim_now(image) is None
    requests = [(one.method, one.path.rpartition("/")[2]) for one in proxy.seen]
    begin = requests.index(("PUT", TAG))
    assert requests[begin - 1 : begin + 6] == [
        ("GET", TAG),
        ("PUT", TAG),
        ("GET", TAG),
        ("HEAD", "v1"),
        ("PUT", "v1"),
        ("HEAD", "v1"),
        ("DELETE", requests[begin + 5][1]),
    ]
    assert is_changed(image, keys)


def test_without_a_claim(proxy: Proxy, image: str, keys: Path) -> None:
    put_claim(image)
    proxy.seen.clear()
    run = add(image, keys, "--no-claim")
    assert run.code == 0, run.err
    assert "warning" not in run.err
    assert not [one for one in proxy.seen if TAG in one.path]


def test_another_tag_is_not_claimed(proxy: Proxy, image: str, keys: Path) -> None:
    put_claim(image)
    assert add(image, keys, image.replace(":v1", ":v2")).code == 2  # SRC comes before -r
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
    run = boltseal("recipients", "add", image, image.removesuffix(":v1") + ":v2", *who)
    assert run.code == 0, run.err


def test_a_fresh_claim_of_somebody_else(image: str, keys: Path) -> None:
    put_claim(image)
    before = digest(image)
    run = add(image, keys)
    assert run.code == 1
    assert "somebody else is changing the tag v1 right now; nothing was changed here" in run.err
    assert "if they were stopped on the way, in " in run.err
    assert digest(image) == before
    assert claim_now(image) is not None, "the claim was not ours to take away"


@pytest.mark.parametrize("released", [False, True])
def test_a_claim_that_ended(image: str, keys: Path, released: bool) -> None:
    """Of one that was killed, or in a registry that deletes nothing."""
    if released:
        put_claim(image, **{"org.boltseal.claim": "released"})
    else:
        put_claim(image, age=claims.QUICK.life + 2)
    run = add(image, keys)
    assert run.code == 0, run.err
    assert is_changed(image, keys)


def test_a_killed_writer_keeps_others_out_for_seconds_only(image: str, keys: Path) -> None:
    put_claim(image)
    for _ in range(100):
        run = add(image, keys)
        if run.code == 0:
            break
        assert "somebody else is changing the tag v1" in run.err
        time.sleep(0.2)
    assert is_changed(image, keys)


def test_who_had_longer_is_given_longer(
    image: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow writer may be at work yet, though its claim has ended."""
    monkeypatch.setattr(claims, "SLOW", replace(claims.SLOW, wait=0.5))
    slept: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))
    put_claim(image, age=claims.SLOW.life + 2, pace="slow")
    assert add(image, keys).code == 0
    assert 0.5 in slept
    assert claims.QUICK.wait not in slept


@pytest.mark.parametrize("more", [{}, {"annotations": {"a": "b"}}])
def test_what_is_no_claim_is_left_alone(image: str, keys: Path, more: dict[str, Any]) -> None:
    put_index(image, more)
    before = claim_now(image)
    run = add(image, keys)
    assert run.code == 4
    assert f"the tag {TAG} is there and is no claim" in run.err
    assert "--no-claim" in run.err
    assert claim_now(image) == before


@pytest.mark.parametrize("moment", ["", "x", "2999-01-01T00:00:00", "2999-01-01T00:00:00+00:00"])
def test_a_claim_that_tells_no_time_is_over(image: str, keys: Path, moment: str) -> None:
    put_claim(image, **{"org.boltseal.claim.time": moment})
    assert add(image, keys).code == 0


def test_overtaken_while_waiting(proxy: Proxy, image: str, keys: Path) -> None:
    before = digest(image)
    second = Fault(
        "GET", TAG, skip=1, ahead=lambda: put_claim(image.replace(proxy.host, proxy.registry.host))
    )
    proxy.faults.append(second)
    run = add(image, keys)
    assert run.code == 1
    assert "somebody else is changing the tag v1 right now; nothing was changed here" in run.err
    assert digest(image) == before
    assert claim_now(image) is not None


def test_overtaken_while_writing_too_slowly(proxy: Proxy, image: str, keys: Path) -> None:
    def late() -> None:
        put_claim(image.replace(proxy.host, proxy.registry.host))
        time.sleep(claims.QUICK.change)

    proxy.faults.append(Fault("PUT", "/manifests/v1$", ahead=late))
    run = add(image, keys)
    assert run.code == 1
    assert "the tag v1 was changed, and somebody else was changing it at the same moment" in run.err
    assert "one of the two changes may be lost" in run.err


def test_slow_but_alone(proxy: Proxy, image: str, keys: Path) -> None:
    """Too slow for the quick pace, and nobody else came: that is as good."""
    slow = Fault("PUT", "/manifests/v1$", ahead=lambda: time.sleep(claims.QUICK.change * 2))
    proxy.faults.append(slow)
    run = add(image, keys)
    assert run.code == 0, run.err
    assert is_changed(image, keys)


def test_a_far_registry_is_given_time(
    proxy: Proxy, image: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "SLOW", replace(claims.SLOW, wait=0.6))
    paces: list[str] = []
    proxy.faults.append(
        Fault("GET", TAG, times=99, ahead=lambda: time.sleep(claims.QUICK.change * 0.6))
    )
    direct = image.replace(proxy.host, proxy.registry.host)

    def look() -> None:
        found = claim_now(direct)
        assert found is not None
        paces.append(found["annotations"]["org.boltseal.claim.pace"])

    proxy.faults.append(Fault("PUT", "/manifests/v1$", ahead=look))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert paces == ["slow"]
    assert claim_now(direct) is None


def test_an_answer_that_is_lost(proxy: Proxy, image: str, keys: Path) -> None:
    """The tag was written and nobody said so: it is looked at, not written again."""
    proxy.faults.append(Fault("PUT", "/manifests/v1$", cut_response=0))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert is_changed(image, keys)


def test_a_write_that_failed_is_tried_again(proxy: Proxy, image: str, keys: Path) -> None:
    proxy.faults.append(Fault("PUT", "/manifests/v1$", status=503))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert is_changed(image, keys)
    # the first one might arrive yet, so others are kept out a little longer
    assert claim_now(image) is not None


def test_a_write_that_broke_off_is_looked_for(proxy: Proxy, image: str, keys: Path) -> None:
    proxy.faults.append(Fault("PUT", "/manifests/v1$", cut_request=0.5))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert is_changed(image, keys)


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut_response": 0}])
def test_a_claim_whose_answer_is_lost(
    proxy: Proxy, image: str, keys: Path, fault: dict[str, Any]
) -> None:
    proxy.faults.append(Fault("PUT", TAG, **fault))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert is_changed(image, keys)
    assert claim_now(image) is None


def test_a_refused_write_frees_the_tag(proxy: Proxy, image: str, keys: Path) -> None:
    proxy.faults.append(Fault("PUT", "/manifests/v1$", status=403))
    assert add(image, keys).code == 1
    assert claim_now(image) is None


def test_a_stopped_writer_takes_its_claim_back(proxy: Proxy, image: str, keys: Path) -> None:
    before = digest(image)
    processes: list[subprocess.Popen[bytes]] = []
    stop = Fault("GET", TAG, skip=1, ahead=lambda: processes[0].send_signal(signal.SIGTERM))
    proxy.faults.append(stop)
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
    processes.append(subprocess.Popen(command("recipients", "add", image, *who)))
    assert processes[0].wait(60) == 128 + signal.SIGTERM
    assert claim_now(image) is None
    assert digest(image) == before


def test_a_registry_that_takes_no_empty_index(proxy: Proxy, image: str, keys: Path) -> None:
    proxy.faults.append(Fault("PUT", TAG, status=400))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert "warning" not in run.err
    assert len([one for one in proxy.seen if one.method == "PUT" and TAG in one.path]) == 2
    assert claim_now(image) is None


@pytest.mark.parametrize(
    "fault", [Fault("PUT", TAG, 99, status=400), Fault("GET", TAG, status=403)]
)
def test_a_registry_that_takes_no_claim(proxy: Proxy, image: str, keys: Path, fault: Fault) -> None:
    proxy.faults.append(replace(fault))
    run = add(image, keys)
    assert run.code == 0, run.err
    assert "takes no claim on the tag v1" in run.err
    assert "one can be lost without an error" in run.err
    assert is_changed(image, keys)


def test_a_registry_that_deletes_nothing(tmp_path: Path, keys: Path) -> None:
    with running(tmp_path / "registry") as registry:
        registry.stop()
        registry.config["storage"]["delete"]["enabled"] = False
        registry.start()
        image = registry.reference("claims/kept:v1")
        source = simple_image(tmp_path / "src", (GZIP,)).reference()
        assert boltseal("encrypt", source, image, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
        assert add(image, keys).code == 0
        found = claim_now(image)
        assert found is not None
        assert found["annotations"] == {
            "org.boltseal.claim": "released", "org.boltseal.claim.tag": "v1"
        }  # fmt: skip
        run = boltseal("recipients", "remove", image, "-r", keys / "p256.pub.pem")
        assert run.code == 0, run.err
