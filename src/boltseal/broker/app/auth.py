"""Who administers: an administrator's token, or a person or workload whom a policy lets do it.

Looking needs the action ``audit``, changing anything ``administer``, on the tenant, the project or
the key that the address names. What is refused is written down before the answer goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from boltseal.broker.app import answers
from boltseal.broker.model import Action, AuditEntry, RefusedError
from boltseal.broker.release.jobs import Target
from boltseal.broker.service import admins
from boltseal.broker.service.access import Actor, Role, check_name

if TYPE_CHECKING:
    from boltseal.broker.app.replica import Replica
    from boltseal.broker.model import Presented

TOKEN = "bsb_"  # how an administrator's begins  # noqa: S105


async def administrator(request: Request) -> Actor:
    """Who asks, with what he may. Raises RefusedError."""
    replica: Replica = request.app.state.replica
    try:
        who = answers.presented(request)
        if who.bearer is not None and who.bearer.startswith(TOKEN):
            return await run_in_threadpool(admins.authenticate, replica.database, who.bearer)
    except RefusedError as error:
        _note(replica, request, error)
        raise
    return await _by_policy(replica, request, who)


async def _by_policy(replica: Replica, request: Request, who: Presented) -> Actor:
    names = request.path_params
    tenant = names.get("tenant")
    if tenant is None or (who.bearer is None and not who.chain):
        error = RefusedError("unauthenticated", "an administrator's token is needed here")
        _note(replica, request, error, who)
        raise error
    check_name(tenant, "tenant")
    reads = request.method in ("GET", "HEAD")
    action = Action.AUDIT if reads else Action.ADMINISTER
    project = names.get("project")
    if project is not None:
        check_name(project, "project")
    grant = await replica.releases.authorise_async(action, who, Target(tenant, project))
    role = Role.AUDITOR if reads else Role.ADMIN
    return Actor(grant.principal.id, grant.principal.tenant, role)


def _note(
    replica: Replica, request: Request, error: RefusedError, who: Presented | None = None
) -> None:
    """Write a refusal down that no service function knows of."""
    peer = request.client.host if request.client else ""
    entry = AuditEntry(
        answers.now(),
        "*",
        "authenticate",
        "refused",
        "",
        f"{request.method} {getattr(request.scope.get('route'), 'path', '')}"[:200],
        details={"reason": error.detail},
    )
    try:
        replica.releases.note(entry, error.code, peer)
    except RefusedError as failure:
        replica.log.problem("note", failure)
    replica.log.event("administer", "warning", code=error.code, detail=error.detail, address=peer)


async def anybody(request: Request) -> Actor:
    """An administrator of whatever role, by token alone."""
    return await administrator(request)


Admin = Annotated[Actor, Depends(administrator)]
Anybody = Annotated[Actor, Depends(anybody)]
