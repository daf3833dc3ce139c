"""What Cedar is told of a request, as its JSON.

Every value goes through a JSON encoder as a plain string, number or truth value, and the only
objects that Cedar treats specially (``__entity``, ``__extn``) are written here alone: what comes
from outside is never the name of a member beside them.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

import cedarpy

from boltseal.broker.model import Assurance

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from boltseal.broker.model import Circumstances, Claim, Principal, Resource

    Graph = cedarpy.Entities

NAMESPACE: Final = "Boltseal"
CLAIMS: Final = "claims"  # members of the context, and what their entities are called
ASSERTED: Final = "asserted"
MAX_KEPT: Final = 4096  # graphs in memory
MAX_KEPT_TEXT: Final = 4096  # characters of one that is kept

_lock = threading.Lock()
_kept: OrderedDict[tuple[object, ...], Graph] = OrderedDict()


class ContradictionError(ValueError):
    """Two authorities say different things under one name."""


def uid(kind: str, identifier: str) -> dict[str, str]:
    """The name of an entity, as requests and entities have it."""
    return {"type": f"{NAMESPACE}::{kind}", "id": identifier}


def resource_uid(resource: Resource) -> dict[str, str]:
    """A key, or else a project, or else the tenant as a whole."""
    if resource.key is not None:
        return uid("Key", str(resource.key.path))
    if resource.project is not None:
        return uid("Project", f"{resource.tenant}/{resource.project}")
    return uid("Tenant", resource.tenant)


def graph(principal: Principal, resource: Resource, wanted: Collection[str]) -> Graph:
    """Who asks and what is asked for, with what they are in, and claims if they are ``wanted``.

    The same ones ask for the same keys again and again: what was built for them is kept. Raises
    ValueError, and ContradictionError as :func:`claims` does.
    """
    key = resource.key
    asked: tuple[object, ...] = (
        principal.kind,
        principal.id,
        principal.trust,
        principal.cluster,
        principal.assurance,
        tuple(principal.labels.items()),
        principal.claims if CLAIMS in wanted else None,
        principal.claims if ASSERTED in wanted else None,
        tuple(type(one.value) for one in principal.claims),  # True == 1 here, and not in Cedar
        resource.tenant,
        resource.project,
    )
    if key is not None:
        labels = tuple(key.labels.items())
        asked += (key.path, key.version, key.algorithm, key.published, labels)
    with _lock:
        found = _kept.get(asked)
        if found is not None:
            _kept.move_to_end(asked)
            return found
    built = [*facts(principal, resource), *claims(principal, wanted)]
    text = json.dumps(built)
    found = cedarpy.Entities.from_json_str(text)
    if len(text) <= MAX_KEPT_TEXT:
        with _lock:
            _kept[asked] = found
            if len(_kept) > MAX_KEPT:
                _kept.popitem(last=False)
    return found


def facts(principal: Principal, resource: Resource) -> list[dict[str, Any]]:
    """The entities but for claims: who asks, then what is asked for, then what that is in."""
    found = [_principal(principal)]
    project = resource.project
    if resource.key is not None:
        key = resource.key
        project = key.path.project
        found.append(
            {
                "uid": resource_uid(resource),
                "attrs": {
                    "name": key.path.name,
                    "project": project,
                    "version": key.version,
                    "algorithm": key.algorithm,
                    "published": key.published,
                },
                "tags": dict(key.labels),
                "parents": [uid("Project", f"{resource.tenant}/{project}")],
            }
        )
    if project is not None:
        found.append(
            {
                "uid": uid("Project", f"{resource.tenant}/{project}"),
                "attrs": {},
                "parents": [uid("Tenant", resource.tenant)],
            }
        )
    return found


def _principal(one: Principal) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "id": one.id,
        "trust": one.trust,
        "assurance": int(one.assurance),
    }
    parents = []
    if one.cluster is not None:
        attributes["cluster"] = one.cluster
        parents.append(uid("Cluster", one.cluster))
    return {
        "uid": uid(one.kind.value, one.id),
        "attrs": attributes,
        "tags": dict(one.labels),
        "parents": parents,
    }


def claims(principal: Principal, wanted: Collection[str]) -> list[dict[str, Any]]:
    """The entities that ``context.claims`` and ``context.asserted`` name.

    Raises ContradictionError where two claims of equal worth have one name and two values: neither
    a permit nor a prohibition could be right then.
    """
    found = []
    for name in (CLAIMS, ASSERTED):
        if name in wanted:
            of = [
                c
                for c in principal.claims
                if (c.assurance == Assurance.ASSERTED) is (name == ASSERTED)
            ]
            found.append(
                {"uid": uid("Claims", name), "attrs": {}, "parents": [], "tags": _tags(of)}
            )
    return found


def _tags(of: Iterable[Claim]) -> dict[str, Any]:
    best: dict[str, Claim] = {}
    for claim in of:
        other = best.get(claim.name)
        if other is None or other.assurance < claim.assurance:
            best[claim.name] = claim
        elif other.assurance == claim.assurance and other.value != claim.value:
            raise ContradictionError(
                f"{other.source} and {claim.source} say different things of claim {claim.name}"
            )
    return {name: _claim(one) for name, one in best.items()}


def _claim(one: Claim) -> dict[str, Any]:
    value = one.value
    told: dict[str, Any] = {"assurance": int(one.assurance), "source": one.source}
    if isinstance(value, tuple):
        told["values"] = list(value)
    elif isinstance(value, bool):
        told["values"] = ["true" if value else "false"]
    else:
        told["values"] = [str(value)]
        if isinstance(value, int):
            told["number"] = value
    return told


def context(circumstances: Circumstances, wanted: Collection[str]) -> dict[str, Any]:
    """The members of ``context`` that policies use."""
    found: dict[str, Any] = {}
    for name in (CLAIMS, ASSERTED):
        if name in wanted:
            found[name] = {"__entity": uid("Claims", name)}
    if "image" in wanted:
        image = {"name": circumstances.image_name, "digest": circumstances.image_digest}
        found["image"] = {name: value for name, value in image.items() if value is not None}
    if "layer" in wanted and circumstances.layer_digest is not None:
        found["layer"] = circumstances.layer_digest
    if "platform" in wanted and circumstances.platform is not None:
        found["platform"] = circumstances.platform
    if "address" in wanted:
        address = plain_address(circumstances.address)
        if address is not None:
            found["address"] = {"__extn": {"fn": "ip", "arg": address}}
    if "time" in wanted:
        found["time"] = circumstances.time
    if not _OF_TIME.isdisjoint(wanted):
        found.update(moment(circumstances.time, wanted))
    return found


_OF_TIME: Final = frozenset(("now", "hour", "minute", "weekday"))


def moment(seconds: int, wanted: Collection[str]) -> dict[str, Any]:
    """The hour, the minute and the day of the week in UTC, and Cedar's own form of the time."""
    parts = time.gmtime(seconds)
    all_of_it = {"hour": parts.tm_hour, "minute": parts.tm_min, "weekday": parts.tm_wday + 1}
    found: dict[str, Any] = {name: value for name, value in all_of_it.items() if name in wanted}
    if "now" in wanted:
        told = time.strftime("%Y-%m-%dT%H:%M:%SZ", parts)
        found["now"] = {"__extn": {"fn": "datetime", "arg": told}}
    return found


@lru_cache(maxsize=4096)
def plain_address(text: str) -> str | None:
    """An address as Cedar reads one; None for what is none, as of a socket file.

    IPv4 that comes over an IPv6 socket is IPv4, or no range of IPv4 addresses would hold it; a
    zone says nothing outside of the host that gave it.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if address.scope_id is not None:
            return str(IPv6Address(int(address)))
    return str(address)
