"""Templates. Everything that is put into one is escaped, whatever it is and wherever it stands."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from boltseal.broker.console.settings import PREFIX

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER: Final = Path(__file__).parent
_DIGEST_SHOWN: Final = 19  # sha256: and 12 digits

# What a page says after a form; the address names one of these, and never the text
MESSAGES: Final = {
    "key-created": "The key is made. Publish it, or let a policy say who may encrypt for it.",
    "project-created": "The project is made.",
    "tenant-created": "The tenant is made.",
    "rotated": "There is a new version, and it is enabled. Older ones go on opening their images.",
    "published": "Anybody who reaches the broker can fetch the public half now.",
    "unpublished": "The public half is given only to those whom a policy lets encrypt.",
    "labels-set": "The labels are set.",
    "enabled": "The version is enabled.",
    "disabled": "The version is disabled: it opens nothing from now on.",
    "destroying": "The version opens nothing from now on. Until its end it can be taken back.",
    "destroyed": "The private half is gone.",
    "restored": "The version is taken back. It is disabled until you enable it.",
    "policy-saved": "The version is kept. It counts once you activate it.",
    "policy-active": "The policies are active on all replicas.",
    "revoked": "It is revoked, on all replicas.",
    "lifted": "The revocation is taken back.",
    "signed-out": "You have signed out.",
}


def render(template: str, **context: Any) -> str:
    """A page's HTML."""
    return _environment().get_template(template).render(**context)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_printable,
    )
    made.globals["prefix"] = PREFIX
    made.filters.update(when=when, ago=ago, digest=digest)
    return made


def _printable(value: Any) -> Any:
    """What does not print, or turns the text after it round, is shown as what it is.

    The form is the one that Cedar's texts have, so that policies stay what they were.
    """
    if type(value) is not str or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{{{ord(c):x}}}" for c in value)


def when(seconds: int | None) -> Markup:
    """A time in UTC, for people and for machines."""
    if seconds is None:
        return Markup("&ndash;")
    parts = time.gmtime(seconds)
    machine = time.strftime("%Y-%m-%dT%H:%M:%SZ", parts)
    return Markup('<time datetime="{}">{}</time>').format(
        machine, time.strftime("%Y-%m-%d %H:%M:%S", parts)
    )


def ago(seconds: int) -> str:
    """A length of time, roughly."""
    if seconds < 0:
        return "in the future"
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        count = seconds // size
        if count >= 2 or (count and size == 3600):
            return f"{count} {name}{'s' if count != 1 else ''} ago"
    return f"{seconds} second{'s' if seconds != 1 else ''} ago"


def digest(text: str) -> Markup:
    """The beginning of a digest, with all of it for who points at it or copies it."""
    if len(text) <= _DIGEST_SHOWN + 3:
        return Markup("<code>{}</code>").format(text)
    text = _printable(text)
    return Markup('<code title="{}">{}&hellip;</code>').format(text, text[:_DIGEST_SHOWN])
