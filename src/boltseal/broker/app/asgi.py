"""The application: routes over the rooms, errors of one shape, nothing that is not asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from boltseal import __version__
from boltseal.broker.app import answers, openapi, routes_admin, routes_public, routes_rules
from boltseal.broker.model import RefusedError
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from boltseal.broker.app.replica import Replica

TITLE = "Boltseal key broker"


def make_app(replica: Replica) -> ASGIApp:
    """What a server runs. ``replica`` is started by whoever made it."""
    return answers.Outermost(make_api(replica), replica)


def make_api(replica: Replica | None) -> FastAPI:
    """The routes; without a replica only to be described."""
    app = FastAPI(
        title=TITLE,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.replica = replica
    for one in (routes_public, routes_admin, routes_rules):
        app.include_router(one.router)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(BoltsealError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    if replica is not None and replica.settings.console:
        _add_console(app, replica)
    return app


def _add_console(app: FastAPI, replica: Replica) -> None:
    """The web console, which is a room of its own."""
    try:
        from boltseal.broker.console import mount

        mount(app, replica)
    except (ImportError, TypeError) as error:
        replica.log.problem("console", error)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return answers.refused(error)


async def _failed(request: Request, error: Exception) -> Response:
    replica: Replica = request.app.state.replica
    replica.log.problem("request", error)
    return answers.refusal("unavailable")


async def _invalid(request: Request, error: Exception) -> Response:
    return answers.refusal("malformed")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = answers.refusal(answers.by_status(error.status_code), status=error.status_code)
    allow: Any = (error.headers or {}).get("Allow") or (error.headers or {}).get("allow")
    if allow:
        answer.headers["allow"] = allow
    return answer
