"""Pages of keys and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from boltseal.broker.console.web import Visit, whole
from boltseal.broker.keys.lifecycle import DESTROY_DAYS, MAX_DESTROY_DAYS
from boltseal.broker.keys.material import ALGORITHMS
from boltseal.broker.model import KeyPath, RefusedError
from boltseal.broker.service import catalog, keys, tenants
from boltseal.broker.service.access import check_path

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion

_STEPS = {"enable": keys.enable, "disable": keys.disable, "restore": keys.restore}
_DONE = {"enable": "enabled", "disable": "disabled", "restore": "restored"}
_MAX_LABELS = 8000  # characters of the field


def show_list(visit: Visit) -> Response:
    """All keys, and how to make another one."""
    database, actor = visit.services.database, visit.actor
    found = catalog.list_keys(
        database, actor, visit.tenant, after=visit.query.get("after", ""), size=100
    )
    projects = tenants.list_projects(database, actor, visit.tenant, size=1000)
    return visit.page("keys.html", found=found, projects=projects.entries, algorithms=ALGORITHMS)


def create(visit: Visit) -> Response:
    """A key and its first version."""
    path = KeyPath(visit.tenant, visit.form.get("project", ""), visit.form.get("name", ""))
    keys.create(
        visit.services.database,
        visit.actor,
        visit.services.safe,
        path,
        algorithm=_algorithm(visit.form.get("algorithm", "")),
        labels=parse_labels(visit.form.get("labels", "")),
        published=visit.form.get("published") == "yes",
    )
    return visit.to("keys", path.project, path.name, done="key-created")


def create_project(visit: Visit) -> Response:
    """A project, for keys to be in."""
    project = visit.form.get("project", "")
    tenants.create_project(visit.services.database, visit.actor, visit.tenant, project)
    return visit.to("keys", done="project-created")


def show(visit: Visit) -> Response:
    """A key, its versions, and what can be done with them."""
    path = _path(visit)
    database, actor = visit.services.database, visit.actor
    key = catalog.get_key(database, actor, path)
    versions = catalog.list_versions(
        database, actor, path, after=visit.query.get("after", "0"), size=200
    )
    labels = "\n".join(f"{name}={value}" for name, value in key.labels.items())
    return visit.page("key.html", key=key, versions=versions, labels=labels, algorithms=ALGORITHMS)


def rotate(visit: Visit) -> Response:
    """The next version."""
    path = _path(visit)
    chosen = _algorithm(visit.form.get("algorithm", ""))
    keys.rotate(visit.services.database, visit.actor, visit.services.safe, path, algorithm=chosen)
    return visit.to("keys", path.project, path.name, done="rotated")


def publish(visit: Visit) -> Response:
    """Whether anybody may have the public half."""
    path = _path(visit)
    if visit.form.get("published") == "yes":
        keys.publish(visit.services.database, visit.actor, path)
        return visit.to("keys", path.project, path.name, done="published")
    keys.unpublish(visit.services.database, visit.actor, path)
    return visit.to("keys", path.project, path.name, done="unpublished")


def set_labels(visit: Visit) -> Response:
    """What policies see as the key's labels."""
    path = _path(visit)
    labels = parse_labels(visit.form.get("labels", ""))
    keys.set_labels(visit.services.database, visit.actor, path, labels)
    return visit.to("keys", path.project, path.name, done="labels-set")


def show_version(visit: Visit) -> Response:
    """One version with its public half."""
    return visit.page("version.html", version=_version(visit))


def public(visit: Visit) -> Response:
    """The public half as a file."""
    found = _version(visit)
    name = f"{found.path.project}-{found.path.name}-{found.version}.pem"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(found.public, media_type="application/x-pem-file", headers=headers)


def step(visit: Visit) -> Response:
    """Enable, disable or restore a version."""
    path, number = _path(visit), whole(visit.place["version"], "a version")
    what = visit.form.get("step", "")
    if what not in _STEPS:
        raise RefusedError("malformed", f"a version can be {', '.join(_DONE.values())}")
    _STEPS[what](visit.services.database, visit.actor, path, number)
    return visit.to("keys", path.project, path.name, done=_DONE[what])


def ask_destroy(visit: Visit) -> Response:
    """Are you sure: what it means, how long it waits, and the key's name to type."""
    return visit.page(
        "destroy.html", version=_version(visit), days=DESTROY_DAYS, most=MAX_DESTROY_DAYS
    )


def destroy(visit: Visit) -> Response:
    """Give a version its end."""
    found = _version(visit)
    wanted = f"{found.path.name}@{found.version}"
    if visit.form.get("confirm", "").strip() != wanted:
        raise RefusedError("malformed", f"nothing is destroyed: type {wanted} to confirm it")
    days = whole(visit.form.get("days", ""), "the number of days", MAX_DESTROY_DAYS)
    keys.destroy(visit.services.database, visit.actor, found.path, found.version, days=days)
    done = "destroying" if days else "destroyed"
    return visit.to("keys", found.path.project, found.path.name, done=done)


def parse_labels(text: str) -> dict[str, str]:
    """``NAME=VALUE`` on lines of their own. Raises RefusedError ``malformed``."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, mark, value = line.partition("=")
        name = name.strip()
        if not line.strip():
            continue
        if not mark or name in found:
            why = "is there twice" if mark else "has no ="
            raise RefusedError("malformed", f"labels are NAME=VALUE; line {number} {why}")
        found[name] = value.strip()
    return found


def _algorithm(text: str) -> str:
    if text not in ALGORITHMS:
        raise RefusedError("malformed", f"an algorithm is one of {', '.join(ALGORITHMS)}")
    return text


def _path(visit: Visit) -> KeyPath:
    return check_path(KeyPath(visit.tenant, visit.place["project"], visit.place["name"]))


def _version(visit: Visit) -> KeyVersion:
    number = whole(visit.place["version"], "a version")
    return catalog.get_version(visit.services.database, visit.actor, _path(visit), number)
