"""Requests to one repository: credentials, redirects, retries, and what registries answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal._io.retry import ATTEMPTS, persistently
from boltseal.errors import IntegrityError, NotFoundError, RegistryError, TransientError
from boltseal.transports.registry.auth import Authenticator
from boltseal.transports.registry.hosts import api_host, is_loopback, without_port
from boltseal.transports.registry.http import Origin, PlainHttpError, joined
from boltseal.transports.registry.retry import TRANSIENT, transient_answer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from boltseal.transports.registry.http import HttpClient, Response
    from boltseal.transports.registry.options import RegistryOptions
    from boltseal.transports.registry.routes import Route

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_MAX_ERROR_BYTES = 64 * 1024  # bytes of an answer that only says what is wrong
_MAX_MESSAGE = 200  # characters of a registry's own words
AGENT = "boltseal"
_CONNECT_ATTEMPTS = 3  # a name or port that is wrong should not take long to be found out


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``what`` names its object in messages, ``body`` may be sent piece by piece."""

    method: str
    url: str
    what: str
    headers: Mapping[str, str]
    body: bytes | Iterable[memoryview] | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent again as it is."""
        return self.body is None or isinstance(self.body, bytes)


class Repository:
    """The API of one repository of a registry; safe to use from several threads."""

    def __init__(
        self,
        http: HttpClient,
        auth: Authenticator,
        base: str,
        route: Route,
        actions: str,
        *,
        verify: bool,
    ) -> None:
        self._http = http
        self._auth = auth
        self._base = base
        self._origin = Origin.of(base)
        self._verify = verify
        self._also: frozenset[str] = frozenset()
        self._actions = actions
        self.host = route.host
        self.name = route.repository

    @property
    def label(self) -> str:
        """``HOST/NAME``, for people."""
        return f"{self.host}/{self.name}"

    def also_pull(self, other: str) -> None:
        """Tokens shall also allow reading another repository, to mount blobs from it."""
        self.also(f"repository:{other}:pull")

    def also(self, scope: str) -> None:
        """Tokens shall also allow this."""
        self._also |= {scope}

    def top(self, path: str) -> str:
        """The URL of ``/v2/PATH``, which belongs to no repository."""
        return f"{self._base}/v2/{path}"

    def url(self, path: str) -> str:
        """The URL of ``/v2/NAME/PATH``."""
        return f"{self._base}/v2/{self.name}/{path}"

    def send(
        self,
        method: str,
        url: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[memoryview] | None = None,
        expect: Collection[int] = (200,),
        attempts: int = ATTEMPTS,
    ) -> Response:
        """Send a request and get an answer of one of the statuses in ``expect``.

        Raises NotFoundError for 404, RegistryError for what was refused, and TransientError when
        every try failed in a way that another might not.
        """
        request = Request(method, url, what, {"User-Agent": AGENT, **(headers or {})}, body)
        if not request.is_repeatable:
            attempts = 1
        return persistently(lambda: self._once(request, expect), attempts=attempts)

    def check_login(self) -> None:
        """Raises RegistryError unless the registry accepts the credentials."""
        self.send("GET", f"{self._base}/v2/", "the login").finish()

    def _once(self, request: Request, expect: Collection[int]) -> Response:
        response = self._authorized(request)
        if response.status in expect:
            return response
        if response.status in TRANSIENT:
            raise transient_answer(response, f"{self.host}, asked for {request.what},")
        raise self.refusal(response, request.what)

    def _authorized(self, request: Request) -> Response:
        response = self._followed(request)
        if response.status != 401:
            return response
        if Origin.of(response.url) != self._origin:
            return response  # a stranger behind a redirect has no say in where credentials go
        # The token may have ended, or it is the first request of this scope.
        known = self._auth.take_challenge(response.headers)
        self._auth.forget(self._scopes)
        if not known or not request.is_repeatable:
            if known:
                response.close()
                raise TransientError(
                    f"{self.host} did not accept the token for {request.what}", status=401
                )
            return response
        response.finish()
        return self._followed(request)

    @property
    def _scopes(self) -> frozenset[str]:
        if not self.name:
            return self._also
        return frozenset({f"repository:{self.name}:{self._actions}"}) | self._also

    def _followed(self, request: Request) -> Response:
        """Follow redirects of requests without a body; credentials stay with the registry."""
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._http.send(
                request.method, url, self._headers(request, url), request.body, verify=self._verify
            )
            if response.status not in _REDIRECTS or request.body is not None:
                return response
            response.finish()
            url = joined(url, response.headers.get("location", ""))
        raise RegistryError(
            f"{self.host} redirects {request.what} more often than the limit of {_MAX_REDIRECTS}"
        )

    def _headers(self, request: Request, url: str) -> dict[str, str]:
        headers = dict(request.headers)
        if self._origin.scheme == "https" and Origin.of(url).scheme != "https":
            raise RegistryError(f"{self.host} sends {request.what} to a place without TLS")
        if Origin.of(url) == self._origin:
            authorization = self._auth.header(self.name, self._scopes)
            if authorization is not None:
                headers["Authorization"] = authorization
        return headers

    def refusal(self, response: Response, what: str) -> Exception:
        """The error for an answer that will not be another one the next time."""
        status = response.status
        code, words = _errors_of(response)
        said = f": {words}" if words else ""
        if status == 404:
            if code == "NAME_UNKNOWN":
                return NotFoundError(
                    f"there is no repository {self.label}", hint="look at its name"
                )
            hint = f"see what is there: boltseal tags docker://{self.label}"
            return NotFoundError(
                f"{what} is not in {self.label}", hint=hint if what[:9] == "manifest " else None
            )
        if status in (401, 403):
            hint = "the credentials are wrong, or do not allow this"
            if not self._auth.has_credentials(self.name):
                hint = f"log in: boltseal login {self.host}"
            return RegistryError(
                f"{self.host} denies {what}{said}", hint=hint, status=status, code=code
            )
        return RegistryError(
            f"{self.host} answered {status} to {what}{said}", status=status, code=code
        )


def connect(http: HttpClient, options: RegistryOptions, route: Route, actions: str) -> Repository:
    """Find out how a registry is spoken to. Raises RegistryError or TransientError.

    TLS comes first. Plain HTTP is tried only with a server that does not speak TLS at all, and only
    where that was allowed: on this machine itself, or as the user configured.
    """
    loose = route.insecure or options.tls_verify is False
    plain_allowed = loose or (options.tls_verify is None and is_loopback(without_port(route.host)))
    verify = not loose
    schemes = ("https", "http") if plain_allowed else ("https",)
    for scheme in schemes:
        base = f"{scheme}://{api_host(route.host)}"
        auth = Authenticator(http, options, route.host, verify=verify)
        try:
            persistently(
                lambda: _ping(http, base, auth, route.host, verify=verify),  # noqa: B023
                attempts=_CONNECT_ATTEMPTS,
            )
        except PlainHttpError:
            continue
        return Repository(http, auth, base, route, actions, verify=verify)
    raise RegistryError(
        f"{route.host} does not speak TLS",
        hint="allow plain HTTP with --tls-verify=false, or for this registry in registries.conf",
    )


def _ping(http: HttpClient, base: str, auth: Authenticator, host: str, *, verify: bool) -> None:
    """``GET /v2/`` (OCI Distribution Specification, "Determining Support")."""
    response = http.send("GET", f"{base}/v2/", {"User-Agent": AGENT}, verify=verify)
    if response.status in TRANSIENT:
        raise transient_answer(response, host)
    auth.take_challenge(response.headers)
    status = response.status
    response.finish()
    if status not in (200, 401):
        raise RegistryError(
            f"{host} is not a registry: it answered {status} to /v2/", status=status
        )


def _errors_of(response: Response) -> tuple[str | None, str]:
    """Code and words of a registry's error document ("Error Codes"), cut short."""
    try:
        raw = response.read(_MAX_ERROR_BYTES)
        document = strictjson.load_object(raw, "the answer", max_bytes=_MAX_ERROR_BYTES)
    except (IntegrityError, RegistryError):
        return None, ""
    finally:
        response.close()
    errors: Any = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return None, ""
    code, message = first.get("code"), first.get("message")
    words = message if isinstance(message, str) else ""
    return (code if isinstance(code, str) else None), words.partition("?")[0][:_MAX_MESSAGE]
