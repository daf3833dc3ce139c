"""Change an image configuration without touching any byte but those that are meant (config.md).

What Boltseal does not know survives as it is: numbers, escapes, the order of members. Names are
compared as Go's parser does, which takes ``History`` for ``history``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

from boltseal.errors import UsageError
from boltseal.spec._jsontext import Member, Rewrite, elements, members, skip_space

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from boltseal.spec.digest import Digest

_MAX_GLOB = 200  # characters
_MAX_STARS = 4  # in one pattern: what matching it costs grows with each

# What tells of the build and is of no use when the image runs. Old Docker versions keep the whole
# last build container in a config, BuildKit its instructions with their arguments.
_BUILD = frozenset(["container", "container_config", "docker_version", "parent", "comment"])
_BUILDKIT = "moby.buildkit."
_DATE = re.compile(r'null|"[0-9TtZz:.+-]{0,40}"')  # RFC 3339; nothing else is let pass for one
_OF_BUILD_CONTAINER = frozenset(["image", "hostname"])  # members of ``config``


@dataclass(frozen=True, slots=True)
class Scrub:
    """What is taken out of a configuration; ``labels`` are patterns such as ``com.example.*``."""

    history: bool = False
    build: bool = False
    author: bool = False
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.labels:
            if len(pattern) > _MAX_GLOB or pattern.count("*") > _MAX_STARS:
                raise UsageError(
                    f"the pattern of labels {pattern[:80]!r} is longer than {_MAX_GLOB} characters "
                    f"or has more than {_MAX_STARS} stars"
                )

    def __bool__(self) -> bool:
        return self.history or self.build or self.author or bool(self.labels)


def set_diff_ids(raw: bytes, new: Mapping[int, Digest]) -> bytes:
    """A validated configuration in which some layers have other diff ids."""
    work = Rewrite(raw.decode("utf-8"))
    for rootfs in _named(members(work.text, skip_space(work.text, 0)), ["rootfs"]):
        for listed in _named(members(work.text, rootfs.start), ["diff_ids"]):
            spans = elements(work.text, listed.start)
            for index, digest in new.items():
                work.replace(*spans[index], json.dumps(str(digest)))
    return work.result().encode("utf-8")


def scrub(raw: bytes, what: Scrub) -> bytes:
    """A validated configuration without ``what``; the same bytes when it had nothing of it.

    Of the history one entry is kept for each layer, with its date alone: several tools, podman
    among them, build on no image whose history has other layers than its ``rootfs``, and others
    need the date.
    """
    work = Rewrite(raw.decode("utf-8"))
    top = members(work.text, skip_space(work.text, 0))
    work.remove(top, lambda member: _is_doomed(member.key.casefold(), what))
    if what.history:
        for member in _named(top, ["history"]):
            _shorten(work, member)
    for member in _named(top, ["config"]):
        if work.text[member.start] == "{":
            _scrub_config(work, members(work.text, member.start), what)
    return work.result().encode("utf-8")


def _is_doomed(key: str, what: Scrub) -> bool:
    if what.author and key == "author":
        return True
    return what.build and (key in _BUILD or key.startswith(_BUILDKIT))


def _named(found: Iterable[Member], keys: Collection[str]) -> list[Member]:
    return [member for member in found if member.key.casefold() in keys]


def _shorten(work: Rewrite, history: Member) -> None:
    if work.text[history.start] != "[":
        if json.loads(work.text[history.start : history.end]) is not None:
            work.replace(history.start, history.end, "[]")  # no reader takes it, whatever it tells
        return
    kept: list[str] = []
    for start, end in elements(work.text, history.start):
        if work.text[start] != "{":
            kept.append("{}")
            continue
        entry = json.loads(work.text[start:end])
        if any(key.casefold() == "empty_layer" and value is True for key, value in entry.items()):
            continue
        dates = [
            one
            for one in members(work.text, start)
            if one.key.casefold() == "created" and _DATE.fullmatch(work.text[one.start : one.end])
        ]
        # the same spelling, so that whoever read it before reads it now
        kept.append("{" + ",".join(work.text[one.key_start : one.end] for one in dates) + "}")
    new = "[" + ",".join(kept) + "]"
    if json.loads(work.text[history.start : history.end]) != json.loads(new):
        work.replace(history.start, history.end, new)


def _scrub_config(work: Rewrite, found: list[Member], what: Scrub) -> None:
    if what.build:
        work.remove(found, lambda member: member.key.casefold() in _OF_BUILD_CONTAINER)
    if not what.labels:
        return
    wanted = [re.compile(translate(pattern)) for pattern in what.labels]
    for labels in _named(found, ["labels"]):
        if work.text[labels.start] == "{":
            work.remove(
                members(work.text, labels.start),
                lambda member: any(one.match(member.key) for one in wanted),
            )
