"""Signing in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.broker.console import oidc, sessions
from boltseal.broker.console.web import Visit, address, cookie, secured, see
from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.service import admins
from boltseal.broker.store.change import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

_NO = "This did not sign you in. Check what you entered; why is in the audit."


class SignIn:
    """The pages of those who have no session yet; ``provider`` only where one is configured."""

    def __init__(self, provider: oidc.Provider | None) -> None:
        self._provider = provider

    def show(self, visit: Visit) -> Response:
        """A form for a token, and a button that leads to the issuer."""
        if visit.session is not None and not visit.problem:
            return see(address())
        fresh = not visit.visitor
        if fresh:
            visit = replace(visit, visitor=sessions.new_identifier())
        issuer = self._provider.issuer.name if self._provider else ""
        response = visit.page("sign-in.html", issuer=issuer)
        if fresh:
            response.headers.append("Set-Cookie", cookie(sessions.VISITOR, visit.visitor))
        return secured(response, form_targets=self._provider.target() if self._provider else "")

    def by_token(self, visit: Visit) -> Response:
        """An administrator's token, in a form that only this page can send."""

        def who() -> str:
            token = visit.form.get("token", "").strip()
            actor = admins.authenticate(visit.services.database, token)
            return sessions.start_by_token(visit.services, actor, visit.address, visit.now)

        return self._enter(visit, "token", who)

    def leave_for_issuer(self, visit: Visit) -> Response:
        """Off to the issuer, with a new value that state, nonce and verifier come from."""
        if self._provider is None:
            raise RefusedError("not-found", "no issuer is configured")
        if not visit.attempts.admit(visit.address, visit.now):
            return self.show(visit.refused(_too_often()))
        visitor = sessions.new_identifier()
        response = see(self._provider.begin(visitor, _redirect(visit)))
        seconds = oidc.ATTEMPT_SECONDS
        # Lax: the way back begins on the issuer's page, where Strict cookies stay behind
        made = cookie(sessions.VISITOR, visitor, same_site="Lax", seconds=seconds)
        response.headers.append("Set-Cookie", made)
        return secured(response, form_targets=self._provider.target())

    def come_back(self, visit: Visit) -> Response:
        """From the issuer, with a code that is worth an ID token."""
        provider = self._provider
        if provider is None:
            raise RefusedError("not-found", "no issuer is configured")

        def who() -> str:
            principal = provider.finish(
                visit.services,
                visit.visitor,
                visit.query.get("code", ""),
                visit.query.get("state", ""),
                redirect=_redirect(visit),
                now=visit.now,
            )
            return sessions.start_by_principal(visit.services, principal, visit.address, visit.now)

        return self._enter(visit, "oidc", who)

    def leave(self, visit: Visit) -> Response:
        """Sign out."""
        if visit.session is not None:
            sessions.end(visit.services, visit.session, visit.now)
        response = see(address("sign-in", done="signed-out"))
        response.headers.append("Set-Cookie", cookie(sessions.COOKIE, "", seconds=0))
        return response

    def _enter(self, visit: Visit, by: str, who: Callable[[], str]) -> Response:
        if not visit.attempts.admit(visit.address, visit.now):
            return self.show(visit.refused(_too_often()))
        try:
            identifier = who()
        except RefusedError as error:
            if error.code == "unavailable":
                return self.show(visit.refused(error))
            _note(visit, by, error)
            refused = visit.refused(RefusedError("unauthenticated", _NO))
            # a cookie that has served is not taken again, whatever came of it
            return self.show(replace(refused, visitor=""))
        if visit.session is not None:  # whoever was signed in here before
            sessions.end(visit.services, visit.session, visit.now)
        # a page in between, as what the issuer's page began does not carry Strict cookies on
        response = visit.page("welcome.html")
        response.headers.append("Set-Cookie", cookie(sessions.COOKIE, identifier))
        response.headers.append("Set-Cookie", cookie(sessions.VISITOR, "", seconds=0))
        return response


def _too_often() -> RefusedError:
    return RefusedError("limited", "too many tries to sign in: wait a minute")


def _redirect(visit: Visit) -> str:
    base = visit.services.console.origin or visit.origin
    return f"{base}{address()}{oidc.CALLBACK}"


def _note(visit: Visit, by: str, error: RefusedError) -> None:
    """Write a failure down, as long as there are not too many of them."""
    if not visit.attempts.records(visit.now):
        return
    tenant = error.principal.tenant if error.principal else ""
    actor = error.principal.id if error.principal else ""
    record(
        visit.services.database,
        AuditEntry(
            visit.now,
            tenant,
            "authenticate",
            "refused",
            actor,
            "sign in to the console",
            details={"by": by, "reason": error.detail[:1000], "address": visit.address[:64]},
        ),
    )
