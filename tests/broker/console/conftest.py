"""One broker for all tests of the console in this process, and browsers without a screen."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.model import KeyPath
from boltseal.broker.service import admins, keys, tenants
from boltseal.broker.service.access import SYSTEM
from support.broker import Broker
from support.broker_console import Browser, open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.broker.keys.safe import Safe


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running one. Tests share it: each uses a tenant of its own for what it changes."""
    with Broker(tmp_path_factory.mktemp("console") / "broker") as running:
        yield running


@pytest.fixture(scope="session")
def safe(broker: Broker) -> Safe:
    """The broker's own, to make keys beside it."""
    from boltseal.broker.app import config, replica

    settings = config.load(str(broker.folder))
    return replica.open_safe(settings, open_database(broker))


@pytest.fixture
def operator(broker: Broker) -> Browser:
    """A browser of somebody who is of all tenants."""
    browser = Browser(broker)
    assert browser.sign_in().status == 200
    return browser


@pytest.fixture
def tenant(broker: Broker, safe: Safe) -> str:
    """A new tenant with the project ``default`` and the key ``prod-eu`` in it."""
    name = f"t-{secrets.token_hex(6)}"
    with open_database(broker) as database:
        tenants.create_tenant(database, SYSTEM, name)
        tenants.create_project(database, SYSTEM, name, "default")
        keys.create(database, SYSTEM, safe, KeyPath(name, "default", "prod-eu"), algorithm="p256")
    return name


@pytest.fixture
def sign_in(broker: Broker) -> Callable[..., Browser]:
    """A browser of a new administrator of a tenant."""

    def do(tenant: str, role: str = "admin") -> Browser:
        with open_database(broker) as database:
            name = f"a-{secrets.token_hex(6)}"
            token = admins.create_admin(database, SYSTEM, tenant, name, role=role)
        browser = Browser(broker)
        browser.name, browser.token = name, token
        assert browser.sign_in(token).status == 200
        return browser

    return do


@pytest.fixture
def now() -> int:
    return int(time.time())
