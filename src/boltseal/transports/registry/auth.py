"""Basic and Bearer authentication as registries do it.

OCI Distribution Specification; Docker Registry v2 authentication via a token server (token and
OAuth2 endpoints); RFC 6750.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from boltseal._io import strictjson
from boltseal._io.retry import persistently
from boltseal.errors import MalformedError, RegistryError, StorageError, TransientError
from boltseal.transports.registry import credentials as keeping
from boltseal.transports.registry.hosts import is_loopback, without_port
from boltseal.transports.registry.http import Origin, shown
from boltseal.transports.registry.retry import TRANSIENT, transient_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.transports.registry.credentials import Credentials
    from boltseal.transports.registry.http import HttpClient, Response
    from boltseal.transports.registry.options import RegistryOptions

_CLIENT = "boltseal"
_MAX_CHALLENGE = 8192  # characters of a WWW-Authenticate header
_TOKEN_ATTEMPTS = 4
_MAX_ANSWER = 1 << 20  # bytes of a token server's answer
_MAX_TOKEN = 64 * 1024  # characters of a token
_DEFAULT_LIFE = 60  # seconds, where the token server does not say
_MARGIN = 10  # seconds before its end at which a token is not used any more
_PARAMETER = re.compile(r'([A-Za-z0-9_-]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')
_SCHEME = re.compile(r"\s*(Basic|Bearer)(?:\s+|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]+")

Scopes = frozenset[str]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One ``WWW-Authenticate`` (RFC 9110 section 11.6.1)."""

    scheme: str  # "basic" or "bearer"
    parameters: Mapping[str, str]


def parse_challenge(header: str) -> Challenge | None:
    """The first Basic or Bearer challenge of a header; None without one."""
    match = _SCHEME.match(header[:_MAX_CHALLENGE])
    if match is None:
        return None
    found: dict[str, str] = {}
    position = match.end()
    while parameter := _PARAMETER.match(header, position, _MAX_CHALLENGE):
        name, quoted, plain = parameter.groups()
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain)
        position = parameter.end()
    return Challenge(match.group(1).lower(), found)


class Authenticator:
    """Credentials and tokens for one registry; safe to use from several threads."""

    def __init__(
        self, http: HttpClient, options: RegistryOptions, host: str, *, verify: bool
    ) -> None:
        self._http = http
        self._options = options
        self._host = host
        self._verify = verify
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, tuple[str, float]] = {}
        self._known: dict[str, Credentials | None] = {}
        self._lock = threading.Lock()

    def take_challenge(self, headers: Mapping[str, str]) -> bool:
        """Remember how the registry wants to be shown credentials; whether it says so at all."""
        challenge = parse_challenge(headers.get("www-authenticate", ""))
        if challenge is not None:
            self._challenge = challenge
        return challenge is not None

    def header(self, repository: str, scopes: Scopes) -> str | None:
        """The Authorization for a request, None where none is known to be needed."""
        challenge = self._challenge
        if challenge is None:
            return None
        with self._lock:
            found = self._credentials(repository)
            if challenge.scheme == "basic":
                return None if found is None else found.basic
            if found is not None and found.registry_token:
                if not _TOKEN.fullmatch(found.registry_token):
                    raise StorageError(f"the token for {self._host} in the auth file is not valid")
                return f"Bearer {found.registry_token}"
            token, end = self._tokens.get(scopes, ("", 0.0))
            if time.monotonic() > end - _MARGIN:
                token, end = self._new_token(challenge, found, scopes)
                self._tokens[scopes] = (token, end)
        return f"Bearer {token}"

    def forget(self, scopes: Scopes) -> None:
        """A token was refused: the next request gets a new one."""
        with self._lock:
            self._tokens.pop(scopes, None)

    def has_credentials(self, repository: str) -> bool:
        """Whether requests are not anonymous."""
        with self._lock:
            return self._credentials(repository) is not None

    def _credentials(self, repository: str) -> Credentials | None:
        if repository not in self._known:
            self._known[repository] = keeping.find(self._options, self._host, repository)
        return self._known[repository]

    def _new_token(
        self, challenge: Challenge, found: Credentials | None, scopes: Scopes
    ) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        service = challenge.parameters.get("service", "")
        begun = time.monotonic()
        try:
            response = persistently(
                lambda: self._ask(realm, service, found, scopes), attempts=_TOKEN_ATTEMPTS
            )
        except TransientError as error:  # tried often enough: whoever asked shall not try again
            raise RegistryError(error.message, status=error.status) from None
        try:
            if response.status != 200:
                raise self._refused(response, found)
            raw = response.read(_MAX_ANSWER)
        finally:
            response.close()
        return _token(raw, shown(realm), begun)

    def _ask(self, realm: str, service: str, found: Credentials | None, scopes: Scopes) -> Response:
        asked = [("service", service)] if service else []
        asked += [("scope", scope) for scope in sorted(scopes)]
        if found is not None and found.identity_token:
            form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", found.identity_token),
                ("client_id", _CLIENT),
                ("service", service),
                ("scope", " ".join(sorted(scopes))),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode("ascii")
            response = self._http.send("POST", realm, headers, body, verify=self._verify)
        else:
            headers = {}
            if found is not None:
                headers["Authorization"] = found.basic
                asked.append(("account", found.user))
            joint = "&" if urlsplit(realm).query else "?"
            url = realm + joint + urlencode(asked)
            response = self._http.send("GET", url, headers, verify=self._verify)
        if response.status in TRANSIENT:
            raise transient_answer(response, shown(realm))
        return response

    def _check_realm(self, realm: str) -> None:
        """A password is not sent in the clear because a registry says so."""
        if not realm:
            raise RegistryError(f"{self._host} names no place to get a token from")
        origin = Origin.of(realm)
        local = is_loopback(origin.host) and is_loopback(without_port(self._host))
        if origin.scheme != "https" and self._verify and not local:
            raise RegistryError(
                f"{self._host} wants credentials sent to {shown(realm)} without TLS",
                hint="allow it with --tls-verify=false, if you must",
            )

    def _refused(self, response: Response, found: Credentials | None) -> RegistryError:
        if response.status in (400, 401, 403):
            if found is None:
                return RegistryError(
                    f"{self._host} wants a login", hint=f"boltseal login {self._host}", status=401
                )
            return RegistryError(
                f"{self._host} does not accept the login",
                hint=f"log in again: boltseal login {self._host}",
                status=response.status,
            )
        return RegistryError(
            f"the token server {shown(response.url)} answered {response.status}",
            status=response.status,
        )


def _token(raw: bytes, where: str, begun: float) -> tuple[str, float]:
    """The token of an answer, and the moment at which it ends."""
    try:
        document = strictjson.load_object(raw, "the answer", max_bytes=_MAX_ANSWER)
    except MalformedError:
        raise RegistryError(f"the token server {where} did not answer with JSON") from None
    token: Any = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or len(token) > _MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise RegistryError(f"the token server {where} sent no token")
    life = document.get("expires_in")
    if not isinstance(life, (int, float)) or not 0 < life < 1e7:
        life = _DEFAULT_LIFE
    # a very short life is used up to its middle, the margin notwithstanding
    return token, begun + (life if life > 2 * _MARGIN else _MARGIN + life / 2)
