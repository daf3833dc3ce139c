"""Signing people in at their issuer: OpenID Connect, authorisation code with PKCE (RFC 7636, S256).

Everything of one attempt is derived from a random value in the visitor's cookie: state, nonce and
verifier. So an answer counts in the browser that asked alone, and once, as the value changes with
every attempt. Addresses come from the issuer's discovery document, which has to name the configured
issuer; the ID token is verified by the identity room against the tenant's own trusts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from boltseal._io import strictjson
from boltseal.broker.console import sessions
from boltseal.broker.identity.authenticate import authenticate
from boltseal.broker.identity.jwks import is_allowed
from boltseal.broker.model import Presented, Principal, RefusedError
from boltseal.errors import BoltsealError
from boltseal.jose import jwt

if TYPE_CHECKING:
    from boltseal.broker.console.settings import Issuer, Services

CALLBACK: Final = "sign-in/callback"
ATTEMPT_SECONDS: Final = 600  # that somebody may take at the issuer's
MAX_ANSWER: Final = 128 * 1024  # bytes
_SECONDS: Final = 5.0  # of one question to the issuer
_KEEP_SECONDS: Final = 3600  # a discovery document
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_AWAY: Final = "the issuer does not answer as it should"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where an issuer takes people, and where it gives tokens for codes."""

    authorization: str
    token: str


class Provider:
    """The configured issuer; one for each replica, safe for threads."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._lock = threading.Lock()
        self._found: Endpoints | None = None
        self._until = 0.0

    def target(self) -> str:
        """The origin that the sign-in form leads to, as far as it is known."""
        parts = urlsplit(self._found.authorization if self._found else self.issuer.issuer)
        return f"{parts.scheme}://{parts.netloc}"

    def begin(self, visitor: str, redirect: str) -> str:
        """Where the browser goes. Raises RefusedError ``unavailable``."""
        asked = {
            "response_type": "code",
            "client_id": self.issuer.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self.issuer.scopes),
            "state": sessions.derive(visitor, "state"),
            "nonce": sessions.derive(visitor, "nonce"),
            "code_challenge": _challenge(_verifier(visitor)),
            "code_challenge_method": "S256",
        }
        where = self._endpoints().authorization
        return f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}"

    def finish(
        self, services: Services, visitor: str, code: str, state: str, *, redirect: str, now: int
    ) -> Principal:
        """Who came back. Raises RefusedError."""
        expected = sessions.derive(visitor, "state") if visitor else ""
        if not expected or not hmac.compare_digest(state.encode(), expected.encode()):
            raise RefusedError(
                "unauthenticated", "this answer is not to a sign-in of this browser: start again"
            )
        if not code:
            raise RefusedError("unauthenticated", "the issuer did not sign anybody in")
        text = self._token(code, _verifier(visitor), redirect)
        snapshot = services.snapshots.current(stale=True)
        principal = authenticate(snapshot, Presented(bearer=text), now, services.known)
        claims = jwt.parse(text).claims
        if claims.get("iss") != self.issuer.issuer:
            raise RefusedError("unauthenticated", "the token is of another issuer")
        _check_audience(claims, self.issuer.client_id)
        nonce = claims.get("nonce")
        wanted = sessions.derive(visitor, "nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), wanted.encode()):
            raise RefusedError("unauthenticated", "the token is not of this sign-in")
        return principal

    def _token(self, code: str, verifier: str, redirect: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "client_id": self.issuer.client_id,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.issuer.client_secret:  # RFC 6749 section 2.3.1: both are form-encoded first
            pair = (self.issuer.client_id, self.issuer.client_secret)
            joined = ":".join(quote(one, safe="") for one in pair).encode()
            headers["Authorization"] = f"Basic {base64.b64encode(joined).decode()}"
        answer = _ask(self._endpoints().token, self.issuer.ca, urlencode(form).encode(), headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise RefusedError("unauthenticated", "the issuer gave no ID token")
        return token

    def _endpoints(self) -> Endpoints:
        with self._lock:
            if self._found is not None and time.monotonic() < self._until:
                return self._found
        found = _ask(self.issuer.issuer.rstrip("/") + _WELL_KNOWN, self.issuer.ca)
        if found.get("issuer") != self.issuer.issuer:
            raise RefusedError("unavailable", f"{_AWAY}: it describes another one")
        where = [found.get(name) for name in ("authorization_endpoint", "token_endpoint")]
        if not all(isinstance(one, str) and is_allowed(one) for one in where):
            raise RefusedError("unavailable", f"{_AWAY}: its addresses cannot be used")
        with self._lock:
            self._found = Endpoints(str(where[0]), str(where[1]))
            self._until = time.monotonic() + _KEEP_SECONDS
            return self._found


def _ask(
    uri: str, ca: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """A JSON object; no redirect, no proxy, bounded bytes. Raises RefusedError ``unavailable``."""
    if not is_allowed(uri):
        raise RefusedError("unavailable", "the issuer's address is neither https nor loopback")
    parts = urlsplit(uri)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = _connection(parts.scheme, parts.hostname or "", parts.port, ca)
    except (OSError, ValueError):
        raise RefusedError("unavailable", f"{_AWAY}: its authority cannot be used") from None
    try:
        told = {"Accept": "application/json", **(headers or {})}
        connection.request("GET" if body is None else "POST", target, body, told)
        answer = connection.getresponse()
        raw = answer.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RefusedError("unavailable", f"{_AWAY}: {type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200:
        code = (
            "unauthenticated" if body is not None and answer.status in (400, 401) else "unavailable"
        )
        raise RefusedError(code, f"the issuer answered {answer.status}")
    try:
        return strictjson.load_object(raw, "the issuer's answer", max_bytes=MAX_ANSWER)
    except BoltsealError:
        raise RefusedError("unavailable", f"{_AWAY}: no strict JSON object") from None


def _connection(scheme: str, host: str, port: int | None, ca: str) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_SECONDS)
    context = ssl.create_default_context(cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)


def _check_audience(claims: Any, client: str) -> None:
    """OpenID Connect Core section 3.1.3.7, steps 3 to 5."""
    audience = claims.get("aud")
    several = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp")
    if client not in several or (len(several) > 1 and party is None) or party not in (None, client):
        raise RefusedError("unauthenticated", "the token is not for this console")


def _verifier(visitor: str) -> str:
    return sessions.derive(visitor, "verifier")


def _challenge(verifier: str) -> str:
    hashed = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
