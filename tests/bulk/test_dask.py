"""The same job on a real Dask cluster: two worker processes on loopback, and one that is killed."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from boltseal.errors import BoltsealError, ClusterError, UsageError
from boltseal.image.bulk import cluster, parcel
from boltseal.image.bulk.task import Task
from boltseal.image.lookup import tags as tags_of
from support import layouts
from support.bulk import entries, many_images, states
from support.cli import boltseal
from support.proxy import Fault, proxied
from support.registry import PASSWORD, USER, Authority, Registry, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.bulk import Place

distributed = pytest.importorskip("distributed")
IMAGES = 50


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """A client of a cluster with two worker processes, each with one thread."""
    import dask

    # a worker that dies is tried on others; a task that kills its second one is given up
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


NO_FAILURE = {"kind": "x", "message": "x", "hint": None, "exit_code": 0}


def answer(state: str, **more: object) -> str:
    """What a worker may send that is not what it should be."""
    plain = {
        "number": 0, "state": state, "source_digest": None, "digest": None, "layers": 0,
        "why": "", "failure": None, "notes": [], "warnings": [],
    }  # fmt: skip
    return repr({**plain, **more})


def address(client: Any) -> str:
    return str(client.scheduler_info()["address"])


def test_a_worker_is_killed_in_the_middle(workers: Any, paged: Registry, place: Place) -> None:
    wanted = [f"v{n}" for n in range(IMAGES)]
    many_images(place.folder / "plain", wanted)
    killed: list[int] = []

    def kill() -> None:
        """Called while a worker is in the middle of an upload."""
        killed.append(next(iter(workers.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    with proxied(paged) as proxy:
        proxy.faults.append(Fault("PUT", "/blobs/uploads/", skip=IMAGES, before=kill))
        sealed = f"docker://{proxy.host}/dask/sealed"
        report = library.encrypt_many(
            [(f"oci:plain:{tag}", f"{sealed}:{tag}") for tag in wanted],
            [f"jwe:{place.keys}/p256.pub.pem"],
            journal="journal",
            executor=library.DaskExecutor(workers),
        )
    assert len(killed) == 1
    assert killed[0] not in workers.run(os.getpid).values()
    assert [one.state for one in report.images] == ["encrypted"] * IMAGES
    # every image is there, once, as the journal says it, and right
    place_ = paged.reference("dask/sealed")
    assert sorted(tags_of(place_)) == sorted(wanted)
    assert len(entries(place.folder / "journal")) == IMAGES
    for one in report.images:
        tag = one.destination.rpartition(":")[2]
        found = library.verify(f"{place_}:{tag}", [f"{place.keys}/p256.pem"])
        assert found.is_good
        assert found.digest == one.digest


def test_the_command_line_and_a_shared_layout(workers: Any, place: Place) -> None:
    place.images(8)
    place.write_list(8, "oci:nowhere:v1 oci:sealed:n1")
    run = place.encrypt("--dask", address(workers), "--json")
    assert run.code == 1
    assert states(run) == ["encrypted"] * 8 + ["failed"]
    assert "there is no layout at" in run.err
    layouts.check(place.folder / "sealed")
    assert layouts.temporaries(place.folder / "sealed") == []
    assert all(place.is_right(f"oci:sealed:v{n}") for n in range(8))
    # the journal is the same, whoever does the work
    assert states(place.encrypt("--json")) == ["skipped"] * 8 + ["failed"]
    again = place.encrypt("--dask", address(workers), "--json")
    assert states(again) == ["skipped"] * 8 + ["failed"]


def test_workers_have_logins_of_their_own(workers: Any, tmp_path: Path, place: Place) -> None:
    authority = Authority(tmp_path / "authority")
    place.images(2)
    with running(tmp_path / "registry", authority=authority, htpasswd=True) as registry:
        common = ("--to", registry.reference("a:{tag}"), "--cert-dir", authority.trusted())
        more = ("--journal", "j", "--dask", address(workers), "--json")
        pattern = "oci:plain:*"
        run = place.encrypt(*common, *more, "--creds", f"{USER}:{PASSWORD}", source=pattern)
        assert (run.code, "credentials are not sent to a cluster" in run.err) == (2, True)
        assert PASSWORD not in run.err
        assert states(place.encrypt(*common, *more, source=pattern)) == ["failed"] * 2
        login = ("--authfile", "auth.json", "--cert-dir", authority.trusted(), "-u", USER)
        done = subprocess.run(
            [sys.executable, "-m", "boltseal", "login", *map(str, login), "--password-stdin",
             registry.host], input=PASSWORD, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run = place.encrypt(*common, *more, "--authfile", tmp_path / "auth.json", source=pattern)
        assert states(run) == ["encrypted"] * 2, run.err


def test_no_secret_travels(place: Place) -> None:
    who = (library.parse_recipient(f"jwe:{place.keys}/p256.pub.pem"),)
    environment = {"TOKEN": "s3cret"}
    keys = library.KeyOptions(environment=environment, ask=lambda name: b"s3cret")
    registry = library.RegistryOptions(
        auth_file="/on/the/worker", proxies={"http": "http://u:s3cret@p"}, tls_verify=True
    )
    options = {"keys": keys, "registry": registry, "layers": ["0"], "except_base": "oci:base"}
    sent = parcel.pack(Task(0, "oci:a:v1", "docker://r.example/b:v1", who, options))
    text = json.dumps(sent)  # it is plain data
    assert "s3cret" not in text
    assert sent["options"] == {"layers": ["0"], "except_base": f"oci:{place.folder}/base"}
    globs = {"layers_containing": ["oci:key", "dir:x"], "scrub": ["label:oci:*"]}
    alike = parcel.pack(Task(0, "oci:a:v1", "oci:b:v1", who, {**globs, "reuse": ["oci:old:v1"]}))
    assert alike["options"] == {**globs, "reuse": [f"oci:{place.folder}/old:v1"]}
    assert (sent["source"], sent["destination"]) == (
        f"oci:{place.folder}/a:v1",
        "docker://r.example/b:v1",
    )
    for secret in (
        {"identities": [f"{place.keys}/p256.pem"]},
        {"registry": library.RegistryOptions(credentials=("u", "s3cret"))},
        {"registry": (registry, library.RegistryOptions(credentials=("u", "s3cret")))},
    ):
        with pytest.raises(UsageError, match="not sent to a cluster") as caught:
            parcel.pack(Task(0, "oci:a:v1", "oci:b:v1", who, {**options, **secret}))
        assert "s3cret" not in str(caught.value)
    found = parcel.work({**sent, "boltseal": "0.0.0"})
    assert "the job comes from 0.0.0" in found["failure"]["message"]


def test_private_keys_stay_here(workers: Any, place: Place) -> None:
    place.images(1)
    place.write_list(1)
    run = place.encrypt("--dask", address(workers), "-k", f"{place.keys}/p256.pem")
    assert (run.code, "private keys are not sent to a cluster" in run.err) == (2, True)
    assert not list(place.folder.glob("*.journal"))


def test_an_image_that_kills_its_workers_is_given_up(workers: Any, place: Place) -> None:
    place.images(1)
    fatal = functools.partial(eval, "__import__('os').kill(__import__('os').getpid(), 9)", {})
    report = library.encrypt_many(
        [("oci:plain:v0", "oci:sealed:v0")],
        [f"jwe:{place.keys}/p256.pub.pem"],
        executor=library.DaskExecutor(workers, work=fatal),
    )
    (one,) = report.images
    assert one.failure is not None
    assert one.failure.message == "every worker that began it died"


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("1/0", "the cluster lost it: ZeroDivisionError"),
        ("__import__('nothing')", "the workers do not have nothing"),
        ("{'number': 7}", "the cluster lost it: KeyError"),
        ("[]", "the cluster lost it: TypeError"),
        (answer("encrypted", source_digest="x"), "the cluster lost it: MalformedError"),
        (answer("done"), "the cluster lost it: ValueError"),
        (answer("failed"), "the cluster lost it: ValueError"),
        (answer("failed", failure=NO_FAILURE), "the cluster lost it: ValueError"),
    ],
)
def test_workers_that_do_something_else(workers: Any, place: Place, work: str, said: str) -> None:
    report = library.encrypt_many(
        [("oci:plain:v0", "oci:sealed:v0")],
        [f"jwe:{place.keys}/p256.pub.pem"],
        executor=library.DaskExecutor(workers, work=functools.partial(eval, work, {})),
    )
    assert report.images[0].failure is not None
    assert report.images[0].failure.message == said


def test_fail_fast_leaves_the_rest(workers: Any, place: Place) -> None:
    place.images(1)
    jobs = [("oci:nowhere:v0", "oci:sealed:n0")] * 1
    jobs += [("oci:plain:v0", f"oci:sealed:v{n}") for n in range(30)]
    report = library.encrypt_many(
        jobs,
        [f"jwe:{place.keys}/p256.pub.pem"],
        executor=library.DaskExecutor(workers),
        fail_fast=True,
    )
    assert report.exit_code == 1
    assert report.count("failed") == 1
    assert report.count("not done") > 0


def test_no_cluster_no_workers_no_package(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(cluster, "_WORKER_SECONDS", 0.5)
    place.images(1)
    place.write_list(1)
    for wrong in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:nothing"):
        run = place.encrypt("--dask", wrong)
        assert (run.code, "no Dask scheduler answers at" in run.err) == (1, True), run.err
    with (
        distributed.LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as empty,
        pytest.raises(ClusterError, match="has no worker"),
    ):
        library.encrypt_many(
            [("oci:plain:v0", "oci:sealed:v0")],
            [f"jwe:{place.keys}/p256.pub.pem"],
            executor=library.DaskExecutor(empty.scheduler_address),
        )
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BoltsealError, match=r"pip install 'boltseal\[dask\]'"):
        library.DaskExecutor("tcp://127.0.0.1:1")
    assert not (place.folder / "sealed").exists()
    assert boltseal("inspect", "oci:sealed:v0").code == 1
