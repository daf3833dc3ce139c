"""What a job is: for whom and how, without where it runs and without any secret."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from boltseal.image.encrypt import encrypt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boltseal.keywrap.base import Recipient

# options that change how an image is reached, and not what is written
_RUNTIME = frozenset({"identities", "registry", "jobs", "keys", "progress"})


def header(
    recipients: Iterable[Recipient], options: Mapping[str, Any], keyring: Iterable[Any]
) -> dict[str, Any]:
    """The first line of a journal: recipients, identities and options, as they are named."""
    return {
        "recipients": _names(recipients),
        "identities": [_text(one.describe()) for one in keyring],
        "options": plain_options(options),
    }


def digest(
    common: Mapping[str, Any], recipients: Sequence[Recipient], options: Mapping[str, Any]
) -> str:
    """Of what is to be done to one image, which may have recipients and options of its own."""
    document = {
        **common,
        "recipients": _names(recipients),
        "options": plain_options(options),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``encrypt()`` that are not as they are by default, as JSON can hold them."""
    usual = inspect.signature(encrypt).parameters
    found: dict[str, Any] = {}
    for name in sorted(set(options) - _RUNTIME):
        value = plain(options[name])
        if name not in usual or value != plain(usual[name].default):
            found[name] = value
    return found


def plain(value: Any) -> Any:
    """JSON for an option's value; nothing in it can be a secret, but bytes are hashed anyway."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return "sha256:" + hashlib.sha256(value).hexdigest()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return _text(str(value))


def _names(recipients: Iterable[Recipient]) -> list[str]:
    return sorted(_text(one.describe() + _manner(one)) for one in recipients)


def _manner(recipient: Recipient) -> str:
    """How is it wrapped for: with which hash, and whether the image names the recipient."""
    kind = getattr(recipient, "hash", "")
    return (f" by {kind}" if kind else "") + (
        "" if getattr(recipient, "with_kid", True) else ", not named"
    )


def _text(text: str) -> str:
    """As it is, but for bytes of a path that are no characters."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
