"""Nobody reaches another tenant by any function, whichever there are."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from boltseal import broker
from boltseal.broker import service
from boltseal.broker.model import DEFAULT, RefusedError
from boltseal.broker.service import keys
from boltseal.broker.service.access import SYSTEM, Actor, Page, Role
from boltseal.broker.store import tables
from boltseal.broker.store.database import Database, read_head
from support.broker_store import PATH, furnish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.broker.keys.safe import Safe

MODULES = [
    importlib.import_module(f"{service.__name__}.{one.name}")
    for one in pkgutil.iter_modules(service.__path__)
]
# Functions of this room that no actor calls: they say who is one, or help the others.
NO_ACTOR = {"admins.authenticate"}
HELPERS = {"access", "rows"}

# What every parameter is given; a new one has to be added here.
VALUES: dict[str, Any] = {
    "tenant": DEFAULT,
    "project": DEFAULT,
    "path": PATH,
    "version": 1,
    "name": "some-name",
    "kind": "x509",
    "config": {},
    "labels": {"env": "prod"},
    "credential": "trust:some-name",
    "scope": "key",
    "per_minute": 1,
    "per_day": 1,
}
CHANGES_NOTHING = ("get_", "list_")


def _functions() -> Iterator[Any]:
    """Every public function of the room that takes an actor, listed or not."""
    for module in MODULES:
        short = module.__name__.rpartition(".")[2]
        if short in HELPERS:
            continue
        for name, found in vars(module).items():
            is_ours = inspect.isfunction(found) and found.__module__ == module.__name__
            if is_ours and not name.startswith("_") and f"{short}.{name}" not in NO_ACTOR:
                yield pytest.param(found, id=f"{short}.{name}")


FUNCTIONS = list(_functions())


def _elsewhere() -> Iterator[Any]:
    """Functions of the same form in the broker's other rooms."""
    for one in pkgutil.walk_packages(broker.__path__, f"{broker.__name__}."):
        if ".service" in one.name or ".migrations" in one.name:
            continue
        module = importlib.import_module(one.name)
        for name, found in vars(module).items():
            if inspect.isfunction(found) and found.__module__ == one.name and name[0] != "_":
                parameters = inspect.signature(found).parameters
                if list(parameters)[:1] == ["database"] and "Actor" in str(parameters.get("actor")):
                    yield pytest.param(found, id=f"{one.name.removeprefix('boltseal.')}.{name}")


ELSEWHERE = list(_elsewhere())
MINE = {one.values[0] for one in FUNCTIONS}


@pytest.fixture
def safe(sqlite: Database) -> Safe:
    found = furnish(sqlite, others=["acme"])
    keys.create(sqlite, SYSTEM, found, PATH, algorithm="p256")
    return found


def _call(function: Callable[..., Any], database: Database, actor: Actor, safe: Safe) -> Any:
    arguments: dict[str, Any] = {"database": database, "actor": actor, "safe": safe}
    signature = inspect.signature(function)
    assert list(signature.parameters)[:2] == ["database", "actor"]
    for name, parameter in signature.parameters.items():
        if name not in arguments and parameter.default is inspect.Parameter.empty:
            if function in MINE:
                assert name in VALUES, f"say what {name} is given, in VALUES"
            # elsewhere nothing may be looked at before the actor is
            arguments[name] = VALUES.get(name)
    return function(**{name: arguments[name] for name in signature.parameters if name in arguments})


def test_the_functions_are_found() -> None:
    names = {one.id for one in FUNCTIONS}
    assert {"keys.create", "keys.sweep", "admins.revoke_admin", "trusts.set_trust"} <= names
    assert len(names) >= 25
    others = {one.id for one in ELSEWHERE}
    assert {"broker.policy.versions.add", "broker.audit.export.export"} <= others
    for module in MODULES:
        if hasattr(module, "__all__"):
            short = module.__name__.rpartition(".")[2]
            found = {one.partition(".")[2] for one in names if one.startswith(f"{short}.")}
            assert set(module.__all__) == found, short


@pytest.mark.parametrize("function", [*FUNCTIONS, *ELSEWHERE])
def test_another_tenants_actor_is_refused_and_recorded(
    function: Callable[..., Any], sqlite: Database, safe: Safe
) -> None:
    with sqlite.read() as connection:
        before = read_head(connection)
        rows = _counts(connection)
    with pytest.raises(RefusedError) as caught:
        _call(function, sqlite, Actor("mallory", "acme"), safe)
    assert caught.value.code == "forbidden"
    with sqlite.read() as connection:
        after = read_head(connection)
        last = connection.execute(
            select(tables.audit).order_by(tables.audit.c.seq.desc()).limit(1)
        ).one()
        rows_after = _counts(connection)
    assert (after.epoch, after.seq) == (before.epoch, before.seq + 1)
    assert (last.tenant, last.actor, last.outcome) == ("acme", "mallory", "refused")
    rows["audit"] += 1
    assert rows_after == rows


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_auditor_changes_nothing(
    function: Callable[..., Any], sqlite: Database, safe: Safe
) -> None:
    auditor = Actor("audrey", "*", Role.AUDITOR)
    if function.__name__.startswith(CHANGES_NOTHING):
        if function.__name__ == "get_trust":  # there is none
            with pytest.raises(RefusedError, match="there is no trust"):
                _call(function, sqlite, auditor, safe)
        else:
            _call(function, sqlite, auditor, safe)
        return
    with pytest.raises(RefusedError, match="may look") as caught:
        _call(function, sqlite, auditor, safe)
    assert caught.value.code == "forbidden"


BAD_NAMES = (
    "",
    "A",
    "a_b",
    "-a",
    "a-",
    "a" * 64,
    "a/b",
    "a b",
    "\xe4",
    "a\n",
    "*",
    "..",
    "a\0",
    "a'--",
)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_names_are_checked_by_every_function(
    function: Callable[..., Any], sqlite: Database, safe: Safe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, value: object) -> None:
        with monkeypatch.context() as patch:
            patch.setitem(VALUES, name, value)
            with pytest.raises(RefusedError) as caught:
                _call(function, sqlite, SYSTEM, safe)
        assert caught.value.code == "malformed", value

    signature = inspect.signature(function).parameters
    required = {one for one in signature if signature[one].default is inspect.Parameter.empty}
    for bad in BAD_NAMES:
        for name in required & {"tenant", "project", "name"}:
            if (name, bad) == ("tenant", "*") and function.__module__.endswith("admins"):
                continue  # administrators of all tenants
            refused(name, bad)
        if "path" in required:
            for part in ("tenant", "project", "name"):
                refused("path", replace(PATH, **{part: bad}))


def test_pages_are_bounded(sqlite: Database, safe: Safe) -> None:
    paged = [
        one.values[0] for one in FUNCTIONS if "size" in inspect.signature(one.values[0]).parameters
    ]
    assert len(paged) >= 6
    for function in paged:
        for size in (0, -1, 1001):
            with pytest.raises(RefusedError, match="1 to 1000") as caught:
                _sized(function, sqlite, safe, size)
            assert caught.value.code == "malformed"
        assert isinstance(_sized(function, sqlite, safe, 1000), Page)


def _sized(function: Any, database: Database, safe: Safe, size: int) -> Any:
    def bound(**arguments: Any) -> Any:
        return function(**arguments, size=size)

    bound.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return _call(bound, database, SYSTEM, safe)


def _counts(connection: Any) -> dict[str, int]:
    return {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for name, table in tables.metadata.tables.items()
    }
