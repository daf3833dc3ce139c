"""Requests made up from the OpenAPI description: it is true, and nothing ends in a 5xx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import broker_world
from support.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,"
CHECKS += "response_schema_conformance,response_headers_conformance"
# a broker without a database is the only one that may answer 503; here it has one
_CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx"]
"""


PHASES = {"administrator": "coverage,fuzzing", "nobody": "fuzzing"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[broker_world.World]:
    """One of its own: an administrator with these ideas leaves nothing as it was."""
    folder = tmp_path_factory.mktemp("schema")
    made = broker_world.World(Broker(folder / "broker"), folder)
    made.key("theirs", published=True)
    with made.broker:
        yield made
    made.close()


@pytest.mark.parametrize("who", PHASES)
def test_schemathesis(world: broker_world.World, tmp_path: Path, who: str) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed (it is among the dev dependencies)")
    description = tmp_path / "openapi.json"
    description.write_text(world.broker.ask("GET", "/openapi.json").body.decode())
    document = json.loads(description.read_text())
    assert len(document["paths"]) > 20
    (tmp_path / "schemathesis.toml").write_text(_CONFIG)
    command = [
        str(program), "--config-file", str(tmp_path / "schemathesis.toml"),
        "run", str(description), "--url", world.broker.url,
        "--tls-verify", str(world.broker.ca), "--checks", CHECKS,
        "--phases", PHASES[who], "--max-examples", "1", "--seed", "1",
        "--generation-database", "none", "--no-color", "--request-timeout", "20",
    ]  # fmt: skip
    if who == "administrator":
        command += ["--header", f"Authorization: Bearer {world.broker.admin_token}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert "test cases" in done.stdout.lower() or "generated" in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
    assert not world.broker.logged("problem"), world.broker.logged("problem")[:3]
