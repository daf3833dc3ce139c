"""A report as sections of a table, and as one HTML file that needs nothing else.

Names in it come from tokens, certificates and whoever asks. What does not print (control
characters, what turns the direction of text) is written as its number; Jinja2 escapes the rest; and
the file forbids scripts and anything from outside by its own policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from boltseal.broker.service.access import EVERYTHING
from boltseal.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boltseal.broker.audit.answers import ClaimSeen, Group, Report, Request

ASSERTED = (
    "Whoever asked named the image, the layer and the platform, so these are asserted and not "
    "proved; who asked, for which key, and what came of it is what the broker itself saw."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A table: the first column of a row says what the row is about."""

    name: str  # for a link within the page
    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0


def sections(report: Report) -> tuple[Section, ...]:
    """Everything the report says, as text that prints as it looks."""
    left = report.left_out
    return (
        Section(
            "opened",
            "Who did open it",
            ASSERTED,
            ("Who", "Tenant", "Key", "Times", "First", "Last", "Policy version", "Why"),
            _rows(_group(one) for one in report.opened),
            left.get("groups", 0),
        ),
        Section(
            "refused",
            "Who was refused",
            "Why it was refused is for operators and auditors: who asked was told the code alone.",
            ("Who", "Tenant", "Key", "Times", "First", "Last", "Policy version", "Code", "Why"),
            _rows(_group(one, one.code) for one in report.refused),
        ),
        Section(
            "now",
            "Who could open it now",
            f"Decided at {_time(report.made)} as if each asked again. Only those whom the audit "
            "knows are listed: whoever the authorities below vouch for may be allowed as well.",
            ("Who", "Tenant", "Key", "Could", "Policy version", "Policies", "Why"),
            _rows(
                (
                    one.actor,
                    one.tenant,
                    one.key,
                    _could(allowed=one.allowed, renew=one.renew),
                    _number(one.policy_version),
                    ", ".join(one.policies),
                    one.why,
                )
                for one in report.possible
            ),
            left.get("principals", 0),
        ),
        Section(
            "who",
            "What is known of them",
            "A claim is asserted (by itself worth nothing), signed by an authority, or attested by "
            "hardware.",
            ("Who", "Tenant", "Kind", "Authority", "Cluster", "Assurance", "Labels", "Claims"),
            _rows(
                (
                    one.id,
                    one.tenant,
                    one.kind,
                    one.trust,
                    one.cluster,
                    one.assurance,
                    ", ".join(f"{name}={value}" for name, value in one.labels.items()),
                    "; ".join(map(_claim, one.claims)),
                )
                for one in report.who
            ),
        ),
        Section(
            "authorities",
            "Authorities that are believed now",
            "Each may vouch for others than those above.",
            ("Authority", "Tenant", "Kind"),
            _rows((one.name, one.tenant, one.kind) for one in report.authorities),
        ),
        Section(
            "policies",
            "Policies that decide now",
            "",
            ("Version", "Tenant", "Author", "Made", "Comment", "Text"),
            _rows(
                (
                    str(one.version),
                    one.tenant,
                    one.author,
                    _time(one.created),
                    one.comment,
                    one.text,
                )
                for one in report.policies
            ),
        ),
        Section(
            "changes",
            "What changed in the period",
            "Keys, policies, authorities and revocations, also what was tried and refused.",
            ("Record", "Time", "Tenant", "Kind", "Outcome", "By", "Of what", "What"),
            _rows(
                (
                    str(one.seq),
                    _time(one.time),
                    one.tenant,
                    one.kind,
                    one.outcome,
                    one.actor,
                    one.subject,
                    one.what,
                )
                for one in report.changes
            ),
            left.get("changes", 0),
        ),
        Section(
            "requests",
            "Single requests",
            "The last ones; all of them are counted above.",
            ("Record", "Time", "Request", "Who", "Tenant", "Address", "Key", "Layer", "Outcome",
             "Policy version", "Policies", "Why"),
            _rows(map(_request, report.requests)),
            left.get("requests", 0),
        ),
    )  # fmt: skip


def facts(report: Report) -> tuple[tuple[str, str], ...]:
    """What stands above the tables."""
    asked = report.question
    since = "the beginning" if asked.since is None else _time(asked.since)
    until = _time(report.made) if asked.until is None else _time(asked.until)
    keys = report.left_out.get("keys", 0)
    found = [
        ("Image", asked.image),
        ("Key", asked.key or "all"),
        ("Period", f"{since} to {until}"),
        ("Tenant", "all" if report.tenant == EVERYTHING else report.tenant),
        ("Made", f"{_time(report.made)} by {report.by}"),
        ("Broker", report.broker),
        ("Records in the audit", str(report.last)),
        ("Newest checkpoint", report.checkpoint or "none"),
    ]
    if asked.manifests:
        found.insert(1, ("Its manifests", " ".join(asked.manifests)))
    if keys:
        found.append(("Requests for further keys, not decided again", str(keys)))
    return tuple((name, printable(value)) for name, value in found)


def to_html(report: Report) -> str:
    """One page. Raises MissingExtraError without Jinja2."""
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("the auditor's report as HTML", "broker") from None

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files(__package__).joinpath("report.html").read_text("utf-8")
    template = environment.from_string(source)
    return template.render(facts=facts(report), sections=sections(report))


def printable(text: str) -> str:
    """What does not print is written as ``\\u{HEX}``; lines of a policy stay lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{{{ord(c):x}}}" for c in text)


def _rows(rows: Iterable[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(printable(str(cell)) for cell in row) for row in rows)


def _group(one: Group, *more: str) -> tuple[str, ...]:
    return (
        one.actor or "nobody who is known",
        one.tenant,
        one.key,
        str(one.count),
        _time(one.first),
        _time(one.last),
        _number(one.policy_version),
        *more,
        one.why,
    )


def _request(one: Request) -> tuple[str, ...]:
    return (
        str(one.seq),
        _time(one.time),
        one.request,
        one.actor or "nobody who is known",
        one.tenant,
        one.address,
        one.key,
        one.layer,
        f"{one.outcome} ({one.code})" if one.code else one.outcome,
        _number(one.policy_version),
        ", ".join(one.policies),
        one.why,
    )


def _claim(one: ClaimSeen) -> str:
    return f"{one.name}={one.value} ({one.assurance}, {one.source})"


def _could(*, allowed: bool, renew: bool) -> str:
    if not allowed:
        return "no"
    return "yes, with a new credential" if renew else "yes"


def _number(value: Any) -> str:
    return "none" if value is None else str(value)


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
