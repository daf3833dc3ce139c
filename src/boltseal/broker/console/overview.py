"""First pages: which tenant, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.broker.console import history
from boltseal.broker.console.web import Visit, address, see
from boltseal.broker.service import tenants

if TYPE_CHECKING:
    from starlette.responses import Response

_DAY = 86_400


def start(visit: Visit) -> Response:
    """On to the tenant of whoever has signed in, or to the list of them."""
    if visit.is_operator:
        return see(address("tenants"))
    return see(address("t", visit.actor.tenant))


def show_tenants(visit: Visit) -> Response:
    """All tenants: for those alone who are of all of them."""
    database = visit.services.database
    found = tenants.list_tenants(database, visit.actor, after=visit.query.get("after", ""))
    return visit.page("tenants.html", found=found)


def create_tenant(visit: Visit) -> Response:
    """Another tenant, with a project to begin with."""
    name = visit.form.get("tenant", "")
    tenants.create_tenant(visit.services.database, visit.actor, name)
    return see(address("tenants", done="tenant-created"))


def show(visit: Visit) -> Response:
    """Health, counts, and what happened last."""
    database, actor = visit.services.database, visit.actor
    numbers = history.numbers(database, actor, visit.tenant, visit.now - _DAY)
    last = history.requests(database, actor, visit.tenant, history.Filter())
    return visit.page(
        "overview.html",
        numbers=numbers,
        rows=last.rows[:8],
        changes=history.changes(database, actor, visit.tenant),
        dialect=database.dialect,
        root=visit.services.safe.root.label if visit.is_operator else "",
    )
