"""Pages of revocations and trusts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from boltseal.broker.service import revocations, trusts

if TYPE_CHECKING:
    from starlette.responses import Response

    from boltseal.broker.console.web import Visit

_FORMS = (
    ("identity", "identity:ID", "as releases name it"),
    ("certificate", "certificate:SHA256", "of the certificate's DER bytes"),
    ("serial", "serial:TRUST:HEX", "a certificate's serial number"),
    ("token", "token:SHA256", "of what a token's signature covers"),
    ("trust", "trust:NAME", "everybody whom it vouches for"),
)


def show_revocations(visit: Visit) -> Response:
    """What is revoked, and how to revoke more."""
    found = revocations.list_revocations(
        visit.services.database, visit.actor, visit.tenant, after=visit.query.get("after", "")
    )
    credential = visit.form.get("credential") or visit.query.get("credential", "")
    return visit.page("revocations.html", found=found, forms=_FORMS, credential=credential)


def revoke(visit: Visit) -> Response:
    """A credential that gets nothing any more."""
    revocations.revoke(
        visit.services.database,
        visit.actor,
        visit.tenant,
        visit.form.get("credential", "").strip(),
        reason=visit.form.get("reason", "").strip(),
    )
    return visit.to("revocations", done="revoked")


def lift(visit: Visit) -> Response:
    """Take a revocation back."""
    credential = visit.form.get("lift", "")
    revocations.lift(visit.services.database, visit.actor, visit.tenant, credential)
    return visit.to("revocations", done="lifted")


def show_trusts(visit: Visit) -> Response:
    """Which authorities the tenant believes."""
    found = trusts.list_trusts(visit.services.database, visit.actor, visit.tenant)
    return visit.page("trusts.html", found=found)


def show_trust(visit: Visit) -> Response:
    """One of them, with all that it says."""
    database = visit.services.database
    found = trusts.get_trust(database, visit.actor, visit.tenant, visit.place["name"])
    config = json.dumps(dict(found.config), indent=2, ensure_ascii=False)
    return visit.page("trust.html", trust=found, config=config)
