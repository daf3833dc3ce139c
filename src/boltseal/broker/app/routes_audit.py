"""The administration over HTTP: decisions, and the audit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import StreamingResponse

from boltseal.broker.app import answers, releases, shapes, strict
from boltseal.broker.app.auth import Admin
from boltseal.broker.app.routes_admin import PREFIX, Tenant, replica_of
from boltseal.broker.app.shapes import LINE
from boltseal.broker.audit import export, signing
from boltseal.broker.console import history
from boltseal.broker.service.access import EVERYTHING, require_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(prefix=PREFIX, route_class=strict.Route, tags=["administration"])

_SEQ = 2**53
_WORD = Annotated[str, Query(max_length=1000, pattern=LINE)]
_TIME = Annotated[int | None, Query(ge=0, le=2**40)]
_LINES = "application/jsonl"


@router.get(
    "/tenants/{tenant}/releases", response_model=shapes.Releases, summary="List decisions"
)
def list_releases(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    image: Annotated[str, Query(max_length=160, pattern=LINE)] = "",
    key: _WORD = "",
    identity: _WORD = "",
    outcome: Annotated[str, Query(pattern="^(|allowed|refused)$")] = "",
    before: Annotated[int | None, Query(ge=1, le=_SEQ)] = None,
) -> dict[str, Any]:
    """The newest first; ``before`` goes on where another list ended."""
    wanted = history.Filter(image, key, identity, outcome)
    found = history.requests(replica_of(request).database, actor, tenant, wanted, before=before)
    return {"entries": [asdict(one) for one in found.rows], "before": found.before}


@router.get(
    "/tenants/{tenant}/releases/{identifier}",
    response_model=shapes.Decision,
    summary="Explain a decision",
)
def get_release(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    identifier: Annotated[str, Path(pattern="^[0-9a-f]{16,40}$")],
) -> dict[str, Any]:
    """By the id that its answer had."""
    found = releases.find(replica_of(request).database, actor, tenant, identifier)
    return {"seq": found.seq, "hash": found.hash, **asdict(found.entry)}


@router.get(
    "/tenants/{tenant}/audit/export",
    summary="Export a tenant's audit",
    response_class=StreamingResponse,
    responses={200: {"description": "Lines of JSON", "content": {_LINES: {}}}},
)
def export_tenant(
    request: Request, actor: Admin, tenant: Tenant, since: _TIME = None, until: _TIME = None
) -> StreamingResponse:
    """Its own records, and of others the links; it verifies without the broker."""
    return _export(request, actor, tenant, since, until)


@router.get(
    "/audit/export",
    summary="Export the whole audit",
    response_class=StreamingResponse,
    responses={200: {"description": "Lines of JSON", "content": {_LINES: {}}}},
)
def export_all(
    request: Request, actor: Admin, since: _TIME = None, until: _TIME = None
) -> StreamingResponse:
    """Only for administrators of all tenants."""
    return _export(request, actor, EVERYTHING, since, until)


@router.get("/audit/checkpoints", response_model=shapes.Checkpoints, summary="Checkpoints")
def checkpoints(
    request: Request,
    actor: Admin,
    after: Annotated[int, Query(ge=0, le=_SEQ)] = 0,
    size: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Only for administrators of all tenants; with the keys that verify them."""
    database = replica_of(request).database
    require_operator(database, actor, "administer", "checkpoints", read=True)
    found = signing.checkpoints(database, after=after, size=size)
    return {
        "entries": [str(one) for one in found],
        "public_keys": signing.public_keys(database),
        "after": found[-1].seq if len(found) == size else None,
    }


def _export(
    request: Request, actor: Admin, tenant: str, since: int | None, until: int | None
) -> StreamingResponse:
    replica = replica_of(request)
    now = answers.now()
    window = export.Window(since=since, until=until)
    lines = export.export(
        replica.database, actor, tenant, window=window, signer=replica.signer, now=now
    )
    return StreamingResponse(_chunks(lines), media_type=_LINES)


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Several lines at a time: each chunk takes a turn of a thread."""
    kept: list[bytes] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size >= 64 * 1024:
            yield b"".join(kept)
            kept, size = [], 0
    yield b"".join(kept)


