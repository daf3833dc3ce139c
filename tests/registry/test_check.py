"""``registry-check``, beside what is known of the registry it looks at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.cli import boltseal
from support.proxy import Fault, proxied

if TYPE_CHECKING:
    from support.registry import Registry


def answers(out: str) -> dict[str, bool | None]:
    return {one["name"]: one["answer"] for one in json.loads(out)["findings"]}


def test_distribution(plain: Registry) -> None:
    run = boltseal("registry-check", f"{plain.host}/check/here", "--json")
    assert run.code == 0, run.err
    assert answers(run.out) == {
        "takes encrypted layers": True,
        "gives them back unchanged": True,
        "lists referrers": False,  # 2.8 has no such API
        "mounts blobs between repositories": True,
        "deletes images": True,
    }
    assert boltseal("tags", plain.reference("check/here")).out.strip() == ""
    run = boltseal("registry-check", f"docker://{plain.host}/check/here")
    assert "yes     takes encrypted layers" in run.out


def test_registries_that_do_not(plain: Registry) -> None:
    with proxied(plain) as proxy:
        proxy.faults = [Fault("PUT", "/manifests/boltseal-check", status=415, times=9)]
        run = boltseal("registry-check", f"{proxy.host}/check/no")
        assert (run.code, "no      takes encrypted layers" in run.out) == (1, True)
        proxy.faults = [
            Fault("DELETE", "/manifests/", status=405, times=9),
            Fault("POST", "mount=", status=404, times=9),
        ]
        run = boltseal("registry-check", f"{proxy.host}/check/no", "--json")
        found = answers(run.out)
        assert run.code == 0
        assert found["deletes images"] is False
        assert found["is as clean as before"] is False
        assert found["mounts blobs between repositories"] is False


def test_nowhere() -> None:
    run = boltseal("registry-check", "127.0.0.1:1/x")
    assert (run.code, "there is no connection" in run.err) == (1, True)
    assert boltseal("registry-check", "x@sha256:" + "0" * 64).code == 2
