"""What the console needs of the broker, and how long a session lasts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from boltseal.broker.identity.authenticate import Known
    from boltseal.broker.keys.safe import Safe
    from boltseal.broker.model import Snapshot
    from boltseal.broker.store.database import Database

PREFIX: Final = "/console"
IDLE_SECONDS: Final = 30 * 60
SESSION_SECONDS: Final = 8 * 3600
TRIES_A_MINUTE: Final = 10  # to sign in, from one address
MAX_SESSIONS: Final = 20  # of one administrator; the oldest ends for another one


@dataclass(frozen=True, slots=True)
class Issuer:
    """Where people sign in (OpenID Connect, authorisation code with PKCE).

    ``issuer`` is that of an ``oidc`` trust whose audiences have ``client_id``: the trust says whose
    tokens count and for which tenant, its policies what a person may do. ``client_secret`` is for
    issuers that insist on one, ``ca`` (PEM) vouches for the issuer's server.
    """

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    name: str = "your organisation"  # on the button
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    ca: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Bounds and the issuer; ``origin`` (``https://HOST[:PORT]``) is where the issuer sends people
    back to, without it the address that they came to.
    """

    issuer: Issuer | None = None
    origin: str = ""
    idle_seconds: int = IDLE_SECONDS
    session_seconds: int = SESSION_SECONDS
    tries_a_minute: int = TRIES_A_MINUTE


class Snapshots(Protocol):
    """What is needed of the store's snapshots."""

    def current(self, *, stale: bool = False) -> Snapshot:
        """One that is new enough; with ``stale`` the newest."""


class Log(Protocol):
    """What is needed of the replica's log."""

    def problem(self, place: str, error: BaseException) -> None:
        """Something failed; texts of errors that are not Boltseal's own are left out."""


class Services(Protocol):
    """What the console is built on; the application has all of it."""

    @property
    def database(self) -> Database: ...

    @property
    def safe(self) -> Safe: ...

    @property
    def snapshots(self) -> Snapshots: ...

    @property
    def known(self) -> Known: ...

    @property
    def log(self) -> Log: ...

    @property
    def console(self) -> ConsoleSettings: ...
