"""The console as an application of its own, which the broker's has below a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route as Path

from boltseal.broker.console import oidc, routes, web
from boltseal.broker.console.attempts import Attempts
from boltseal.broker.console.render import FOLDER
from boltseal.broker.console.signin import SignIn
from boltseal.broker.model import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from boltseal.broker.console.settings import Services

_FILES: Final = {"console.css": "text/css", "icon.svg": "image/svg+xml"}
_CODES: Final = {404: ("not-found", "there is no such page")}


def make(services: Services) -> Starlette:
    """Give it the broker's parts; nothing is read or opened here."""
    settings = services.console
    attempts = Attempts(settings.tries_a_minute)
    provider = oidc.Provider(settings.issuer) if settings.issuer else None
    table = (*routes.sign_in(SignIn(provider)), *routes.PAGES)
    paths = [
        Path(one.path, web.endpoint(services, attempts, one), methods=[one.method]) for one in table
    ]
    paths += [Path(f"/static/{name}", _file(name, kind)) for name, kind in _FILES.items()]
    app = Starlette(routes=paths, exception_handlers={HTTPException: _no_page})
    app.router.redirect_slashes = False
    return app


async def _no_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, text = _CODES.get(error.status_code, ("malformed", "this page is not asked for so"))
    response = web.secured(web.problem_page(None, RefusedError(code, text)))
    response.status_code = error.status_code
    return response


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (FOLDER / "static" / name).read_bytes()

    async def serve(request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=600"}
        return web.secured(Response(content, media_type=kind, headers=headers))

    return serve
