"""The application: routes over the rooms, errors of one shape, nothing that is not asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from boltseal._version import __version__
from boltseal.broker.app import (
    answers,
    failures,
    openapi,
    routes_admin,
    routes_audit,
    routes_policy,
    routes_public,
    routes_rules,
)
from boltseal.broker.model import RefusedError
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
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
    for one in (
        routes_public.router,
        routes_admin.metrics_router,
        routes_admin.router,
        routes_rules.router,
        routes_policy.router,
        routes_audit.router,
    ):
        app.include_router(one)
    app.add_exception_handler(RefusedError, failures.refused)
    app.add_exception_handler(BoltsealError, failures.failed)
    app.add_exception_handler(RequestValidationError, failures.invalid)
    app.add_exception_handler(HTTPException, failures.http)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    if replica is not None and replica.settings.console:
        _add_console(app, replica)
    return app


def _add_console(app: FastAPI, replica: Replica) -> None:
    """The web console, which is a room of its own."""
    from boltseal.broker.console import mount

    mount(app, replica)
