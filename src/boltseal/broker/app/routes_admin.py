"""The administration over HTTP: tenants, keys and the rest, over the service functions.

Each function of the service room checks the actor, and writes down what it did or refused.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from boltseal.broker.app import metrics, shapes, strict
from boltseal.broker.app.auth import Caller  # noqa: TC001  FastAPI reads annotations
from boltseal.broker.app.outputs import key_out, version_out
from boltseal.broker.app.parts import (
    ANY_TENANT,
    DONE,
    PREFIX,
    KeyAt,
    Paging,
    Project,
    Size,
    Tenant,
    Version,
)
from boltseal.broker.app.shapes import NAME, PAGE_SIZE
from boltseal.broker.model import KeyPath
from boltseal.broker.service import admins, catalog, keys, tenants
from boltseal.broker.service.access import require_operator

router = APIRouter(prefix=PREFIX, route_class=strict.Route, tags=["administration"])


@router.get("/tenants", response_model=shapes.Names, summary="List tenants")
def list_tenants(call: Caller, part: Paging) -> dict[str, Any]:
    """Only for administrators of all tenants."""
    return asdict(tenants.list_tenants(call.database, call.actor, after=part.after, size=part.size))


@router.post("/tenants", status_code=201, response_model=shapes.NewName, summary="Make a tenant")
def create_tenant(call: Caller, body: shapes.NewName) -> dict[str, Any]:
    """Only for administrators of all tenants."""
    tenants.create_tenant(call.database, call.actor, body.name)
    return {"name": body.name}


@router.get(
    "/tenants/{tenant}/projects", response_model=shapes.Names, summary="List a tenant's projects"
)
def list_projects(call: Caller, tenant: Tenant, part: Paging) -> dict[str, Any]:
    """By name."""
    found = tenants.list_projects(
        call.database, call.actor, tenant, after=part.after, size=part.size
    )
    return asdict(found)


@router.post(
    "/tenants/{tenant}/projects",
    status_code=201,
    response_model=shapes.NewName,
    summary="Make a project",
)
def create_project(call: Caller, tenant: Tenant, body: shapes.NewName) -> dict[str, Any]:
    """It groups keys."""
    tenants.create_project(call.database, call.actor, tenant, body.name)
    return {"name": body.name}


@router.get("/tenants/{tenant}/keys", response_model=shapes.Keys, summary="List a tenant's keys")
def list_keys(
    call: Caller,
    tenant: Tenant,
    part: Paging,
    project: Annotated[str | None, Query(pattern=NAME)] = None,
) -> dict[str, Any]:
    """By project and name."""
    page = catalog.list_keys(
        call.database, call.actor, tenant, project=project, after=part.after, size=part.size
    )
    return {"entries": [key_out(one) for one in page.entries], "after": page.after}


_KEYS = "/tenants/{tenant}/projects/{project}/keys"
_KEY = _KEYS + "/{name}"


@router.post(_KEYS, status_code=201, response_model=shapes.VersionOut, summary="Make a key")
def create_key(
    call: Caller, tenant: Tenant, project: Project, body: shapes.NewKey
) -> dict[str, Any]:
    """With its version 1."""
    replica = call.replica
    made = keys.create(
        call.database,
        call.actor,
        replica.safe,
        KeyPath(tenant, project, body.name),
        algorithm=body.algorithm,
        labels=body.labels,
        published=body.published,
    )
    return version_out(made)


@router.get(_KEY, response_model=shapes.KeyOut, summary="Show a key")
def get_key(call: Caller, path: KeyAt) -> dict[str, Any]:
    """As a whole."""
    return key_out(catalog.get_key(call.database, call.actor, path))


@router.patch(_KEY, response_model=shapes.KeyOut, summary="Publish a key, or label it")
def change_key(
    call: Caller,
    path: KeyAt,
    body: shapes.KeyChange,
) -> dict[str, Any]:
    """What is left out stays as it is."""
    if body.labels is not None:
        keys.set_labels(call.database, call.actor, path, body.labels)
    if body.published is not None:
        (keys.publish if body.published else keys.unpublish)(call.database, call.actor, path)
    return key_out(catalog.get_key(call.database, call.actor, path))


@router.get(_KEY + "/versions", response_model=shapes.Versions, summary="List a key's versions")
def list_versions(
    call: Caller,
    path: KeyAt,
    after: Annotated[int, Query(ge=0, le=shapes.MAX_VERSION)] = 0,
    size: Size = PAGE_SIZE,
) -> dict[str, Any]:
    """The oldest first."""
    page = catalog.list_versions(call.database, call.actor, path, after=str(after), size=size)
    return {"entries": [version_out(one) for one in page.entries], "after": page.after}


@router.post(
    _KEY + "/versions",
    status_code=201,
    response_model=shapes.VersionOut,
    summary="Rotate a key",
)
def rotate_key(
    call: Caller,
    path: KeyAt,
    body: shapes.NewVersion,
) -> dict[str, Any]:
    """The next version; the others go on opening what is theirs."""
    replica = call.replica
    made = keys.rotate(call.database, call.actor, replica.safe, path, algorithm=body.algorithm)
    return version_out(made)


_VERSION = _KEY + "/versions/{version}"


@router.get(_VERSION, response_model=shapes.VersionOut, summary="Show a version")
def get_version(
    call: Caller,
    path: KeyAt,
    version: Version,
) -> dict[str, Any]:
    """In whatever state."""
    return version_out(catalog.get_version(call.database, call.actor, path, version))


@router.post(_VERSION + "/disable", response_model=shapes.VersionOut, summary="Disable a version")
def disable_version(
    call: Caller,
    path: KeyAt,
    version: Version,
) -> dict[str, Any]:
    """Nothing is opened with it until it is enabled."""
    return version_out(keys.disable(call.database, call.actor, path, version))


@router.post(_VERSION + "/enable", response_model=shapes.VersionOut, summary="Enable a version")
def enable_version(
    call: Caller,
    path: KeyAt,
    version: Version,
) -> dict[str, Any]:
    """It opens images again."""
    return version_out(keys.enable(call.database, call.actor, path, version))


@router.post(_VERSION + "/destroy", response_model=shapes.VersionOut, summary="Destroy a version")
def destroy_version(
    call: Caller,
    path: KeyAt,
    version: Version,
    body: shapes.Destruction,
) -> dict[str, Any]:
    """Its private half is erased when the waiting time is over."""
    return version_out(keys.destroy(call.database, call.actor, path, version, days=body.days))


@router.post(_VERSION + "/restore", response_model=shapes.VersionOut, summary="Take a version back")
def restore_version(
    call: Caller,
    path: KeyAt,
    version: Version,
) -> dict[str, Any]:
    """One that waits for its end; it is disabled then."""
    return version_out(keys.restore(call.database, call.actor, path, version))


@router.get("/admins", response_model=shapes.Admins, summary="List administrators")
def list_admins(
    call: Caller,
    part: Paging,
    tenant: Annotated[str, Query(pattern=ANY_TENANT)] = "*",
) -> dict[str, Any]:
    """Of one tenant, or those of all."""
    found = admins.list_admins(call.database, call.actor, tenant, after=part.after, size=part.size)
    return asdict(found)


@router.post(
    "/admins", status_code=201, response_model=shapes.Token, summary="Make an administrator"
)
def create_admin(call: Caller, body: shapes.NewAdmin) -> dict[str, Any]:
    """The token is in the answer, and nowhere else."""
    token = admins.create_admin(call.database, call.actor, body.tenant, body.name, role=body.role)
    return {"name": body.name, "token": token}


@router.delete("/admins/{name}", status_code=DONE, summary="Revoke an administrator")
def revoke_admin(call: Caller, name: Annotated[str, Path(pattern=NAME)]) -> Response:
    """The token is worth nothing from now on."""
    admins.revoke_admin(call.database, call.actor, name)
    return Response(status_code=DONE)


metrics_router = APIRouter(route_class=strict.Route, tags=["administration"])


@metrics_router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def figures(call: Caller) -> Response:
    """For administrators of all tenants, in any role; the listener of the settings needs none."""
    require_operator(call.database, call.actor, "administer", "figures", read=True)
    replica = call.replica
    text = replica.metrics.text(replica.releases)
    return Response(text, media_type=metrics.CONTENT_TYPE)
