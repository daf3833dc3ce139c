"""One broker that all attacks are made on, with an issuer of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.broker.policy import versions
from boltseal.broker.service import trusts
from boltseal.broker.service.access import SYSTEM
from support import broker_identity as identity
from support import broker_world
from support.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World

SIGNERS = (identity.Signer("ec", place=31), identity.Signer("rsa", "rsa2048", place=31))
_JOBS = """
@id("jobs")
permit (principal is Boltseal::Workload, action == Boltseal::Action::"unwrap", resource);
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Running. A short patience with what is slow; a file of the log that tests read."""
    folder = tmp_path_factory.mktemp("attacks")
    limits = "[limits]\nheader_seconds = 1\nbody_seconds = 1"
    made = broker_world.World(Broker(folder / "broker", settings=limits), folder)
    trusts.set_trust(
        made.database, SYSTEM, "default", "ci", kind="oidc",
        config={
            "issuer": "https://issuer.example",
            "audiences": ["broker"],
            "jwks": identity.key_set(*SIGNERS),
        },
    )  # fmt: skip
    text = broker_world.POLICY + _JOBS
    versions.add(made.database, SYSTEM, "default", text, activate=True)
    with made.broker:
        yield made
    made.close()


@pytest.fixture(scope="session")
def key(world: World) -> KeyVersion:
    """The default tenant's."""
    return world.key("attacked")


@pytest.fixture(scope="session")
def other_key(world: World) -> KeyVersion:
    """The other tenant's."""
    return world.key("theirs", tenant=broker_world.OTHER)


@pytest.fixture(scope="session")
def host(world: World) -> Host:
    """One that may open the default tenant's keys."""
    return world.host("good-host")
