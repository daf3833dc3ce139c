"""What a registry has: its repositories (``/v2/_catalog``), and the tags of each.

The catalog is Docker Distribution's; the OCI specification has none, and public registries often
refuse it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from boltseal.errors import (
    LimitExceededError,
    MalformedError,
    NotFoundError,
    RegistryError,
    TransientError,
    UnsupportedError,
    UsageError,
)
from boltseal.spec.limits import MAX_REPOSITORIES
from boltseal.spec.reference import Reference, split_repository
from boltseal.transports.registry import manifests, routes
from boltseal.transports.registry.client import connect
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.routes import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.transports.registry.options import RegistryOptions

_SCOPE = "registry:catalog:*"


class Catalog:
    """One registry, to look around in. A context manager."""

    def __init__(self, options: RegistryOptions, host: str) -> None:
        self._options = options
        self._host = host
        self._http = HttpClient(options)
        self._routes = routes.load(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._http.close()

    def repositories(self) -> Iterator[str]:
        """The name of every repository, without the host.

        Raises RegistryError where a registry does not tell, and MalformedError for what is no name.
        """
        probe = self._route("x")
        if (probe.host, probe.repository) != (self._host, "x"):
            raise UnsupportedError(
                f"registries.conf sends {self._host} elsewhere, where its names are others",
                hint="write a list of the images instead",
            )
        registry = connect(self._http, self._options, Route(self._host, "", probe.insecure), "")
        registry.also(_SCOPE)
        count = 0
        try:
            for document in manifests.pages(
                registry, registry.top("_catalog"), "the list of repositories"
            ):
                names = document.get("repositories") or []
                if not isinstance(names, list):
                    raise MalformedError("the registry's list of repositories is no list")
                count += len(names)
                if count > MAX_REPOSITORIES:
                    raise LimitExceededError(
                        f"there are more than the limit of {MAX_REPOSITORIES} repositories"
                    )
                for name in names:
                    yield self._checked(name)
        except TransientError:
            raise
        except (RegistryError, NotFoundError) as error:
            error.hint = (
                error.hint or f"{self._host} may not list its repositories; write a list instead"
            )
            raise

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository; none when it has lost them all."""
        name = self._checked(repository)
        client = connect(self._http, self._options, self._route(name), "pull")
        try:
            return list(manifests.tags(client))
        except NotFoundError:
            return []

    def _route(self, name: str) -> Route:
        return self._routes.sources(Reference("docker", f"{self._host}/{name}"))[-1]

    def _checked(self, name: object) -> str:
        try:
            if not isinstance(name, str):
                raise MalformedError("the registry's list of repositories has what is no string")
            return split_repository(f"{self._host}/{name}")[1]
        except UsageError:
            raise MalformedError(
                f"the registry's list of repositories has {str(name)[:80]!r}, which is no name"
            ) from None
