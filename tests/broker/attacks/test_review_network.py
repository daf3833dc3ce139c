"""Somebody on the way to the database, a tenant who looks at figures, a claim of two types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from boltseal.broker.model import (
    Action,
    Assurance,
    Circumstances,
    Claim,
    PolicySetVersion,
    Principal,
    PrincipalKind,
    Resource,
)
from boltseal.broker.policy.engine import decide_by
from boltseal.broker.store import engines

if TYPE_CHECKING:
    from support.broker_world import World


class _Connected(Exception):  # noqa: N818  how far a test goes
    pass


def told(url: str) -> dict[str, Any]:
    """What libpq is told of TLS."""
    engine = engines.make(url, 1)
    found: dict[str, Any] = {}

    @event.listens_for(engine, "do_connect")
    def _(_dialect: Any, _record: Any, _arguments: Any, named: dict[str, Any]) -> None:
        found.update(named)
        raise _Connected

    with pytest.raises(_Connected):
        engine.connect()
    return {name: found[name] for name in ("sslmode", "sslrootcert") if name in found}


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("postgresql://a@db.example/b", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgresql://a@10.0.0.1/b", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgresql://a@/b?host=db.example", {"sslmode": "verify-full", "sslrootcert": "system"}),
        (
            "postgresql://a@/b?host=/run/postgresql,db.example",
            {"sslmode": "verify-full", "sslrootcert": "system"},
        ),
        (
            "postgresql://a@db.example/b?sslrootcert=ca.pem",
            {"sslmode": "verify-full", "sslrootcert": "ca.pem"},
        ),
        ("postgresql://a@db.example/b?sslmode=disable", {"sslmode": "disable"}),
        ("postgresql://a@127.0.0.1/b", {}),
        ("postgresql://a@[::1]/b", {}),
        ("postgresql://a@/b?host=/run/postgresql", {}),
        ("postgresql://a@/b", {}),
    ],
)
def test_a_database_elsewhere_is_verified(url: str, tls: dict[str, str]) -> None:
    assert told(url) == tls


def test_figures_are_for_operators(world: World) -> None:
    made = world.broker.ask(
        "POST", "/v1/admin/admins", {"name": "reads-figures", "tenant": "other", "role": "auditor"}
    )
    token = made.json["token"]
    assert world.broker.ask("GET", "/v1/admin/tenants/other/keys", token=token).status == 200
    assert world.broker.ask("GET", "/metrics", token=token).code == "forbidden"
    assert world.broker.ask("GET", "/metrics").status == 200


def test_the_report_is_in_no_frame(world: World) -> None:
    path = "/v1/admin/tenants/default/audit/report?form=html&image=sha256:" + "0" * 64
    policy = world.broker.ask("GET", path).headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'none'" in policy


def test_one_is_not_true() -> None:
    """Python says that they are equal, also where what Cedar was told is remembered."""
    text = """@id("flag") permit (principal, action, resource) when {
      context has claims && context.claims.hasTag("flag")
      && context.claims.getTag("flag").values.contains("true") };"""
    policy = PolicySetVersion("default", 1, text, "", 0)
    resource = Resource("default")

    def allowed(value: object) -> bool:
        claim = Claim("flag", value, Assurance.SIGNED, "ci")  # type: ignore[arg-type]
        who = Principal(PrincipalKind.PERSON, "default", "oidc:ci:me", "ci", claims=(claim,))
        return decide_by(policy, who, Action.AUDIT, resource, Circumstances(1)).allowed

    assert [allowed(True), allowed(1), allowed(True)] == [True, False, True]
