"""Routes for hosts, and for whoever looks after the process."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from boltseal.broker.app import answers
from boltseal.broker.app.outputs import public_document
from boltseal.broker.app.shapes import NAME
from boltseal.broker.model import Action, KeyPath, RefusedError
from boltseal.broker.release.jobs import Target
from boltseal.broker.store import tables
from boltseal.errors import BoltsealError
from boltseal.keywrap.broker import protocol as wire

if TYPE_CHECKING:
    from boltseal.broker.app.replica import Replica
    from boltseal.broker.model import KeyVersion

router = APIRouter()
_JSON = "application/json"
_OK = b'{"status":"ok"}'


class Status(BaseModel):
    """Whether the process, or all it needs, is well."""

    status: str


class PublicKey(BaseModel):
    """The public half of a key's version, as ``-r broker:`` pins it."""

    boltseal: str
    brokers: list[str]
    key: str = Field(description="TENANT/PROJECT/NAME")
    version: int
    algorithm: str
    public: str = Field(description="SubjectPublicKeyInfo in PEM")
    fingerprint: str = Field(description="sha256:HEX of the SubjectPublicKeyInfo")


@router.get("/healthz", response_model=Status, summary="Whether the process lives")
async def healthz() -> Response:
    """Says nothing of the database: a process that waits for it need not be started again.

    It tells the time, which the doctor of a host compares: requests may be a minute off.
    """
    return Response(_OK, media_type=_JSON, headers={"Date": formatdate(usegmt=True)})


@router.get("/v1/ping", response_model=Status, summary="Nothing")
async def ping() -> Response:
    """An empty answer, to measure with."""
    return Response(_OK, media_type=_JSON)


@router.get("/readyz", response_model=Status, summary="Whether it can release keys")
async def readyz(request: Request) -> Response:
    """The database is reachable and of the right schema, and the root key opens it."""
    replica: Replica = request.app.state.replica
    if replica.is_stopping:
        return answers.refusal("unavailable")
    try:
        await run_in_threadpool(_look, replica)
    except (RefusedError, BoltsealError) as error:
        replica.log.problem("ready", error)
        return answers.refusal("unavailable")
    return Response(_OK, media_type=_JSON)


def _look(replica: Replica) -> None:
    with replica.database.read() as connection:
        connection.execute(select(tables.head.c.epoch)).one()
    if not replica.safe.data_keys():
        replica.safe.reload()


@router.post(
    wire.PATH,
    summary="Release one layer's key",
    openapi_extra={"requestBody": {"$ref": "#/components/requestBodies/Release"}},
)
async def release(request: Request) -> Response:
    """Opens a wrapped key for a host, sealed to the fresh key that the host sends."""
    replica: Replica = request.app.state.replica
    try:
        body = await request.body()
    except ClientDisconnect:
        return answers.refusal("malformed")
    if request.headers.get("content-type", _JSON).partition(";")[0].strip() != _JSON:
        return answers.refusal("malformed", status=415)
    who = answers.presented(request)
    reply = await replica.releases.release_async(body, who)
    headers = {"retry-after": str(reply.wait)} if reply.wait else None
    return Response(reply.body, reply.status, headers, _JSON)


@router.get(
    "/v1/keys/{tenant}/{project}/{name}",
    response_model=PublicKey,
    summary="The public half of a key",
)
async def public_key(
    request: Request,
    tenant: Annotated[str, Path(pattern=NAME)],
    project: Annotated[str, Path(pattern=NAME)],
    name: Annotated[str, Path(pattern=NAME)],
    version: Annotated[int | None, Query(ge=1, le=wire.MAX_VERSION)] = None,
) -> Response:
    """For anybody if the key is published; otherwise for those whom a policy lets wrap."""
    replica: Replica = request.app.state.replica
    path = KeyPath(tenant, project, name)

    def find() -> KeyVersion | None:
        return replica.snapshots.current().key(path, version)

    who = answers.presented(request)
    found = await run_in_threadpool(find)
    if found is None or not found.published or (version is None and found.state != "enabled"):
        grant = await replica.releases.authorise_async(Action.WRAP, who, Target.key(path, version))
        found = grant.key
    if found is None:
        raise RefusedError("not-found", "there is no such key")
    return Response(public_document(replica.settings, found), media_type=_JSON)
