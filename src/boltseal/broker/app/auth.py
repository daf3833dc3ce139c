"""Who administers: an administrator's token, or a person or workload whom a policy lets do it.

Looking needs the action ``audit``, changing anything ``administer``, on the tenant or the project
that the address names. Nothing of a body is read before that is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from boltseal.broker.app import answers
from boltseal.broker.model import Action, RefusedError
from boltseal.broker.release.jobs import Target
from boltseal.broker.service import admins
from boltseal.broker.service.access import Actor, Role, check_name

if TYPE_CHECKING:
    from boltseal.broker.app.replica import Replica
    from boltseal.broker.store.database import Database

PREFIX: Final = "bsb_"  # of an administrator's token
ACTOR: Final = "boltseal.actor"  # in the scope, once it is known


async def identify(request: Request) -> Actor:
    """Who asks, with what he may. Raises RefusedError."""
    replica: Replica = request.app.state.replica
    who = answers.presented(request)
    if who.bearer is not None and who.bearer.startswith(PREFIX):
        return await run_in_threadpool(admins.authenticate, replica.database, who.bearer)
    names = request.path_params
    tenant = names.get("tenant")
    if tenant is None or (who.bearer is None and not who.chain):
        raise RefusedError("unauthenticated", "an administrator's token is needed here")
    check_name(tenant, "tenant")
    project = names.get("project")
    if project is not None:
        check_name(project, "project")
    reads = request.method in ("GET", "HEAD")
    action = Action.AUDIT if reads else Action.ADMINISTER
    grant = await replica.releases.authorise_async(action, who, Target(tenant, project))
    role = Role.AUDITOR if reads else Role.ADMIN
    return Actor(grant.principal.id, grant.principal.tenant, role)


@dataclass(frozen=True, slots=True)
class Call:
    """One request of somebody who was identified before the route was entered."""

    replica: Replica
    actor: Actor

    @property
    def database(self) -> Database:
        """Where all of it is."""
        return self.replica.database


async def call(request: Request) -> Call:
    """For routes of administrators."""
    return Call(request.app.state.replica, request.scope[ACTOR])


Caller = Annotated[Call, Depends(call)]
