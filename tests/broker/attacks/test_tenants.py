"""A tenant reaching for what is another's, by every endpoint of the OpenAPI description."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.app.asgi import make_api
from boltseal.broker.policy import versions
from boltseal.broker.service import admins, keys, revocations
from boltseal.broker.service.access import SYSTEM
from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker_attack import record_of, send

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion
    from support.broker import Answer
    from support.broker_world import Host, World

DESCRIPTION: dict[str, Any] = make_api(None).openapi()
METHODS = [
    (method.upper(), path) for path, methods in DESCRIPTION["paths"].items() for method in methods
]
# these give nothing that is anybody's; an endpoint that is new is not among them
OPEN = {"/healthz", "/readyz", "/v1/ping"}
RELEASE = protocol.PATH
PUBLIC = "/v1/keys/{tenant}/{project}/{name}"
CLOSED = [(method, path) for method, path in METHODS if path not in OPEN]
ADMIN = [(method, path) for method, path in CLOSED if path not in (RELEASE, PUBLIC)]
_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BODIES: dict[str, Any] = {
    "NewName": {"name": "taken-over"},
    "NewKey": {"name": "taken-over", "algorithm": "p256"},
    "KeyChange": {"published": True},
    "NewVersion": {},
    "Destruction": {"days": 0},
    "NewTrust": {"kind": "x509", "config": {"ca": _PEM}},
    "NewRevocation": {"credential": "identity:x509:other:host-1", "reason": "theirs"},
    "NewLimit": {"per_minute": 1, "per_day": 1},
    "NewAdmin": {"name": "taken-over", "tenant": broker_world.OTHER},
    "NewPolicy": {"text": broker_world.POLICY, "activate": True},
    "PolicyTest": {"text": broker_world.POLICY},
}
ADMINISTRATORS = {"stranger": 0, "looks-on": 0}  # and how often the audit says they were refused
VALUES = {
    "tenant": broker_world.OTHER,
    "project": "default",
    "name": "theirs",
    "version": "1",
    "scope": "key",
    "identifier": "0" * 32,
    "image": broker_world.IMAGE,
    "credential": "identity:x509:other:revoked",
}


def target(path: str, operation: dict[str, Any]) -> str:
    """The address with the other tenant's names, and every parameter that has to be there."""
    query = []
    for one in operation.get("parameters", ()):
        if one["in"] == "path":
            path = path.replace("{{{}}}".format(one["name"]), VALUES[one["name"]])
        elif one["name"] in VALUES:
            query.append(f"{one['name']}={VALUES[one['name']]}")
    assert "{" not in path, "a name that VALUES does not have: add it"
    return f"{path}?{'&'.join(query)}" if query else path


def body(operation: dict[str, Any]) -> Any:
    """A good body of the schema that the endpoint asks for."""
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return None
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert name in BODIES, f"there is no body of {name} here: add it"
    return BODIES[name]


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DESCRIPTION["paths"][path][method.lower()]
    return found


@pytest.fixture(scope="session")
def stranger(world: World) -> str:
    """The token of an administrator of the default tenant, who asks for the other one's."""
    return admins.create_admin(world.database, SYSTEM, "default", "stranger")


@pytest.fixture(scope="session")
def theirs(world: World, other_key: KeyVersion) -> KeyVersion:
    """What the other tenant has of everything that is named above."""
    revocations.revoke(world.database, SYSTEM, broker_world.OTHER, VALUES["credential"])
    return other_key


def state(world: World) -> dict[str, list[Any]]:
    """Everything of the other tenant, but the audit."""
    from boltseal.broker.store import tables

    names = ("projects", "keys", "key_versions", "trusts", "policies", "policy_active",
             "revocations", "limits", "admins")  # fmt: skip
    found = {}
    with world.database.read() as connection:
        for name in names:
            table = tables.metadata.tables[name]
            rows = connection.execute(table.select().where(table.c.tenant == broker_world.OTHER))
            found[name] = [tuple(row) for row in rows]
    return found


def refused(world: World, answer: Answer, *, actor: str) -> None:
    """Told nothing, and written down with who it was.

    What a service function refuses to an administrator is in the audit with the actor alone.
    """
    assert answer.status in (401, 403), (answer.status, answer.body)
    if actor in ADMINISTRATORS:
        found = len(world.records(actor=actor, outcome="refused"))
        assert found == ADMINISTRATORS[actor] + 1, answer.body
        ADMINISTRATORS[actor] = found
    else:
        assert record_of(world, answer, answer.code).actor == actor
    told = answer.body.decode()
    for word in ("theirs", "taken-over", "region", "BEGIN"):
        assert word not in told


@pytest.mark.parametrize(("method", "path"), ADMIN, ids=[f"{m} {p}" for m, p in ADMIN])
def test_an_administrator_of_another_tenant(
    world: World, theirs: KeyVersion, stranger: str, method: str, path: str
) -> None:
    one = operation(method, path)
    before = state(world)
    where = target(path, one)
    if path == "/v1/admin/admins/{name}":
        # the other tenant's administrator
        if not any("their-admin" in row for row in before["admins"]):
            admins.create_admin(world.database, SYSTEM, broker_world.OTHER, "their-admin")
            before = state(world)
        where = where.replace("theirs", "their-admin")
    answer = send(world, method, where, body(one), token=stranger)
    refused(world, answer, actor="stranger")
    assert state(world) == before


@pytest.mark.parametrize(("method", "path"), ADMIN, ids=[f"{m} {p}" for m, p in ADMIN])
def test_nobody_and_hosts_administer_nothing(
    world: World, theirs: KeyVersion, host: Host, method: str, path: str
) -> None:
    one = operation(method, path)
    before = state(world)
    refused(world, send(world, method, target(path, one), body(one)), actor="")
    answer = send(world, method, target(path, one), body(one), token="bsb_admin_" + "A" * 43)
    refused(world, answer, actor="")
    answer = send(world, method, target(path, one), body(one), host=host)
    assert answer.status in (401, 403)
    record_of(world, answer, answer.code)
    # nor in its own tenant: no policy lets it
    own = target(path, one).replace(broker_world.OTHER, "default")
    answer = send(world, method, own, body(one), host=host)
    assert answer.status in (401, 403)
    record_of(world, answer, answer.code)
    assert state(world) == before


def test_an_auditor_changes_nothing(world: World, theirs: KeyVersion) -> None:
    token = admins.create_admin(
        world.database, SYSTEM, broker_world.OTHER, "looks-on", role="auditor"
    )
    before = state(world)
    for method, path in ADMIN:
        # what a test of policies asks changes nothing
        if method == "GET" or path.endswith("/policies/test"):
            continue
        one = operation(method, path)
        answer = send(world, method, target(path, one), body(one), token=token)
        refused(world, answer, actor="looks-on")
    assert state(world) == before


def test_a_host_of_another_tenant_gets_no_key_of_it(
    world: World, theirs: KeyVersion, host: Host
) -> None:
    request, _ = broker_world.ask(theirs)
    refused(world, world.release(request, host), actor="x509:eu:good-host")
    # one that is not there looks no other
    request, _ = broker_world.ask(theirs, key="other/default/there-is-none")
    refused(world, world.release(request, host), actor="x509:eu:good-host")
    request, _ = broker_world.ask(theirs, key="nobody/default/there-is-none")
    refused(world, world.release(request, host), actor="x509:eu:good-host")
    # even if the other tenant's policies let everybody
    text = '@id("everybody")\npermit (principal, action, resource);'
    versions.add(world.database, SYSTEM, broker_world.OTHER, text, activate=True)
    try:
        request, _ = broker_world.ask(theirs)
        refused(world, world.release(request, host), actor="x509:eu:good-host")
    finally:
        versions.roll_back(world.database, SYSTEM, broker_world.OTHER)
    request, _ = broker_world.ask(theirs)
    assert world.release(request, world.host("host-1", "other")).status == 200


def test_the_public_half_of_another_tenants_key(
    world: World, theirs: KeyVersion, host: Host
) -> None:
    path = target(PUBLIC, operation("GET", PUBLIC))
    answer = send(world, "GET", path, host=host)
    refused(world, answer, actor="x509:eu:good-host")
    refused(world, send(world, "GET", path), actor="")
    keys.publish(world.database, SYSTEM, theirs.path)
    try:
        until = time.monotonic() + 5
        while (answer := send(world, "GET", path)).status != 200:  # it looks four times a second
            assert time.monotonic() < until, answer.body
        assert json.loads(answer.body)["fingerprint"] == theirs.fingerprint
        assert b"PRIVATE" not in answer.body
    finally:
        keys.unpublish(world.database, SYSTEM, theirs.path)


def test_every_endpoint_says_whom_it_answers() -> None:
    """The description names a credential wherever one is needed, and nowhere else."""
    for method, path in METHODS:
        security = operation(method, path).get("security")
        assert (security is None) == (path in OPEN), (method, path)
    assert len(ADMIN) > 40
