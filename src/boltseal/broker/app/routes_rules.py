"""The administration over HTTP: trusts, revocations and limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from boltseal.broker.app import shapes, strict
from boltseal.broker.app.auth import Caller  # noqa: TC001  FastAPI reads annotations
from boltseal.broker.app.parts import DONE, PREFIX, Paging, Tenant
from boltseal.broker.app.shapes import CREDENTIAL, NAME
from boltseal.broker.service import limits, revocations, trusts

router = APIRouter(prefix=PREFIX, route_class=strict.Route, tags=["administration"])

TrustName = Annotated[str, Path(pattern=NAME)]
Scope = Annotated[str, Path(pattern="^(identity|key|address)$")]
_TRUST = "/tenants/{tenant}/trusts/{name}"
_REVOCATIONS = "/tenants/{tenant}/revocations"


@router.get("/tenants/{tenant}/trusts", response_model=shapes.Trusts, summary="List trusts")
def list_trusts(call: Caller, tenant: Tenant) -> dict[str, Any]:
    """All of a tenant's."""
    found = trusts.list_trusts(call.database, call.actor, tenant)
    return {"entries": [asdict(one) for one in found]}


@router.get(_TRUST, response_model=shapes.TrustOut, summary="Show a trust")
def get_trust(call: Caller, tenant: Tenant, name: TrustName) -> dict[str, Any]:
    """As it is kept."""
    return asdict(trusts.get_trust(call.database, call.actor, tenant, name))


@router.put(_TRUST, response_model=shapes.TrustOut, summary="Believe an authority")
def set_trust(
    call: Caller, tenant: Tenant, name: TrustName, body: shapes.NewTrust
) -> dict[str, Any]:
    """Under a new name, or otherwise than before."""
    replica = call.replica
    made = trusts.set_trust(
        call.database, call.actor, tenant, name, kind=body.kind, config=body.config
    )
    replica.changed()
    return asdict(made)


@router.delete(_TRUST, status_code=DONE, summary="Believe an authority no longer")
def remove_trust(call: Caller, tenant: Tenant, name: TrustName) -> Response:
    """At once."""
    trusts.remove_trust(call.database, call.actor, tenant, name)
    return Response(status_code=DONE)


@router.get(_REVOCATIONS, response_model=shapes.Revocations, summary="List revocations")
def list_revocations(call: Caller, tenant: Tenant, part: Paging) -> dict[str, Any]:
    """By credential."""
    return asdict(
        revocations.list_revocations(
            call.database, call.actor, tenant, after=part.after, size=part.size
        )
    )


@router.post(
    _REVOCATIONS,
    status_code=201,
    response_model=shapes.NewRevocation,
    summary="Revoke a credential",
)
def revoke(call: Caller, tenant: Tenant, body: shapes.NewRevocation) -> dict[str, Any]:
    """At once, on all replicas."""
    revocations.revoke(call.database, call.actor, tenant, body.credential, reason=body.reason)
    return {"credential": body.credential, "reason": body.reason}


@router.delete(_REVOCATIONS, status_code=DONE, summary="Take a revocation back")
def lift(
    call: Caller,
    tenant: Tenant,
    credential: Annotated[str, Query(max_length=1000, pattern=CREDENTIAL)],
) -> Response:
    """The credential counts again."""
    revocations.lift(call.database, call.actor, tenant, credential)
    return Response(status_code=DONE)


@router.get("/tenants/{tenant}/limits", response_model=shapes.Limits, summary="List limits")
def list_limits(call: Caller, tenant: Tenant) -> dict[str, Any]:
    """Those that are set."""
    found = limits.list_limits(call.database, call.actor, tenant)
    return {
        "entries": [
            {"scope": scope, "per_minute": minute, "per_day": day}
            for scope, (minute, day) in found.items()
        ]
    }


@router.put(
    "/tenants/{tenant}/limits/{scope}", response_model=shapes.LimitOut, summary="Set a limit"
)
def set_limit(call: Caller, tenant: Tenant, scope: Scope, body: shapes.NewLimit) -> dict[str, Any]:
    """0 is no limit."""
    limits.set_limit(
        call.database, call.actor, tenant, scope, per_minute=body.per_minute, per_day=body.per_day
    )
    return {"scope": scope, "per_minute": body.per_minute, "per_day": body.per_day}
