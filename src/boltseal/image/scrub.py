"""Take out of an image's configuration what it does not need to run and everybody could read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import UsageError
from boltseal.image import tree
from boltseal.image.arguments import texts
from boltseal.spec import config_edit
from boltseal.spec.config_edit import Scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boltseal.image.session import Session

_PARTS = ("history", "build", "author")
_LABEL = "label:"


def as_scrub(values: Iterable[str]) -> Scrub:
    """What is named: ``history``, ``build``, ``author``, ``all`` of these, ``label:GLOB``."""
    parts: set[str] = set()
    labels: list[str] = []
    for value in texts(values, "part to scrub"):
        for part in [value] if value.startswith(_LABEL) else value.split(","):
            if part == "all":
                parts.update(_PARTS)
            elif part in _PARTS:
                parts.add(part)
            elif part.startswith(_LABEL) and part != _LABEL:
                labels.append(part.removeprefix(_LABEL))
            else:
                raise UsageError(
                    f"{part[:80]!r} is nothing that can be scrubbed",
                    hint="choose from history, build, author and all, with commas",
                )
    return Scrub("history" in parts, "build" in parts, "author" in parts, tuple(labels))


def scrub(session: Session, what: Scrub) -> None:
    """Give the session new configurations, and say what that means."""
    changed = False
    for node in tree.manifests(session.node):
        if node.config is None or node.is_attestation:
            continue
        raw = config_edit.scrub(node.config.raw, what)
        if raw != node.config.raw:
            session.configs[node.descriptor.digest] = raw
            changed = True
    if not changed:
        session.journal.note("the config had nothing of what was to be scrubbed")
        return
    session.journal.note(
        "the config was scrubbed: decrypting gives the layers back, and an image of another digest"
    )
    stays = [node for node in tree.manifests(session.node) if node.is_attestation]
    if stays and (what.history or what.build):
        session.journal.warn(
            f"{stays[0].label} is an attestation and stays readable: provenance may hold the build "
            "arguments and the commands that were scrubbed; build without it (--provenance=false)"
        )
