"""The console as a browser has it: cookies, forms as pages have them, and something to look at."""

from __future__ import annotations

import html.parser
import http.client
import itertools
import json
import os
import sqlite3
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from boltseal.broker.audit import details
from boltseal.broker.model import (
    Assurance,
    AuditEntry,
    Circumstances,
    Claim,
    Decision,
    Principal,
    PrincipalKind,
)
from boltseal.broker.store.change import record
from boltseal.broker.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.broker import Broker

SESSION = "__Host-boltseal-session"
VISITOR = "__Host-boltseal-visitor"
IMAGE = "sha256:" + "1a" * 32
POLICY = """@id("prod-eu")
permit (principal is Boltseal::Host, action == Boltseal::Action::"unwrap", resource)
when { principal.hasTag("region") && principal.getTag("region") == "eu" };
"""
DENIED = """@id("nobody-from-anywhere")
forbid (principal, action, resource);
"""


@dataclass
class Form:
    """A form of a page, with what its fields hold as it stands there."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)  # name, value, formaction


class _Forms(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._area: str | None = None
        self._select: str | None = None
        self._first = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "form":
            self.forms.append(Form(found.get("action", ""), found.get("method", "get")))
        if not self.forms:
            return
        form = self.forms[-1]
        if tag == "input" and (found.get("type") != "checkbox" or "checked" in found):
            form.fields[found["name"]] = found.get("value", "")
        elif tag == "button":
            form.buttons.append(
                (found.get("name", ""), found.get("value", ""), found.get("formaction", ""))
            )
        elif tag == "textarea":
            self._area, self._first = found["name"], True
            form.fields[self._area] = ""
        elif tag == "select":
            self._select = found["name"]
        elif tag == "option" and self._select:
            chosen = "selected" in found or self._select not in form.fields
            form.fields.update({self._select: found.get("value", "")} if chosen else {})

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        if self._area:
            # as browsers do: the first line feed of a text area is not of its text
            text = data.removeprefix("\n") if self._first else data
            self.forms[-1].fields[self._area] += text
            self._first = False


@dataclass(frozen=True)
class Page:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    path: str

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def forms(self) -> list[Form]:
        return _Forms(self.text).forms

    @property
    def links(self) -> list[str]:
        return _Forms(self.text).links

    @property
    def tags(self) -> list[tuple[str, dict[str, str]]]:
        return _Forms(self.text).tags

    def form(self, action: str) -> Form:
        """The one that is sent to an address that ends so."""
        found = [one for one in self.forms if one.action.endswith(action)]
        assert found, f"no form for {action} on {self.path}: {[f.action for f in self.forms]}"
        return found[0]

    @property
    def alert(self) -> str:
        """What the page says is wrong."""
        return self.text.partition('role="alert"')[2].partition("</p>")[0]


_NUMBERS = itertools.count(os.getpid() * 97)


class Browser:
    """Cookies and the headers of a browser; a new connection for each request.

    Each comes from a loopback address of its own, as tries to sign in are counted by address.
    """

    def __init__(self, broker: Broker) -> None:
        number = next(_NUMBERS)
        self.address = f"127.{number >> 16 & 127 | 1}.{number >> 8 & 255}.{number & 255 or 1}"
        self.broker = broker
        parts = urlsplit(broker.url)
        self.host, self.port = parts.hostname or "", parts.port
        self.origin = broker.url
        self.cookies: dict[str, str] = {}
        self.name = self.token = ""  # the administrator's, where a test asked for one
        self._context = ssl.create_default_context(cafile=str(broker.ca))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        follow: bool = True,
    ) -> Page:
        """A request as it stands, with the cookies there are."""
        told = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        if not self.cookies:
            del told["Cookie"]
        connection = http.client.HTTPSConnection(
            self.host,
            self.port,
            timeout=30,
            context=self._context,
            source_address=(self.address, 0),
        )
        try:
            connection.request(method, path, body, {**told, **(headers or {})})
            answer = connection.getresponse()
            page = Page(answer.status, answer.headers, answer.read(), path)
        finally:
            connection.close()
        for line in page.headers.get_all("set-cookie") or []:
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        if follow and page.status == 303:
            return self.get(page.headers["location"])
        return page

    def get(self, path: str, **query: str) -> Page:
        """A page."""
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(
        self, path: str, fields: Mapping[str, str], *, follow: bool = True, **headers: str | None
    ) -> Page:
        """A form, with the headers that a browser sends; None leaves one out."""
        told: dict[str, str | None] = {
            "Origin": self.origin,
            "Content-Type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        kept = {name: value for name, value in told.items() if value is not None}
        return self.ask("POST", path, urlencode(fields), kept, follow=follow)

    def send(self, page: Page, action: str, *, follow: bool = True, **changed: str) -> Page:
        """A form of a page, filled in."""
        form = page.form(action)
        return self.post(form.action, {**form.fields, **changed}, follow=follow)

    def sign_in(self, token: str | None = None) -> Page:
        """With an administrator's token."""
        page = self.get("/console/sign-in")
        return self.send(page, "/sign-in", token=token or self.broker.admin_token)

    @property
    def form_token(self) -> str:
        """Of the session, from a page that has a form."""
        return self.get("/console/").form("/sign-out").fields["form_token"]


def open_database(broker: Broker) -> Database:
    """The broker's own, beside its process."""
    return Database.open(f"sqlite:///{broker.folder}/broker.db")


def principal(name: str = "host-1", region: str = "eu", tenant: str = "default") -> Principal:
    """A host of a cluster."""
    return Principal(
        PrincipalKind.HOST,
        tenant,
        f"x509:cluster-{region}:{name}",
        f"cluster-{region}",
        f"cluster-{region}",
        {"env": "prod", "region": region},
        (
            Claim("subject", f"CN={name}", Assurance.SIGNED, f"cluster-{region}"),
            Claim("tee", "sev-snp", Assurance.ATTESTED, "evidence:snp"),
            Claim("purpose", "nightly", Assurance.ASSERTED, "request"),
        ),
        (f"identity:x509:cluster-{region}:{name}", "certificate:" + "ab" * 32),
    )


def request(
    who: Principal, time: int, *, allowed: bool, key: str = "default/default/prod-eu", **more: Any
) -> AuditEntry:
    """What the audit has of a release."""
    image = more.pop("image", IMAGE)
    missing = () if allowed else ('policy prod-eu wants the label region "eu", and it is "us"',)
    decision = Decision(
        allowed,
        1,
        ("prod-eu",) if allowed else (),
        missing,
        (),
        "allowed by policy prod-eu" if allowed else "no policy permits it",
    )
    circumstances = Circumstances(
        time, "192.0.2.7", more.pop("image_name", "registry.example/app:1"), image, None
    )
    return AuditEntry(
        time,
        who.tenant,
        "release",
        "allowed" if allowed else "refused",
        who.id,
        f"{key}@1",
        image,
        f"{time:012x}{'0' * 20}",
        {
            "action": "unwrap",
            "address": "192.0.2.7",
            "principal": details.principal(who),
            "circumstances": details.circumstances(circumstances),
            "decision": details.decision(decision),
            "key": key,
            "version": 1,
            "fingerprint": "sha256:" + "00" * 32,
            **more,
        },
    )


def write(broker: Broker, *entries: AuditEntry) -> list[int]:
    """Records, as the broker would write them down; their numbers."""
    with open_database(broker) as database:
        for entry in entries:
            record(database, entry)
        with database.read() as connection:
            last = int(connection.exec_driver_sql("select max(seq) from audit").scalar_one())
    return list(range(last - len(entries) + 1, last + 1))


def change(broker: Broker, statement: str, *values: Any) -> None:
    """What no page can do: the database as time or somebody else would leave it."""
    with sqlite3.connect(broker.folder / "broker.db", timeout=20) as connection:
        connection.execute(statement, values)
    connection.close()


def records(broker: Broker, kind: str, tenant: str | None = None) -> list[dict[str, Any]]:
    """What the audit has of a kind, oldest first."""
    with sqlite3.connect(broker.folder / "broker.db", timeout=20) as connection:
        rows = connection.execute(
            "select record from audit where kind = ? order by seq", (kind,)
        ).fetchall()
    connection.close()
    found = [json.loads(row[0]) for row in rows]
    return [one for one in found if tenant in (None, one["tenant"])]


def query_of(page: Page) -> dict[str, list[str]]:
    """Of the address that an answer leads to."""
    return parse_qs(urlsplit(page.headers["location"]).query)
