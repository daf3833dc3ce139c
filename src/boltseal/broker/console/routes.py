"""Every page and every form of the console, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boltseal.broker.console import access, audit, keys, overview, policies, releases
from boltseal.broker.console.web import Route, fields

if TYPE_CHECKING:
    from boltseal.broker.console.signin import SignIn

_T: Final = "/t/{tenant}"
_KEY: Final = f"{_T}/keys/{{project}}/{{name}}"
_VERSION: Final = f"{_KEY}/versions/{{version}}"
_POLICY: Final = f"{_T}/policies/{{version}}"
_LABELS: Final = 8000
_POLICY_TEXT: Final = 64 * 1024


def sign_in(pages: SignIn) -> tuple[Route, ...]:
    """Those that nobody needs a session for."""
    return (
        Route("GET", "/sign-in", pages.show, is_open=True),
        Route("POST", "/sign-in", pages.by_token, fields("token"), is_open=True),
        Route("POST", "/sign-in/issuer", pages.leave_for_issuer, is_open=True),
        Route(
            "GET",
            "/sign-in/callback",
            pages.come_back,
            query=("code", "state"),
            is_open=True,
        ),
        Route("POST", "/sign-out", pages.leave),
    )


PAGES: Final = (
    Route("GET", "/", overview.start),
    Route("GET", "/tenants", overview.show_tenants, query=("after",)),
    Route("POST", "/tenants", overview.create_tenant, fields("tenant"), back=overview.show_tenants),
    Route("GET", _T, overview.show),
    Route("GET", f"{_T}/keys", keys.show_list, query=("after",)),
    Route(
        "POST",
        f"{_T}/keys",
        keys.create,
        fields("project", "name", "algorithm", "published", labels=_LABELS),
        back=keys.show_list,
    ),
    Route("POST", f"{_T}/projects", keys.create_project, fields("project"), back=keys.show_list),
    Route("GET", _KEY, keys.show, query=("after",)),
    Route("POST", f"{_KEY}/rotate", keys.rotate, fields("algorithm"), back=keys.show),
    Route("POST", f"{_KEY}/publish", keys.publish, fields("published"), back=keys.show),
    Route("POST", f"{_KEY}/labels", keys.set_labels, fields(labels=_LABELS), back=keys.show),
    Route("GET", _VERSION, keys.show_version),
    Route("GET", f"{_VERSION}/public.pem", keys.public),
    Route("POST", f"{_VERSION}/step", keys.step, fields("step"), back=keys.show),
    Route("GET", f"{_VERSION}/destroy", keys.ask_destroy),
    Route(
        "POST",
        f"{_VERSION}/destroy",
        keys.destroy,
        fields("confirm", "days"),
        back=keys.ask_destroy,
    ),
    Route("GET", f"{_T}/policies", policies.show_list, query=("after",)),
    Route("GET", f"{_T}/policies/edit", policies.edit, query=("from",)),
    Route(
        "POST",
        f"{_T}/policies/edit",
        policies.try_out,
        fields("comment", text=_POLICY_TEXT),
        back=policies.edit,
        only_reads=True,
    ),
    Route(
        "POST",
        f"{_T}/policies",
        policies.save,
        fields("comment", text=_POLICY_TEXT),
        back=policies.edit,
    ),
    Route("POST", f"{_T}/policies/back", policies.roll_back, back=policies.show_list),
    Route("GET", _POLICY, policies.show, query=("with",)),
    Route("POST", f"{_POLICY}/activate", policies.activate, back=policies.show),
    Route("GET", f"{_T}/releases", releases.show_list, query=(*releases.FILTERS, "before")),
    Route("GET", f"{_T}/releases/{{seq}}", releases.show),
    Route("GET", f"{_T}/revocations", access.show_revocations, query=("after", "credential")),
    Route(
        "POST",
        f"{_T}/revocations",
        access.revoke,
        fields("credential", "reason"),
        back=access.show_revocations,
    ),
    Route(
        "POST",
        f"{_T}/revocations/lift",
        access.lift,
        fields("lift"),
        back=access.show_revocations,
    ),
    Route("GET", f"{_T}/trusts", access.show_trusts),
    Route("GET", f"{_T}/trusts/{{name}}", access.show_trust),
    Route("GET", f"{_T}/audit", audit.show, query=("image",)),
    Route("POST", f"{_T}/audit/verify", audit.verify, only_reads=True, back=audit.show),
    Route("GET", f"{_T}/audit/report.html", audit.report_html, query=("image",)),
    Route("GET", f"{_T}/audit/report.json", audit.report_json, query=("image",)),
)
