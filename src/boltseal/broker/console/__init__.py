"""The web console: pages made on the server, for a browser with no script at all.

Every page and every form is one line of the table in ``routes``; ``web`` does for all of them what
no single one may forget: session, tenant, role, origin, form token, headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from boltseal.broker.console.settings import Services


def mount(app: Starlette, services: Services) -> None:
    """Add the console below ``/console``."""
    from starlette.responses import RedirectResponse
    from starlette.routing import Route

    from boltseal.broker.console.application import make
    from boltseal.broker.console.settings import PREFIX

    async def start(_: Request) -> RedirectResponse:
        return RedirectResponse(f"{PREFIX}/", 308)

    app.router.routes.append(Route(PREFIX, start, include_in_schema=False))
    app.mount(PREFIX, make(services))
