"""A config is changed where it is meant, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import UsageError
from boltseal.spec.config_edit import Scrub, scrub, set_diff_ids
from boltseal.spec.digest import Digest

ALL = Scrub(history=True, build=True, author=True)
NEW = Digest("sha256", "f" * 64)


def test_not_one_other_byte_changes() -> None:
    raw = (
        b'{ "big" : 123456789012345678901234567890 , "f":1.50E+2,"\\u0061uthor" : "x" ,\n'
        b' "rootfs":{"type":"layers" , "diff_ids":[ "sha256:0" , "sha256:1"]}, "t" : "\\u00e9/\\/"}'
    )
    assert set_diff_ids(raw, {1: NEW}) == raw.replace(b"sha256:1", str(NEW).encode())
    assert scrub(raw, Scrub(author=True)) == raw.replace(b',"\\u0061uthor" : "x"', b"")
    assert scrub(raw, Scrub(history=True, build=True)) == raw


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"author":"a"}', "{}"),
        ('{"author":"a","b":1}', '{"b":1}'),
        ('{"b":1,"author":"a"}', '{"b":1}'),
        ('{"AUTHOR":"a","author":"b","Container":"c"}', "{}"),
        ('{"history":null}', '{"history":null}'),
        ('{"history":[]}', '{"history":[]}'),
        ('{"history":[{"created_by":"x"}]}', '{"history":[{}]}'),
        ('{"history":[{"Created":"2026","EMPTY_layer":false,"x":1}]}',
         '{"history":[{"Created":"2026"}]}'),
        ('{"history":[{"empty_layer":true}, {"created" : "2026", "y":2}]}',
         '{"history":[{"created" : "2026"}]}'),
        ('{"History":[1,{"a":2}]}', '{"History":[{},{}]}'),
        ('{"history":[{"created":"2026"}, {}]}', '{"history":[{"created":"2026"}, {}]}'),
        ('{"history":[{"created":"RUN x"},{"created":{"by":"x"}},{"created":null}]}',
         '{"history":[{},{},{"created":null}]}'),
        ('{"history":{"created_by":"x"},"History":"x"}', '{"history":[],"History":[]}'),
        ('{"config":null}', '{"config":null}'),
        ('{"Config":{"Image":"i","hostname":"h","Cmd":[]}}', '{"Config":{"Cmd":[]}}'),
    ],
)  # fmt: skip
def test_scrub(before: str, after: str) -> None:
    assert scrub(before.encode(), ALL).decode() == after


def test_labels() -> None:
    raw = b'{"config":{"Labels":{"a.b":"1","a.c":"2","b":"3"},"labels":null}}'
    assert scrub(raw, Scrub(labels=("a.*",))) == b'{"config":{"Labels":{"b":"3"},"labels":null}}'
    assert (
        scrub(raw, Scrub(labels=("b", "a.b", "a.c"))) == b'{"config":{"Labels":{},"labels":null}}'
    )
    for pattern in ("*" * 5, "x" * 201):
        with pytest.raises(UsageError):
            Scrub(labels=(pattern,))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.text(max_size=6) | st.sampled_from(
    ["author", "history", "config", "container", "comment", "os", "moby.buildkit.cache.v0"]
)


def without(document: dict[str, Any]) -> dict[str, Any]:
    gone = ("author", "container", "container_config", "docker_version", "parent", "comment")
    left = {
        key: value
        for key, value in document.items()
        if key.casefold() not in gone and not key.casefold().startswith("moby.buildkit.")
    }
    return {
        key: {k: v for k, v in value.items() if k.casefold() not in ("image", "hostname")}
        if key.casefold() == "config" and isinstance(value, dict)
        else value
        for key, value in left.items()
    }


@given(st.dictionaries(names, values, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_any_document(document: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    document = json.loads(raw)
    once = scrub(raw, Scrub(build=True, author=True))
    assert json.loads(once) == without(document)
    everything = scrub(raw, ALL)
    assert scrub(everything, ALL) == everything
    assert {key.casefold() for key in json.loads(everything)} == {
        key.casefold() for key in without(document)
    }


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_diff_ids(plan: tuple[int, set[int]]) -> None:
    count, changed = plan
    old = [f"sha256:{n:064x}" for n in range(count)]
    raw = json.dumps({"history": [], "rootfs": {"diff_ids": old, "type": "layers"}}).encode()
    new = json.loads(set_diff_ids(raw, dict.fromkeys(changed, NEW)))["rootfs"]["diff_ids"]
    assert new == [str(NEW) if n in changed else old[n] for n in range(count)]
