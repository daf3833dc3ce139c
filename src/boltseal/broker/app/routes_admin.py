"""The administration over HTTP: tenants, keys and the rest, over the service functions.

Each function of the service room checks the actor, and writes down what it did or refused.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from boltseal.broker.app import metrics, shapes, strict
from boltseal.broker.app.auth import Admin
from boltseal.broker.app.outputs import key_out, version_out
from boltseal.broker.app.shapes import LINE, MAX_PAGE_SIZE, NAME, PAGE_SIZE
from boltseal.broker.model import KeyPath
from boltseal.broker.service import admins, catalog, keys, tenants

if TYPE_CHECKING:
    from boltseal.broker.app.replica import Replica

PREFIX = "/v1/admin"
router = APIRouter(prefix=PREFIX, route_class=strict.Route, tags=["administration"])

Tenant = Annotated[str, Path(pattern=NAME)]
Project = Annotated[str, Path(pattern=NAME)]
KeyName = Annotated[str, Path(pattern=NAME)]
Version = Annotated[int, Path(ge=1, le=shapes.MAX_VERSION)]
After = Annotated[str, Query(max_length=1000, pattern=LINE)]
Size = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)]
DONE = 204


def replica_of(request: Request) -> Replica:
    """The replica that answers."""
    found: Replica = request.app.state.replica
    return found


@router.get("/tenants", response_model=shapes.Names, summary="List tenants")
def list_tenants(
    request: Request, actor: Admin, after: After = "", size: Size = PAGE_SIZE
) -> dict[str, Any]:
    """Only for administrators of all tenants."""
    return asdict(tenants.list_tenants(replica_of(request).database, actor, after=after, size=size))


@router.post("/tenants", status_code=201, response_model=shapes.NewName, summary="Make a tenant")
def create_tenant(request: Request, actor: Admin, body: shapes.NewName) -> dict[str, Any]:
    """Only for administrators of all tenants."""
    tenants.create_tenant(replica_of(request).database, actor, body.name)
    return {"name": body.name}


@router.get(
    "/tenants/{tenant}/projects", response_model=shapes.Names, summary="List a tenant's projects"
)
def list_projects(
    request: Request, actor: Admin, tenant: Tenant, after: After = "", size: Size = PAGE_SIZE
) -> dict[str, Any]:
    """By name."""
    database = replica_of(request).database
    return asdict(tenants.list_projects(database, actor, tenant, after=after, size=size))


@router.post(
    "/tenants/{tenant}/projects",
    status_code=201,
    response_model=shapes.NewName,
    summary="Make a project",
)
def create_project(
    request: Request, actor: Admin, tenant: Tenant, body: shapes.NewName
) -> dict[str, Any]:
    """It groups keys."""
    tenants.create_project(replica_of(request).database, actor, tenant, body.name)
    return {"name": body.name}


@router.get("/tenants/{tenant}/keys", response_model=shapes.Keys, summary="List a tenant's keys")
def list_keys(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Annotated[str | None, Query(pattern=NAME)] = None,
    after: After = "",
    size: Size = PAGE_SIZE,
) -> dict[str, Any]:
    """By project and name."""
    page = catalog.list_keys(
        replica_of(request).database, actor, tenant, project=project, after=after, size=size
    )
    return {"entries": [key_out(one) for one in page.entries], "after": page.after}


_KEYS = "/tenants/{tenant}/projects/{project}/keys"
_KEY = _KEYS + "/{name}"


@router.post(_KEYS, status_code=201, response_model=shapes.VersionOut, summary="Make a key")
def create_key(
    request: Request, actor: Admin, tenant: Tenant, project: Project, body: shapes.NewKey
) -> dict[str, Any]:
    """With its version 1."""
    replica = replica_of(request)
    made = keys.create(
        replica.database,
        actor,
        replica.safe,
        KeyPath(tenant, project, body.name),
        algorithm=body.algorithm,
        labels=body.labels,
        published=body.published,
    )
    return version_out(made)


@router.get(_KEY, response_model=shapes.KeyOut, summary="Show a key")
def get_key(
    request: Request, actor: Admin, tenant: Tenant, project: Project, name: KeyName
) -> dict[str, Any]:
    """As a whole."""
    path = KeyPath(tenant, project, name)
    return key_out(catalog.get_key(replica_of(request).database, actor, path))


@router.patch(_KEY, response_model=shapes.KeyOut, summary="Publish a key, or label it")
def change_key(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    body: shapes.KeyChange,
) -> dict[str, Any]:
    """What is left out stays as it is."""
    database, path = replica_of(request).database, KeyPath(tenant, project, name)
    if body.labels is not None:
        keys.set_labels(database, actor, path, body.labels)
    if body.published is not None:
        (keys.publish if body.published else keys.unpublish)(database, actor, path)
    return key_out(catalog.get_key(database, actor, path))


@router.get(_KEY + "/versions", response_model=shapes.Versions, summary="List a key's versions")
def list_versions(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    after: Annotated[int, Query(ge=0, le=shapes.MAX_VERSION)] = 0,
    size: Size = PAGE_SIZE,
) -> dict[str, Any]:
    """The oldest first."""
    path = KeyPath(tenant, project, name)
    page = catalog.list_versions(
        replica_of(request).database, actor, path, after=str(after), size=size
    )
    return {"entries": [version_out(one) for one in page.entries], "after": page.after}


@router.post(
    _KEY + "/versions",
    status_code=201,
    response_model=shapes.VersionOut,
    summary="Rotate a key",
)
def rotate_key(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    body: shapes.NewVersion,
) -> dict[str, Any]:
    """The next version; the others go on opening what is theirs."""
    replica = replica_of(request)
    path = KeyPath(tenant, project, name)
    made = keys.rotate(replica.database, actor, replica.safe, path, algorithm=body.algorithm)
    return version_out(made)


_VERSION = _KEY + "/versions/{version}"


@router.get(_VERSION, response_model=shapes.VersionOut, summary="Show a version")
def get_version(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    version: Version,
) -> dict[str, Any]:
    """In whatever state."""
    path = KeyPath(tenant, project, name)
    return version_out(catalog.get_version(replica_of(request).database, actor, path, version))


@router.post(_VERSION + "/disable", response_model=shapes.VersionOut, summary="Disable a version")
def disable_version(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    version: Version,
) -> dict[str, Any]:
    """Nothing is opened with it until it is enabled."""
    path = KeyPath(tenant, project, name)
    return version_out(keys.disable(replica_of(request).database, actor, path, version))


@router.post(_VERSION + "/enable", response_model=shapes.VersionOut, summary="Enable a version")
def enable_version(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    version: Version,
) -> dict[str, Any]:
    """It opens images again."""
    path = KeyPath(tenant, project, name)
    return version_out(keys.enable(replica_of(request).database, actor, path, version))


@router.post(_VERSION + "/destroy", response_model=shapes.VersionOut, summary="Destroy a version")
def destroy_version(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    version: Version,
    body: shapes.Destruction,
) -> dict[str, Any]:
    """Its private half is erased when the waiting time is over."""
    path = KeyPath(tenant, project, name)
    database = replica_of(request).database
    return version_out(keys.destroy(database, actor, path, version, days=body.days))


@router.post(_VERSION + "/restore", response_model=shapes.VersionOut, summary="Take a version back")
def restore_version(
    request: Request,
    actor: Admin,
    tenant: Tenant,
    project: Project,
    name: KeyName,
    version: Version,
) -> dict[str, Any]:
    """One that waits for its end; it is disabled then."""
    path = KeyPath(tenant, project, name)
    return version_out(keys.restore(replica_of(request).database, actor, path, version))


@router.get("/admins", response_model=shapes.Admins, summary="List administrators")
def list_admins(
    request: Request,
    actor: Admin,
    tenant: Annotated[str, Query(pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")] = "*",
    after: After = "",
    size: Size = PAGE_SIZE,
) -> dict[str, Any]:
    """Of one tenant, or those of all."""
    database = replica_of(request).database
    return asdict(admins.list_admins(database, actor, tenant, after=after, size=size))


@router.post(
    "/admins", status_code=201, response_model=shapes.Token, summary="Make an administrator"
)
def create_admin(request: Request, actor: Admin, body: shapes.NewAdmin) -> dict[str, Any]:
    """The token is in the answer, and nowhere else."""
    database = replica_of(request).database
    token = admins.create_admin(database, actor, body.tenant, body.name, role=body.role)
    return {"name": body.name, "token": token}


@router.delete("/admins/{name}", status_code=DONE, summary="Revoke an administrator")
def revoke_admin(
    request: Request, actor: Admin, name: Annotated[str, Path(pattern=NAME)]
) -> Response:
    """The token is worth nothing from now on."""
    admins.revoke_admin(replica_of(request).database, actor, name)
    return Response(status_code=DONE)


metrics_router = APIRouter(route_class=strict.Route, tags=["administration"])


@metrics_router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def figures(request: Request, actor: Admin) -> Response:
    """For administrators' tokens of any role; the listener of the settings needs none."""
    replica = replica_of(request)
    text = replica.metrics.text(replica.releases)
    return Response(text, media_type=metrics.CONTENT_TYPE)
