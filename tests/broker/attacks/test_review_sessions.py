"""Sessions that outlive what they rest on."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker import backup
from boltseal.broker.audit import details
from boltseal.broker.console import sessions
from boltseal.broker.console.settings import ConsoleSettings
from boltseal.broker.model import Assurance, Claim, Principal, PrincipalKind, RefusedError
from boltseal.broker.policy import versions
from boltseal.broker.service import admins, tenants
from boltseal.broker.service.access import EVERYTHING, SYSTEM
from boltseal.broker.store.database import Database
from boltseal.broker.store.snapshot import Snapshots

if TYPE_CHECKING:
    from pathlib import Path

ALL = """@id("all") permit (principal is Boltseal::Person, action == Boltseal::Action::"administer",
resource);"""


def services(database: Database) -> Any:
    return SimpleNamespace(
        database=database, snapshots=Snapshots(database), console=ConsoleSettings()
    )


def person(value: tuple[str, ...]) -> Principal:
    claim = Claim("groups", value, Assurance.SIGNED, "staff")
    return Principal(PrincipalKind.PERSON, "default", "oidc:staff:me", "staff", claims=(claim,))


def test_claims_that_a_session_cannot_keep(sqlite: Database) -> None:
    """A policy that forbids by one of them would have nothing to look at on the next page."""
    tenants.create_tenant(sqlite, SYSTEM, "default")
    versions.add(sqlite, SYSTEM, "default", ALL, activate=True)
    now = int(time.time())
    assert sessions.start_by_principal(services(sqlite), person(("a",)), "::1", now)
    long = person(("a" * details.MAX_CLAIMS, "suspended"))
    with pytest.raises(RefusedError, match="too long for a session") as caught:
        sessions.start_by_principal(services(sqlite), long, "::1", now)
    assert caught.value.code == "forbidden"


def test_a_backup_signs_nobody_in(sqlite: Database, tmp_path: Path) -> None:
    token = admins.create_admin(sqlite, SYSTEM, EVERYTHING, "root")
    now = int(time.time())
    actor = admins.authenticate(sqlite, token)
    session = sessions.start_by_token(services(sqlite), actor, "::1", now)
    assert sessions.load(services(sqlite), session, "::1", now)
    backup.backup(sqlite, str(tmp_path / "copy"), now=now)
    with Database.open(f"sqlite:///{tmp_path}/new.db") as restored:
        backup.restore(restored, str(tmp_path / "copy"), actor="me", now=now)
        assert sessions.load(services(restored), session, "::1", now) is None
        assert admins.authenticate(restored, token) == actor
