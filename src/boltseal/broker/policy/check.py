"""Whether a text can become a version of a tenant's policies, and if not: what is wrong where.

1. Bounds (see :mod:`text`). 2. Cedar can parse it. 3. Each policy has an ``@id`` of its own, none
is a template. 4. Cedar's strict validation against the schema. 5. What that lets pass, and would
never do anything: members that nothing has, keys of another tenant.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import cedarpy

from boltseal.broker.policy import entities, places, tree
from boltseal.broker.policy.text import Problem, Scanned, TextError, problem, scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PROBLEMS: Final = 20
MAX_ID: Final = 128  # characters of an @id
MAX_ADVICE: Final = 500
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/ -]*", re.ASCII)
_OF_TENANT: Final = {"Key": 3, "Project": 2, "Tenant": 1}  # and how many names each has
_MEMBERS: Final = {
    "context": tree.CONTEXT,
    "principal": frozenset(("id", "trust", "assurance", "cluster")),
    "resource": frozenset(("name", "project", "version", "algorithm", "published")),
}


def schema_text() -> str:
    """The shipped schema, as Cedar writes schemas."""
    return files(__package__).joinpath("schema.cedarschema").read_text("utf-8")


@lru_cache(maxsize=1)
def schema() -> cedarpy.Schema:
    """The same, parsed."""
    return cedarpy.Schema.from_str(schema_text())


def problems(text: str, tenant: str) -> tuple[Problem, ...]:
    """What is wrong with these policies, in the order of the text; nothing if they are right."""
    try:
        scanned = scan(text)
    except TextError as error:
        return (error.problem,)
    if not scanned.policies:
        return (problem(text, 0, "there is no policy: nothing would be allowed"),)
    unparsed = places.unparsed(scanned)
    if unparsed is not None:
        return (unparsed,)
    try:
        policies, has_templates = tree.parse(text)
    except (ValueError, RecursionError) as error:
        return (problem(text, 0, f"it cannot be read: {error}"),)
    if has_templates:
        return (_template(scanned),)
    found = [
        *_annotations(scanned, policies),
        *_invalid(scanned, policies),
        *_pointless(scanned, policies, tenant),
    ]
    found.sort(key=lambda one: (one.line, one.column))
    return tuple(dict.fromkeys(found))[:MAX_PROBLEMS]


def _template(scanned: Scanned) -> Problem:
    at = next((t.start for policy in scanned.policies for t in policy if t.text == "?"), 0)
    return scanned.problem(at, "a template allows nothing by itself: name whom and what it is for")


def _annotations(scanned: Scanned, policies: Mapping[str, tree.Node]) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, (name, policy) in enumerate(policies.items()):
        at = places.start(scanned, name)
        annotations = policy.get("annotations", {})
        identifier = annotations.get("id") or ""
        if not identifier:
            yield scanned.problem(
                at, '@id("...") is missing: decisions name policies by it', f"{place + 1}"
            )
        elif len(identifier) > MAX_ID or not _ID.fullmatch(identifier):
            yield scanned.problem(
                at,
                f"an @id is 1 to {MAX_ID} of letters, digits, space and . _ : / -",
                f"{place + 1}",
            )
        elif identifier in seen:
            yield scanned.problem(at, "another policy has this @id already", identifier)
        seen.add(identifier)
        if len(annotations.get("advice") or "") > MAX_ADVICE:
            yield scanned.problem(at, f"its @advice has over {MAX_ADVICE} characters", identifier)


def _invalid(scanned: Scanned, policies: Mapping[str, tree.Node]) -> Iterator[Problem]:
    result = cedarpy.validate_policies(scanned.text, schema())
    if result.validation_passed:
        return
    if not result.errors:
        yield scanned.problem(0, "the schema does not allow it")
    kinds: dict[tuple[str, str], list[str]] = {}
    for error in result.errors:
        message = places.without_name(error.error)
        message, kind = places.without_type(message)
        kinds.setdefault((error.policy_id, message), []).append(kind)
    for (name, message), of in list(kinds.items())[:MAX_PROBLEMS]:
        told = ", ".join(sorted({one for one in of if one}))
        at = places.of_error(scanned, name, message, schema())
        shown = message.replace("\0", told).replace(f"{entities.NAMESPACE}::", "")
        yield scanned.problem(at, shown, _name(policies, name))


def _pointless(
    scanned: Scanned, policies: Mapping[str, tree.Node], tenant: str
) -> Iterator[Problem]:
    for name, policy in policies.items():
        for kind, identifier in tree.entities_named(policy):
            wrong = _wrong_entity(kind, identifier, tenant)
            if wrong:
                at = places.find(scanned, name, f'{kind}::"{identifier}"')
                yield scanned.problem(at, wrong, _name(policies, name))
        for node in tree.nodes(policy["conditions"]):
            body = node.get("has")
            if body is None:
                continue
            of, attribute = tree.variable(body["left"]), body["attr"]
            if of in _MEMBERS and attribute not in _MEMBERS[of]:
                at = places.find(scanned, name, f"{of} has {attribute}")
                yield scanned.problem(
                    at,
                    f"{of} never has {attribute}: labels are asked for by hasTag",
                    _name(policies, name),
                )


def _wrong_entity(kind: str, identifier: str, tenant: str) -> str:
    kind = kind.removeprefix(f"{entities.NAMESPACE}::")
    names = identifier.split("/")
    if kind not in _OF_TENANT:
        return ""
    form = "/".join(("TENANT", "PROJECT", "NAME")[: _OF_TENANT[kind]])
    if len(names) != _OF_TENANT[kind] or not all(names):
        return f'{kind}::"{identifier}" has to be {form}'
    return "" if names[0] == tenant else f'{kind}::"{identifier}" is not of the tenant {tenant}'


def _name(policies: Mapping[str, tree.Node], cedars: str) -> str:
    return policies.get(cedars, {}).get("annotations", {}).get("id") or ""
