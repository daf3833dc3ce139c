"""The administration over HTTP: decisions, and the audit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import StreamingResponse

from boltseal.broker.app import answers, releases, shapes, strict
from boltseal.broker.app.auth import Call, Caller  # noqa: TC001  FastAPI reads annotations
from boltseal.broker.app.parts import MAX_SEQ, PREFIX, Tenant, Time
from boltseal.broker.app.shapes import LINE
from boltseal.broker.audit import export, signing, signing_keys
from boltseal.broker.console import history
from boltseal.broker.service.access import EVERYTHING, require_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(prefix=PREFIX, route_class=strict.Route, tags=["administration"])

_WORD = Annotated[str, Query(max_length=1000, pattern=LINE)]
_LINES = "application/jsonl"


async def _wanted(
    image: Annotated[str, Query(max_length=160, pattern=LINE)] = "",
    key: _WORD = "",
    identity: _WORD = "",
    outcome: Annotated[str, Query(pattern="^(|allowed|refused)$")] = "",
) -> history.Filter:
    return history.Filter(image, key, identity, outcome)


Wanted = Annotated[history.Filter, Depends(_wanted)]


@router.get("/tenants/{tenant}/releases", response_model=shapes.Releases, summary="List decisions")
def list_releases(
    call: Caller,
    tenant: Tenant,
    wanted: Wanted,
    before: Annotated[int | None, Query(ge=1, le=MAX_SEQ)] = None,
) -> dict[str, Any]:
    """The newest first; ``before`` goes on where another list ended."""
    found = history.requests(call.database, call.actor, tenant, wanted, before=before)
    return {"entries": [asdict(one) for one in found.rows], "before": found.before}


@router.get(
    "/tenants/{tenant}/releases/{identifier}",
    response_model=shapes.Decision,
    summary="Explain a decision",
)
def get_release(
    call: Caller,
    tenant: Tenant,
    identifier: Annotated[str, Path(pattern="^[0-9a-f]{16,40}$")],
) -> dict[str, Any]:
    """By the id that its answer had."""
    found = releases.find(call.database, call.actor, tenant, identifier)
    return {"seq": found.seq, "hash": found.hash, **asdict(found.entry)}


@router.get(
    "/tenants/{tenant}/audit/export",
    summary="Export a tenant's audit",
    response_class=StreamingResponse,
    responses={200: {"description": "Lines of JSON", "content": {_LINES: {}}}},
)
def export_tenant(
    call: Caller, tenant: Tenant, since: Time = None, until: Time = None
) -> StreamingResponse:
    """Its own records, and of others the links; it verifies without the broker."""
    return _export(call, tenant, since, until)


@router.get(
    "/audit/export",
    summary="Export the whole audit",
    response_class=StreamingResponse,
    responses={200: {"description": "Lines of JSON", "content": {_LINES: {}}}},
)
def export_all(call: Caller, since: Time = None, until: Time = None) -> StreamingResponse:
    """Only for administrators of all tenants."""
    return _export(call, EVERYTHING, since, until)


@router.get("/audit/checkpoints", response_model=shapes.Checkpoints, summary="Checkpoints")
def checkpoints(
    call: Caller,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ)] = 0,
    size: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Only for administrators of all tenants; with the keys that verify them."""
    require_operator(call.database, call.actor, "administer", "checkpoints", read=True)
    found = signing.checkpoints(call.database, after=after, size=size)
    return {
        "entries": [str(one) for one in found],
        "public_keys": signing_keys.public_keys(call.database),
        "after": found[-1].seq if len(found) == size else None,
    }


def _export(call: Call, tenant: str, since: int | None, until: int | None) -> StreamingResponse:
    replica = call.replica
    now = answers.now()
    window = export.Window(since=since, until=until)
    lines = export.export(
        call.database, call.actor, tenant, window=window, signer=replica.signer, now=now
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
