"""Encrypting and decrypting a manifest's text gives back every byte of it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import MalformedError
from boltseal.spec import annotations as names
from boltseal.spec.digest import Digest
from boltseal.spec.edit import DescriptorEdit, edit_document, keep_indexes

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NEW = Digest.of(b"new")
OLD = Digest.of(b"old")

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = TEXTS.filter(lambda key: key not in {"mediaType", "digest", "size", "annotations", "data"})
ANNOTATIONS = st.none() | st.dictionaries(
    TEXTS.filter(lambda key: not names.is_encryption(key)), TEXTS, max_size=3
)


@st.composite
def descriptors(draw: st.DrawFn) -> dict[str, Any]:
    members: list[tuple[str, Any]] = [
        ("mediaType", LAYER),
        ("digest", str(OLD)),
        ("size", draw(st.integers(0, 1 << 40))),
    ]
    if draw(st.booleans()):
        members.append(("annotations", draw(ANNOTATIONS)))
    if draw(st.booleans()):
        members.append(("data", "b2xk"))
    members += draw(st.dictionaries(KEYS, VALUES, max_size=2)).items()
    return dict(draw(st.permutations(members)))


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    layers = draw(st.lists(descriptors(), min_size=1, max_size=3))
    top = {"schemaVersion": 2, "layers": layers, **draw(st.dictionaries(KEYS, VALUES, max_size=2))}
    top = {**top, "schemaVersion": 2, "layers": layers}
    order = draw(st.permutations(list(top)))
    return _write({key: top[key] for key in order}, draw(st.integers(0, 1 << 30))), layers


def _write(value: Any, seed: int) -> str:
    """JSON with spaces anywhere, and escapes where none are needed.

    Digests and embedded data alone are written plainly: they are the values that are replaced.
    """
    chance = random.Random(seed)

    def space() -> str:
        return "".join(chance.choice(" \t\r\n") for _ in range(chance.choice((0, 0, 0, 1, 3))))

    def text(value: str) -> str:
        if chance.random() < 0.3 and value not in {str(OLD), "b2xk"}:
            return '"' + "".join(_escape(letter) for letter in value) + '"'
        return json.dumps(value, ensure_ascii=chance.random() < 0.5)

    def write(value: Any) -> str:
        if isinstance(value, dict):
            inner = ",".join(
                f"{space()}{text(key)}{space()}:{space()}{write(item)}{space()}"
                for key, item in value.items()
            )
            return "{" + (inner or space()) + "}"
        if isinstance(value, list):
            return (
                "[" + (",".join(space() + write(item) + space() for item in value) or space()) + "]"
            )
        return text(value) if isinstance(value, str) else json.dumps(value)

    return space() + write(value) + space()


def _escape(letter: str) -> str:
    pairs = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[at : at + 4]}" for at in range(0, len(pairs), 4))


ENCRYPT = DescriptorEdit(
    media_type=LAYER + "+encrypted",
    digest=NEW,
    size=5,
    data=b"new",
    set_annotations={names.KEYS + "jwe": "abc", names.PUBLIC_OPTIONS: "def"},
)


def decryption(layer: dict[str, Any]) -> DescriptorEdit:
    return DescriptorEdit(
        media_type=LAYER,
        digest=OLD,
        size=layer["size"],
        data=b"old",
        drop_annotations=names.encryption_keys(layer.get("annotations") or {})
        | {names.KEYS + "jwe", names.PUBLIC_OPTIONS, names.EMPTY_MARK},
    )


@given(documents(), st.data())
def test_there_and_back_is_the_same_text(
    document: tuple[str, list[dict[str, Any]]], data: st.DataObject
) -> None:
    text, layers = document
    raw = text.encode("utf-8", "surrogatepass")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return
    chosen = data.draw(st.sets(st.integers(0, len(layers) - 1), min_size=1))
    sealed = edit_document(raw, lists={"layers": dict.fromkeys(chosen, ENCRYPT)})
    found = json.loads(sealed)
    for place, layer in enumerate(layers):
        now = found["layers"][place]
        if place not in chosen:
            assert now == layer
            continue
        assert now["mediaType"] == LAYER + "+encrypted"
        assert (now["digest"], now["size"]) == (str(NEW), 5)
        assert now.get("data", "bmV3") == "bmV3"
        expected = {**(layer.get("annotations") or {}), **ENCRYPT.set_annotations}
        assert {k: v for k, v in now["annotations"].items() if k != names.EMPTY_MARK} == expected
    opened = edit_document(
        sealed, lists={"layers": {place: decryption(layers[place]) for place in chosen}}
    )
    assert opened == raw


@given(documents(), st.data())
def test_keeping_some_elements(
    document: tuple[str, list[dict[str, Any]]], data: st.DataObject
) -> None:
    text, layers = document
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        return
    kept = data.draw(st.sets(st.integers(0, len(layers) - 1), min_size=1))
    found = json.loads(keep_indexes(raw, "layers", frozenset(kept)))
    assert found == {**json.loads(raw), "layers": [layers[place] for place in sorted(kept)]}


def test_a_mark_that_holds_something_else_is_refused() -> None:
    raw = json.dumps(
        {"layers": [{"mediaType": "x", "annotations": {names.EMPTY_MARK: '{"evil":"1"}'}}]}
    ).encode()
    edit = DescriptorEdit(drop_annotations=frozenset({names.EMPTY_MARK}))
    with pytest.raises(MalformedError, match="something else"):
        edit_document(raw, lists={"layers": {0: edit}})
