"""What the addresses of the administration have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Path, Query

from boltseal.broker.app import shapes
from boltseal.broker.app.shapes import LINE, NAME
from boltseal.broker.model import KeyPath

PREFIX: Final = "/v1/admin"
DONE: Final = 204
ANY_TENANT: Final = r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$"
MAX_SEQ: Final = 2**53

Tenant = Annotated[str, Path(pattern=NAME)]
Project = Annotated[str, Path(pattern=NAME)]
KeyName = Annotated[str, Path(pattern=NAME)]
Version = Annotated[int, Path(ge=1, le=shapes.MAX_VERSION)]
Size = Annotated[int, Query(ge=1, le=shapes.MAX_PAGE_SIZE)]
Time = Annotated[int | None, Query(ge=0, le=2**40)]
Digest = Annotated[str, Query(max_length=160, pattern=r"^[A-Za-z0-9+._-]+:[A-Za-z0-9=_-]+$")]


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a list."""

    after: str
    size: int


async def _part(
    after: Annotated[str, Query(max_length=1000, pattern=LINE)] = "",
    size: Size = shapes.PAGE_SIZE,
) -> Part:
    return Part(after, size)


async def _key(tenant: Tenant, project: Project, name: KeyName) -> KeyPath:
    return KeyPath(tenant, project, name)


Paging = Annotated[Part, Depends(_part)]
KeyAt = Annotated[KeyPath, Depends(_key)]
