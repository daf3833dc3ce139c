"""The administration over HTTP: policies, and the auditor's report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import HTMLResponse

from boltseal.broker.app import answers, shapes, strict
from boltseal.broker.app.auth import Caller  # noqa: TC001  FastAPI reads annotations
from boltseal.broker.app.outputs import dry_run_out
from boltseal.broker.app.parts import PREFIX, Digest, Size, Tenant, Time
from boltseal.broker.app.shapes import PAGE_SIZE
from boltseal.broker.audit import render, report
from boltseal.broker.audit.answers import Question
from boltseal.broker.policy import dryrun, engine, versions

router = APIRouter(prefix=PREFIX, route_class=strict.Route, tags=["administration"])

_POLICIES = "/tenants/{tenant}/policies"


async def _question(image: Digest, since: Time = None, until: Time = None) -> Question:
    return Question(image, None, since, until)


Asked = Annotated[Question, Depends(_question)]
_NUMBER = Annotated[int, Path(ge=1, le=10**8)]


@router.get(_POLICIES, response_model=shapes.Policies, summary="List a tenant's policies")
def list_policies(
    call: Caller,
    tenant: Tenant,
    after: Annotated[int | None, Query(ge=1, le=10**8)] = None,
    size: Size = PAGE_SIZE,
) -> dict[str, Any]:
    """The newest first, without their texts."""
    place = "" if after is None else str(after)
    return asdict(versions.list_versions(call.database, call.actor, tenant, after=place, size=size))


@router.post(_POLICIES, status_code=201, response_model=shapes.PolicyOut, summary="Add policies")
def add_policies(call: Caller, tenant: Tenant, body: shapes.NewPolicy) -> dict[str, Any]:
    """As the next version."""
    made = versions.add(
        call.database,
        call.actor,
        tenant,
        body.text,
        comment=body.comment,
        activate=body.activate,
    )
    return asdict(made)


@router.post(
    _POLICIES + "/test", response_model=shapes.DryRun, summary="Try policies on past requests"
)
def test_policies(call: Caller, tenant: Tenant, body: shapes.PolicyTest) -> dict[str, Any]:
    """Writes nothing."""
    with call.database.turns.take(call.actor.tenant):
        found = dryrun.dry_run(
            call.database,
            call.actor,
            tenant,
            body.text,
            against_active=body.against_active,
            limit=body.limit,
        )
    return dry_run_out(found)


@router.post(
    _POLICIES + "/rollback", response_model=shapes.PolicyOut, summary="Take an activation back"
)
def roll_back(call: Caller, tenant: Tenant) -> dict[str, Any]:
    """The last one."""
    return asdict(versions.roll_back(call.database, call.actor, tenant))


@router.get(
    _POLICIES + "/active", response_model=shapes.PolicyOut, summary="Show the active policies"
)
def active(call: Caller, tenant: Tenant) -> dict[str, Any]:
    """With their text."""
    return asdict(versions.get(call.database, call.actor, tenant))


@router.get(
    _POLICIES + "/{version:int}",
    response_model=shapes.PolicyOut,
    summary="Show a version of policies",
)
def get_policies(call: Caller, tenant: Tenant, version: _NUMBER) -> dict[str, Any]:
    """With its text."""
    return asdict(versions.get(call.database, call.actor, tenant, version))


@router.post(
    _POLICIES + "/{version:int}/activate",
    response_model=shapes.PolicyOut,
    summary="Activate policies",
)
def activate(call: Caller, tenant: Tenant, version: _NUMBER) -> dict[str, Any]:
    """They decide from now on, on every replica."""
    return asdict(versions.activate(call.database, call.actor, tenant, version))


@router.get(
    "/tenants/{tenant}/audit/report",
    summary="Report on an image",
    response_model=dict[str, Any],
    responses={200: {"content": {"text/html": {}}}},
)
def image_report(
    call: Caller,
    tenant: Tenant,
    question: Asked,
    form: Annotated[str, Query(pattern="^(json|html)$")] = "json",
) -> Any:
    """Who could open it, who did, and when policies changed."""
    replica = call.replica
    with call.database.turns.take(call.actor.tenant):
        found = report.report(
            call.database,
            call.actor,
            tenant,
            question,
            snapshot=replica.snapshots.current(),
            decide=engine.decide,
            now=answers.now(),
        )
    if form == "html":
        return HTMLResponse(render.to_html(found), headers=_PAGE)
    return found.to_json()


_PAGE = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}
