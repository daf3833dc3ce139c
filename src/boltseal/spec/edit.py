"""Change descriptors inside a manifest or an index without touching any other byte.

Encrypting changes a few values of a few descriptors; decrypting changes them back. Because every
other byte stays (spaces, key order, escapes, fields nobody knows), decrypting an encrypted manifest
gives back the original, and with it the original digest. See docs/adr/0003-edit-in-place.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal._io import b64
from boltseal.errors import MalformedError
from boltseal.spec._jsontext import Member, Rewrite, elements, members, skip_space
from boltseal.spec.annotations import EMPTY_MARK
from boltseal.spec.mediatypes import ENCRYPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.spec.digest import Digest

_EMPTY_ANNOTATIONS = re.compile(r"null|\{[ \t\r\n]{0,64}\}")


@dataclass(frozen=True, slots=True)
class DescriptorEdit:
    """New values for one descriptor; None and empty leave things as they are.

    ``data`` replaces the embedded content where the descriptor embeds any: the plain bytes of an
    encrypted layer must not stay behind in its descriptor.
    """

    media_type: str | None = None
    digest: Digest | None = None
    size: int | None = None
    data: bytes | None = None
    set_annotations: Mapping[str, str] = field(default_factory=dict)
    drop_annotations: frozenset[str] = frozenset()


def edit_document(
    raw: bytes,
    *,
    lists: Mapping[str, Mapping[int, DescriptorEdit]],
    single: Mapping[str, DescriptorEdit] | None = None,
    media_type: str | None = None,
) -> bytes:
    """Apply edits to a validated manifest or index.

    ``lists`` maps a member that is a list of descriptors (``layers``, ``manifests``) to edits by
    index; ``single`` maps a member that is one descriptor (``config``); ``media_type`` replaces
    the document's own, where it states one.
    """
    work = Rewrite(raw.decode("utf-8"))
    top = {member.key: member for member in members(work.text, skip_space(work.text, 0))}
    if media_type is not None and "mediaType" in top:
        _edit_media_type(work, top["mediaType"], media_type)
    for key, edits in lists.items():
        spans = elements(work.text, top[key].start) if edits else []
        for index, edit in edits.items():
            _edit_descriptor(work, spans[index][0], edit)
    for key, edit in (single or {}).items():
        _edit_descriptor(work, top[key].start, edit)
    return work.result().encode("utf-8")


def keep_indexes(raw: bytes, key: str, kept: frozenset[int]) -> bytes:
    """Remove every element of the list ``key`` that is not ``kept`` (at least one is)."""
    text = raw.decode("utf-8")
    top = {member.key: member for member in members(text, skip_space(text, 0))}
    spans = elements(text, top[key].start)
    chosen = [text[start:end] for index, (start, end) in enumerate(spans) if index in kept]
    return (text[: spans[0][0]] + ",".join(chosen) + text[spans[-1][1] :]).encode("utf-8")


def _edit_descriptor(work: Rewrite, start: int, edit: DescriptorEdit) -> None:
    found = members(work.text, start)
    by_key = {member.key: member for member in found}
    if edit.media_type is not None:
        _edit_media_type(work, by_key["mediaType"], edit.media_type)
    if edit.digest is not None:
        _set(work, by_key["digest"], json.dumps(str(edit.digest)))
    if edit.size is not None:
        _set(work, by_key["size"], str(edit.size))
    if edit.data is not None and "data" in by_key and work.text[by_key["data"].start] == '"':
        _set(work, by_key["data"], f'"{b64.encode(edit.data)}"')
    _edit_annotations(work, found, edit)


def _set(work: Rewrite, member: Member, literal: str) -> None:
    work.replace(member.start, member.end, literal)


def _edit_media_type(work: Rewrite, member: Member, new: str) -> None:
    literal = work.text[member.start : member.end]
    old = json.loads(literal)
    if new == old:
        return
    # Adding and removing the suffix alone keeps the escapes of the rest.
    if new == old + ENCRYPTED:
        work.replace(member.end - 1, member.end - 1, ENCRYPTED)
    elif old == new + ENCRYPTED and literal.endswith(f'{ENCRYPTED}"'):
        work.replace(member.end - 1 - len(ENCRYPTED), member.end - 1, "")
    else:
        _set(work, member, json.dumps(new))


def _edit_annotations(work: Rewrite, found: list[Member], edit: DescriptorEdit) -> None:
    if not edit.set_annotations and not edit.drop_annotations:
        return
    place = next((i for i, member in enumerate(found) if member.key == "annotations"), None)
    if place is None:
        if edit.set_annotations:
            work.replace(found[-1].end, found[-1].end, f',"annotations":{{{_pairs(edit)}}}')
        return
    value = found[place]
    literal = work.text[value.start : value.end]
    inner = members(work.text, value.start) if literal.startswith("{") else []
    if not inner:
        if edit.set_annotations:
            mark = f",{json.dumps(EMPTY_MARK)}:{json.dumps(literal)}"
            if not _EMPTY_ANNOTATIONS.fullmatch(literal):  # more spaces than are worth keeping
                mark = ""
            work.replace(value.start, value.end, f"{{{_pairs(edit)}{mark}}}")
        return
    left = [member for member in inner if member.key not in edit.drop_annotations]
    if not left and not edit.set_annotations:
        _remove_all(work, found, place, inner)
    else:
        work.remove(inner, lambda member: member.key in edit.drop_annotations)
        _add(work, inner, edit)


def _pairs(edit: DescriptorEdit, without: frozenset[str] = frozenset()) -> str:
    return ",".join(
        f"{json.dumps(key)}:{json.dumps(text)}"
        for key, text in edit.set_annotations.items()
        if key not in without
    )


def _remove_all(work: Rewrite, found: list[Member], place: int, inner: list[Member]) -> None:
    """Every annotation goes: the member goes too, unless it was there, empty, before."""
    value = found[place]
    mark = next((member for member in inner if member.key == EMPTY_MARK), None)
    if mark is not None:
        original = json.loads(work.text[mark.start : mark.end])
        if not _EMPTY_ANNOTATIONS.fullmatch(original):
            raise MalformedError(
                f"annotation {EMPTY_MARK} holds something else than empty annotations"
            )
        work.replace(value.start, value.end, original)
    elif place > 0:
        work.replace(found[place - 1].end, value.end, "")
    elif len(found) > 1:
        work.replace(value.key_start, found[1].key_start, "")


def _add(work: Rewrite, inner: list[Member], edit: DescriptorEdit) -> None:
    present = {member.key: member for member in inner}
    for key, text in edit.set_annotations.items():
        if key in present:
            _set(work, present[key], json.dumps(text))
    new = _pairs(edit, without=frozenset(present))
    if new:
        # after what stays; nothing to separate from where every old annotation goes
        bare = all(member.key in edit.drop_annotations for member in inner)
        work.replace(inner[-1].end, inner[-1].end, new if bare else f",{new}")
