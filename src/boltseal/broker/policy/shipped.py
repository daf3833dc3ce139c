"""The policies that come with Boltseal: a start, and examples."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from boltseal.broker.model import DEFAULT

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

STARTER: Final = "starter"
_ENDING = ".cedar"


def names() -> tuple[str, ...]:
    """All of them, sorted."""
    found = (one.name for one in _folder().iterdir() if one.name.endswith(_ENDING))
    return tuple(sorted(name.removesuffix(_ENDING) for name in found))


def text(name: str = STARTER, tenant: str = DEFAULT) -> str:
    """One of them, for this tenant. Raises KeyError for a name that is not among :func:`names`."""
    if name not in names():
        raise KeyError(name)
    found = _folder().joinpath(name + _ENDING).read_text("utf-8")
    for before in (f'"{DEFAULT}/', f'Tenant::"{DEFAULT}"'):
        found = found.replace(before, before.replace(DEFAULT, tenant))
    return found


def _folder() -> Traversable:
    return files(__package__).joinpath("examples")
