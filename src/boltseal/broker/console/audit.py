"""Pages of the audit: is it whole, and who could and did open an image."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from boltseal.broker.audit.answers import Question
from boltseal.broker.audit.render import to_html
from boltseal.broker.audit.report import report
from boltseal.broker.audit.verify import verify_database
from boltseal.broker.console import history
from boltseal.broker.model import RefusedError
from boltseal.broker.policy.engine import decide
from boltseal.broker.store.database import read_head

if TYPE_CHECKING:
    from boltseal.broker.audit.answers import Report
    from boltseal.broker.console.web import Visit

MAX_VERIFIED: Final = 100_000  # records that a page verifies; the command line does any number
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_one_at_a_time = threading.Lock()


def show(visit: Visit) -> Response:
    """How it stands, and the report for one image."""
    image = "" if visit.problem else visit.query.get("image", "").strip()
    found = _report(visit, image) if image else None
    return _page(visit, report=found, image=image)


def verify(visit: Visit) -> Response:
    """Follow the whole chain, now."""
    with visit.services.database.read() as connection:
        records = read_head(connection).seq
    if records > MAX_VERIFIED:
        raise RefusedError(
            "conflict",
            f"there are {records} records, and a page verifies at most {MAX_VERIFIED}: "
            "use boltseal broker audit verify",
        )
    if not _one_at_a_time.acquire(blocking=False):
        raise RefusedError("conflict", "somebody is verifying it already: try again in a moment")
    try:
        verdict = verify_database(visit.services.database)
    finally:
        _one_at_a_time.release()
    return _page(visit, verdict=verdict)


def report_html(visit: Visit) -> Response:
    """The report as a file that needs nothing else, to print or to send."""
    found = _report(visit, visit.query.get("image", "").strip())
    return _file(to_html(found), "text/html", "html", found.question.image)


def report_json(visit: Visit) -> Response:
    """The same for programs."""
    found = _report(visit, visit.query.get("image", "").strip())
    text = json.dumps(found.to_json(), indent=2)
    return _file(text, "application/json", "json", found.question.image)


def _report(visit: Visit, image: str) -> Report:
    if not _DIGEST.fullmatch(image):
        raise RefusedError("malformed", "an image's digest is sha256: and 64 of 0-9 and a-f")
    with visit.services.database.turns.take(visit.actor.tenant):
        return report(
            visit.services.database,
            visit.actor,
            visit.tenant,
            Question(image),
            snapshot=visit.services.snapshots.current(stale=True),
            decide=decide,
            now=visit.now,
        )


def _page(visit: Visit, **context: Any) -> Response:
    numbers = history.numbers(visit.services.database, visit.actor, visit.tenant, visit.now)
    given = {"report": None, "verdict": None, "image": "", **context}
    return visit.page("audit.html", numbers=numbers, **given)


def _file(text: str, kind: str, ending: str, image: str) -> Response:
    name = f"report-{image.partition(':')[2][:12]}.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=kind, headers=headers)
