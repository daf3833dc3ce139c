"""Tenants, administrators, trusts, revocations and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from boltseal.broker.model import DEFAULT, RefusedError
from boltseal.broker.service import admins, limits, revocations, tenants, trusts
from boltseal.broker.service.access import SYSTEM, Actor, Role
from boltseal.broker.store import tables
from boltseal.broker.store.snapshot import Snapshots
from boltseal.keywrap.generate import generate_key
from support.broker_store import NOW, furnish

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.broker.store.database import Database

JOE = Actor("joe", DEFAULT)


@pytest.fixture(autouse=True)
def _furnished(database: Database) -> None:
    furnish(database, others=["acme"])


def test_tenants_and_projects(database: Database) -> None:
    assert tenants.list_tenants(database, SYSTEM).entries == ("acme", DEFAULT)
    page = tenants.list_tenants(database, SYSTEM, size=1)
    assert (page.entries, page.after) == (("acme",), "acme")
    assert tenants.list_tenants(database, SYSTEM, after="acme", size=1).entries == (DEFAULT,)
    tenants.create_project(database, JOE, DEFAULT, "web")
    for again in (
        lambda: tenants.create_project(database, JOE, DEFAULT, "web"),
        lambda: tenants.create_tenant(database, SYSTEM, "acme"),
    ):
        with pytest.raises(RefusedError, match="already") as caught:
            again()
        assert caught.value.code == "conflict"
    with pytest.raises(RefusedError, match="there is no tenant") as caught:
        tenants.create_project(database, SYSTEM, "nobody", "web")
    assert caught.value.code == "not-found"


def test_a_token_says_who_it_is(database: Database) -> None:
    token = admins.create_admin(database, JOE, DEFAULT, "ann-1", role="auditor", now=NOW)
    assert admins.authenticate(database, token) == Actor("ann-1", DEFAULT, Role.AUDITOR)
    with database.read() as connection:
        row = connection.execute(select(tables.admins)).one()
        assert token not in str(tuple(row))
        assert token[-43:] not in str(connection.execute(select(tables.audit)).all())
    other = admins.create_admin(database, SYSTEM, "*", "root")
    assert admins.authenticate(database, other) == Actor("root", "*", Role.ADMIN)
    for wrong in (
        "",
        token[:-1],
        token + "A",
        token.upper(),
        token.replace("ann-1", "root"),
        f"bsb_nobody_{token[-43:]}",
        f"bsb_ann-1_{'A' * 43}",
        token + "\n",
        "bsb_ann-1_" + "\xe4" * 43,
        "\udcff",
    ):
        with pytest.raises(RefusedError) as caught:
            admins.authenticate(database, wrong)
        assert caught.value.code == "unauthenticated"
        assert token[-43:] not in str(caught.value)


def test_a_revoked_token_is_worth_nothing_at_once(database: Database) -> None:
    token = admins.create_admin(database, JOE, DEFAULT, "ann")
    admins.revoke_admin(database, JOE, "ann", now=NOW)
    with pytest.raises(RefusedError, match="revoked") as caught:
        admins.authenticate(database, token)
    assert caught.value.code == "unauthenticated"
    (found,) = admins.list_admins(database, JOE, DEFAULT).entries
    assert (found.name, found.revoked) == ("ann", NOW)
    with pytest.raises(RefusedError) as caught:
        admins.revoke_admin(database, JOE, "ann")
    assert caught.value.code == "not-found"
    with pytest.raises(RefusedError, match="taken"):
        admins.create_admin(database, JOE, DEFAULT, "ann")  # names in the audit stay who they were


def test_administrators_of_others_are_out_of_reach(database: Database) -> None:
    admins.create_admin(database, SYSTEM, "*", "root")
    admins.create_admin(database, SYSTEM, "acme", "eve")
    answers = []
    for name in ("root", "eve", "nobody"):
        with pytest.raises(RefusedError) as caught:
            admins.revoke_admin(database, JOE, name)
        answers.append(str(caught.value).replace(name, "NAME"))
    assert len(set(answers)) == 1  # nor does he learn who there is
    with pytest.raises(RefusedError) as caught:
        admins.create_admin(database, JOE, "*", "mine")
    assert caught.value.code == "forbidden"
    with pytest.raises(RefusedError) as caught:
        admins.create_admin(database, SYSTEM, "*", "other", role="king")
    assert caught.value.code == "malformed"


def test_trusts_are_checked_and_kept(database: Database, tmp_path: Path) -> None:
    pair = generate_key(str(tmp_path / "ca.pem"), "rsa3072", certificate="not an authority")
    with pytest.raises(RefusedError) as caught:
        trusts.set_trust(database, JOE, DEFAULT, "eu", kind="x509", config={"ca": "no PEM"})
    assert caught.value.code == "malformed"
    assert pair.certificate_file is not None
    config = {
        "issuer": "https://ci.example",
        "audiences": ["https://broker.example/default"],
        "jwks_uri": "https://ci.example/keys",
        "kind": "Workload",
    }
    kept = trusts.set_trust(database, JOE, DEFAULT, "ci", kind="oidc", config=config)
    assert kept.config["issuer"] == config["issuer"]
    assert trusts.get_trust(database, JOE, DEFAULT, "ci") == kept
    assert trusts.list_trusts(database, JOE, DEFAULT) == (kept,)
    assert Snapshots(database).current().trusts() == (kept,)
    trusts.set_trust(database, JOE, DEFAULT, "ci", kind="oidc", config=config)  # may be set anew
    with pytest.raises(RefusedError, match="another tenant's") as caught:
        trusts.set_trust(database, SYSTEM, "acme", "ci", kind="oidc", config=config)
    assert caught.value.code == "malformed"
    trusts.remove_trust(database, JOE, DEFAULT, "ci")
    assert trusts.list_trusts(database, JOE, DEFAULT) == ()
    for gone in (trusts.get_trust, trusts.remove_trust):
        with pytest.raises(RefusedError) as caught:
            gone(database, JOE, DEFAULT, "ci")
        assert caught.value.code == "not-found"


def test_a_tenant_has_so_many_trusts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusts, "MAX_TRUSTS", 1)
    config = {
        "issuer": "https://ci.example",
        "audiences": ["a"],
        "jwks_uri": "https://ci.example/keys",
        "kind": "Workload",
    }
    trusts.set_trust(database, JOE, DEFAULT, "one", kind="oidc", config=config)
    trusts.set_trust(database, JOE, DEFAULT, "one", kind="oidc", config=config)
    with pytest.raises(RefusedError, match="at most 1") as caught:
        trusts.set_trust(database, JOE, DEFAULT, "two", kind="oidc", config=config)
    assert caught.value.code == "conflict"


CREDENTIALS = (
    "certificate:" + "0a" * 32,
    "identity:x509:eu:CN=node 1, O=\xc4cme",
    "serial:eu:0f",
    "token:" + "ff" * 32,
    "trust:eu",
)


def test_revocations(database: Database) -> None:
    for one in CREDENTIALS:
        revocations.revoke(database, JOE, DEFAULT, one, reason="lost", now=NOW)
    snapshot = Snapshots(database).current()
    assert all(snapshot.revoked(DEFAULT, ["trust:us", one]) == one for one in CREDENTIALS)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = revocations.list_revocations(database, JOE, DEFAULT, after=after, size=2)
        found += [one.credential for one in page.entries]
        after = page.after
    assert tuple(found) == CREDENTIALS
    with pytest.raises(RefusedError, match="already"):
        revocations.revoke(database, JOE, DEFAULT, "trust:eu")
    revocations.lift(database, JOE, DEFAULT, "trust:eu")
    assert Snapshots(database).current().revoked(DEFAULT, ["trust:eu"]) is None
    with pytest.raises(RefusedError) as caught:
        revocations.lift(database, JOE, DEFAULT, "trust:eu")
    assert caught.value.code == "not-found"


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "eu",
        "trust:",
        "trust:EU",
        "certificate:" + "0A" * 32,
        "token:" + "f" * 63,
        "serial:0f",
        "identity:",
        "identity:a\nb",
        "identity:" + "x" * 992,
    ],
)
def test_credentials_that_nobody_has(database: Database, credential: str) -> None:
    with pytest.raises(RefusedError) as caught:
        revocations.revoke(database, SYSTEM, DEFAULT, credential)
    assert caught.value.code == "malformed"


def test_limits(database: Database) -> None:
    limits.set_limit(database, JOE, DEFAULT, "key", per_minute=5, per_day=100)
    limits.set_limit(database, JOE, DEFAULT, "identity", per_minute=0, per_day=7)
    limits.set_limit(database, JOE, DEFAULT, "key", per_minute=6, per_day=0)
    wanted = {"identity": (0, 7), "key": (6, 0)}
    assert limits.list_limits(database, JOE, DEFAULT) == wanted
    assert Snapshots(database).current().limits(DEFAULT) == wanted
    limits.set_limit(database, JOE, DEFAULT, "key", per_minute=0, per_day=0)
    assert limits.list_limits(database, JOE, DEFAULT) == {"identity": (0, 7)}
    for scope, number in (("host", 1), ("key", -1), ("key", 1_000_000_001)):
        with pytest.raises(RefusedError) as caught:
            limits.set_limit(database, JOE, DEFAULT, scope, per_minute=number, per_day=0)
        assert caught.value.code == "malformed"
