"""Pages of policies: versions, an editor that says what is wrong where, and what would change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.console.web import Visit, whole
from boltseal.broker.model import RefusedError
from boltseal.broker.policy import check, dryrun, shipped, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

MAX_TRIED: Final = 2000  # past requests; the command line tries more
MAX_SHOWN: Final = 100  # of what would change
_KINDS: Final = {"+": "added", "-": "removed", "@": "place"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of code, and what is said about it."""

    number: int | None
    text: str
    kind: str = ""
    says: tuple[str, ...] = ()


def show_list(visit: Visit) -> Response:
    """All versions, the newest first, and which of them decides."""
    found = versions.list_versions(
        visit.services.database, visit.actor, visit.tenant, after=visit.query.get("after", "")
    )
    return visit.page("policies.html", found=found)


def show(visit: Visit) -> Response:
    """One version, by itself or beside another one."""
    database, actor = visit.services.database, visit.actor
    found = versions.get(database, actor, visit.tenant, _number(visit))
    active = _active(visit)
    other = visit.query.get("with", "")
    lines = [Line(at, text) for at, text in enumerate(found.text.splitlines(), 1)]
    if other:
        before = whole(other, "a version")
        text = versions.diff(database, actor, visit.tenant, before, found.version)
        lines = [_differs(one) for one in text.splitlines()]
    return visit.page(
        "policy.html", found=found, active=active, lines=lines, other=other, latest=_latest(visit)
    )


def edit(visit: Visit) -> Response:
    """The editor: empty at first, or with a version to start from, or with what was sent."""
    text, comment = visit.form.get("text"), visit.form.get("comment", "")
    if text is None:
        text = _start(visit)
    # what is wrong with a text stands at its lines, and not above them
    found = check.problems(text, visit.tenant) if visit.form.get("text") is not None else ()
    if found:
        visit = replace(visit, problem="This is not kept: the policies have to be right first.")
    return _editor(visit, text, comment, problems=found)


def try_out(visit: Visit) -> Response:
    """Is it right, and what would it have changed? Nothing is kept."""
    text, comment = visit.form.get("text", ""), visit.form.get("comment", "")
    found = check.problems(text, visit.tenant)
    if found:
        return _editor(replace(visit, status=422), text, comment, problems=found)
    with visit.services.database.turns.take(visit.actor.tenant):
        result = dryrun.dry_run(
            visit.services.database,
            visit.actor,
            visit.tenant,
            text,
            against_active=True,
            limit=MAX_TRIED,
        )
    return _editor(visit, text, comment, result=result)


def save(visit: Visit) -> Response:
    """Keep a text as the next version; it counts once somebody activates it."""
    made = versions.add(
        visit.services.database,
        visit.actor,
        visit.tenant,
        visit.form.get("text", ""),
        comment=visit.form.get("comment", "").strip(),
    )
    return visit.to("policies", made.version, done="policy-saved")


def activate(visit: Visit) -> Response:
    """Let a version decide."""
    number = _number(visit)
    versions.activate(visit.services.database, visit.actor, visit.tenant, number)
    return visit.to("policies", number, done="policy-active")


def roll_back(visit: Visit) -> Response:
    """Let the version decide again that did before."""
    found = versions.roll_back(visit.services.database, visit.actor, visit.tenant)
    return visit.to("policies", found.version, done="policy-active")


def _editor(
    visit: Visit, text: str, comment: str, *, problems: Any = (), result: Any = None
) -> Response:
    lines = list(_lines(text, problems)) if problems else []
    return visit.page(
        "policy-edit.html",
        text=text,
        comment=comment,
        problems=problems,
        lines=lines,
        result=result,
        most=MAX_SHOWN,
    )


def _lines(text: str, problems: Any) -> Iterator[Line]:
    said: dict[int, list[str]] = {}
    for one in problems:
        of = f"policy {one.policy}: " if one.policy else ""
        said.setdefault(one.line, []).append(f"column {one.column}: {of}{one.message}")
    shown = text.splitlines() or [""]
    for at, line in enumerate(shown, 1):
        here = said.pop(at, [])
        if at == len(shown):  # what is said of the end of the text
            here += [each for number in sorted(said) for each in said[number]]
        yield Line(at, line, "wrong" if here else "", tuple(here))


def _differs(text: str) -> Line:
    kind = "place" if text.startswith(("+++", "---")) else _KINDS.get(text[:1], "")
    return Line(None, text, kind)


def _start(visit: Visit) -> str:
    chosen = visit.query.get("from", "")
    if chosen.isdecimal():
        number = whole(chosen, "a version")
        return versions.get(visit.services.database, visit.actor, visit.tenant, number).text
    try:
        return shipped.text(chosen or shipped.STARTER, visit.tenant)
    except KeyError:
        raise RefusedError("not-found", "there is no such example") from None


def _active(visit: Visit) -> int | None:
    found = visit.services.snapshots.current(stale=True).policy(visit.tenant)
    return None if found is None else found.version


def _latest(visit: Visit) -> list[int]:
    found = versions.list_versions(visit.services.database, visit.actor, visit.tenant, size=20)
    return [one.version for one in found.entries]


def _number(visit: Visit) -> int:
    return whole(visit.place["version"], "a version")
