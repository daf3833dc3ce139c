"""Try credentials before they are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.errors import UsageError
from boltseal.spec.reference import split_repository
from boltseal.transports.registry import credentials
from boltseal.transports.registry.client import connect
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.routes import Route

if TYPE_CHECKING:
    from boltseal.transports.registry.options import RegistryOptions


def login(options: RegistryOptions, host: str, user: str, password: str) -> str:
    """Keep credentials that a registry accepts; says where. Raises RegistryError otherwise."""
    if "/" in host or "://" in host:
        raise UsageError(f"{host!r} is not a host", hint="write HOST[:PORT]")
    split_repository(f"{host}/x")
    if not user or not password:
        raise UsageError("a login takes a user name and a password")
    if ":" in user:
        raise UsageError("a user name cannot hold a colon")
    http = HttpClient(options)
    try:
        tried = replace(options, credentials=(user, password))
        connect(http, tried, Route(host, ""), "").check_login()
    finally:
        http.close()
    return credentials.store(options, host, credentials.Credentials(user, password))
