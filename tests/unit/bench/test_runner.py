"""The harness: which cases there are, how they are chosen, and one small run beside skopeo."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from bench import broker_server, image, measure, runner
from bench.case import Plan, Run
from bench.cases import everything
from bench.workbench import Workbench

from support.peers import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_cases_have_names_of_their_own_and_can_be_chosen() -> None:
    cases = everything()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    chosen = runner.select(cases, ["startup", "disk-*-decrypt"])
    assert [case.name for case in chosen] == [
        "start-version",
        "start-inspect",
        "start-check",
        "disk-gzip-1x2g-decrypt",
    ]
    assert runner.select(cases, []) == cases


def test_a_case_that_is_compared_has_five_rounds_and_eight_on_disk() -> None:
    for case in everything():
        if any(target.kind != "peak_mib" for target in case.targets):
            assert case.rounds >= (8 if case.group == "disk" else 5), case.name
            assert case.warm is not None, case.name


def test_a_peak_is_that_of_the_program_and_not_of_who_measures_it() -> None:
    ballast = b"x" * (100 << 20)  # written to, so that it counts
    small = measure.usage([sys.executable, "-S", "-c", "pass"])
    large = measure.usage([sys.executable, "-S", "-c", "b'x' * (60 << 20)"])
    assert small.peak_mib < 40 < 60 <= large.peak_mib < len(ballast) >> 20


def test_a_program_that_fails_is_no_measurement() -> None:
    with pytest.raises(measure.CommandError, match="ended with 3: oh no"):
        measure.usage(
            [sys.executable, "-c", "import sys; print('oh no', file=sys.stderr); sys.exit(3)"]
        )


def test_a_program_may_state_its_own_seconds() -> None:
    command = [sys.executable, "-S", "-c", "print('{\"seconds\": 1234.5}')"]
    assert measure.usage(command, inner=True).seconds == 1234.5


def test_what_a_program_states_beside_them_is_kept_for_every_round() -> None:
    said = 'import time; print(\'{"seconds": 2.5, "p99_ms": %f}\' % time.time())'
    stating = Run((sys.executable, "-S", "-c", said), inner=True)
    silent = Run((sys.executable, "-S", "-c", "pass"))
    runs = runner._turns(Plan({"stating": stating, "silent": silent}), 2, "seed")
    assert runs["stating"]["seconds"] == [2.5, 2.5]
    first, second = sorted(runs["stating"]["stated"]["p99_ms"])
    assert 10**9 < first < second
    assert "stated" not in runs["silent"]


def test_the_cryptography_of_a_release_alone() -> None:
    for algorithm in ("xwing", "p256"):
        command = [sys.executable, "-m", "bench.broker_bare", algorithm, "9"]
        seen = measure.usage(command, inner=True)
        assert 0 < seen.stated["p50_ms"] <= seen.stated["p99_ms"] <= 1000 * seen.seconds


def test_a_full_database_is_compared_with_an_empty_one_that_serves_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Path, dict[str, Any]]] = []

    @contextmanager
    def serving(folder: Path, **how: Any) -> Iterator[Path]:
        folder.mkdir()
        served.append((folder, how))
        yield folder

    monkeypatch.setattr(broker_server, "serving", serving)
    monkeypatch.setattr(broker_server, "plan", lambda folder, *_, port: folder / str(port))
    (case,) = [one for one in everything() if one.name == "broker-sqlite-xwing-1m"]
    with Workbench(tmp_path, tmp_path) as bench:
        monkeypatch.setattr(bench, "room", lambda *_: None)
        with case.build(bench, case.size) as plan:
            assert list(plan.runs) == ["empty database", "full database"]
            commands = [one.command[-1] for one in plan.runs.values()]
            assert commands == [str(folder / str(how["port"])) for folder, how in served]
            assert len({how["port"] for _, how in served}) == 2
            assert [how["filled"] for _, how in served] == [(0, 0), (1_000_000, 10_000)]
            assert all(folder.is_dir() for folder, _ in served)
        assert not any(folder.exists() for folder, _ in served)


@pytest.mark.parametrize("kind", image.KINDS)
def test_images_hold_what_their_digests_say(tmp_path: Path, kind: str) -> None:
    from bench.workbench import check_blobs

    image.build(tmp_path / "plain", 40_000, 2, kind)
    check_blobs("image", tmp_path / "plain")
    first, _ = image.manifest(tmp_path / "plain")["layers"]
    path = image.blob(tmp_path / "plain", first["digest"])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(measure.CommandError, match="has not its digest"):
        check_blobs("image", tmp_path / "plain")


def test_one_case_beside_skopeo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("skopeo") is None:
        missing("skopeo is not installed")
    out = tmp_path / "results.json"
    arguments = ["size-64k-encrypt", "--quick", "--out", str(out)]
    arguments += ["--memory", str(tmp_path), "--disk", str(tmp_path)]
    assert runner.main(arguments) == 0
    kept = json.loads(out.read_text())
    found = kept["cases"]["size-64k-encrypt"]
    assert found["size"] == 64 << 10
    assert {who: len(run["seconds"]) for who, run in found["runs"].items()} == {
        "boltseal": 1,
        "skopeo": 1,
    }
    assert str(tmp_path) not in out.read_text()
    assert "[1/1] size-64k-encrypt" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    # What is there already is left as it is.
    assert runner.main([*arguments, "--missing"]) == 0
    assert json.loads(out.read_text()) == kept


def test_figures_of_another_machine_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    out.write_text(json.dumps({"format": 1, "quick": True, "machine": {}, "cases": {}}))
    with pytest.raises(SystemExit, match="another machine"):
        runner.main(["start-version", "--quick", "--out", str(out)])
