"""Which images a run is about: lists, templates, patterns; and what is refused before it begins."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import BoltsealError, IntegrityError, UsageError
from boltseal.image.bulk.jobs import as_jobs, parse_list
from boltseal.image.bulk.patterns import fits, parse_pattern
from boltseal.image.bulk.template import Template
from boltseal.spec import limits
from boltseal.spec.reference import Reference
from boltseal.transports.parse import parse_reference
from support.cli import boltseal

if TYPE_CHECKING:
    from support.bulk import Place


def pairs(raw: bytes, template: str | None = None) -> list[tuple[str, str]]:
    jobs = parse_list(raw, "list", Template(template) if template else None)
    return [(str(job.source), str(job.destination)) for job in jobs]


def test_plain_lines_and_comments() -> None:
    raw = b"\n# a comment\n\noci:a:v1   oci:b:v1\r\n\toci:a:v2\toci:b:v2  # why\n"
    assert pairs(raw) == [("oci:a:v1", "oci:b:v1"), ("oci:a:v2", "oci:b:v2")]


def test_objects_have_options_and_names_with_spaces() -> None:
    line = {
        "source": "oci:my app:v1",
        "destination": "oci:b:v1",
        "platforms": ["linux/arm64"],
        "layers": ["-1"],
        "recipients": ["jwe:x"],
    }
    (job,) = parse_list(json.dumps(line).encode(), "list")
    assert str(job.source) == "oci:my app:v1"
    assert job.recipients == ("jwe:x",)
    assert job.options == {"platforms": ["linux/arm64"], "layers": ["-1"]}


def test_a_line_may_leave_the_destination_to_the_template() -> None:
    raw = b'oci:some/app:v1\noci:a:v1 oci:b:v1\n{"source":"docker://r.example/team/x:2"}\n'
    assert pairs(raw, "docker://o.example/{repository}/{name}:{tag}") == [
        ("oci:some/app:v1", "docker://o.example/app/app:v1"),
        ("oci:a:v1", "oci:b:v1"),
        ("docker://r.example/team/x:2", "docker://o.example/team/x/x:2"),
    ]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"oci:a:v1", "no destination"),
        (b"oci:a:v1 oci:b:v1 oci:c:v1", "3 words"),
        (b"a b", "does not say where the image is"),
        (b"ftp:a oci:b", "is not a transport"),
        (b"oci-archive:- oci:b:v1", "is a pipe"),
        (b"oci:a:v1 docker-archive:/dev/stdout", "is a pipe"),
        (b"{", "not valid JSON"),
        (b'{"source":"oci:a:v1","source":"oci:b:v1"}', "twice"),
        (b'{"destination":"oci:a:v1"}', "has no source"),
        (b'{"source":1,"destination":"oci:a:v1"}', "source is not a string"),
        (b'{"source":"oci:a","destination":"oci:b","layers":"1"}', "layers is not a list"),
        (b'{"source":"oci:a","destination":"oci:b","layers":[]}', "layers is not a list"),
        (b'{"source":"oci:a","destination":"oci:b","layers":["x"]}', "x"),
        (b'{"source":"oci:a","destination":"oci:b","platforms":["x"]}', "x"),
        (b'{"source":"oci:a","destination":"oci:b","except_base":"x"}', "does not say where"),
        (b'{"source":"oci:a","destination":"oci:b","keys":["x"]}', "not a member"),
        (b"\xff", "not UTF-8"),
        (b"oci:" + b"a" * limits.MAX_REFERENCE_LENGTH + b" oci:b:v1", "over the limit"),
        (b"oci:a:v1 oci:b:v1@sha256:00", "digest"),
    ],
)
def test_lines_that_are_refused(raw: bytes, said: str) -> None:
    with pytest.raises(BoltsealError) as caught:
        as_jobs(parse_list(b"# first\n" + raw, "list"))
    assert said in str(caught.value)
    assert caught.value.where == () or caught.value.where[0] == "list"


@given(st.binary(max_size=200))
def test_any_list_is_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(UsageError, IntegrityError):
        as_jobs(parse_list(raw, "list"))


def test_lists_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boltseal.image.bulk.jobs.MAX_BULK_IMAGES", 2)
    monkeypatch.setattr("boltseal.image.bulk.jobs.MAX_BULK_LIST_BYTES", 1000)
    with pytest.raises(BoltsealError, match="limit of 2 images"):
        parse_list(b"oci:a:v1 oci:b:v1\n" * 3, "list")
    with pytest.raises(BoltsealError, match="limit of 1000 bytes"):
        parse_list(b"#" * 1001, "list")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("oci:a:v1", "oci:b:v1"), ("oci:a:v2", "oci:b:v1")),
        (("oci:a:v1", "oci:b:v1"), ("oci:a:v2", "oci:./c/../b:v1")),
        (("oci:a:v1", "docker://busybox"), ("oci:a:v2", "docker://docker.io/library/busybox")),
        (("oci:a:v1", "oci-archive:x.tar:v1"), ("oci:a:v2", "oci-archive:x.tar:v2")),
        (("oci:a:v1", "oci:b:v1"), ("oci:b:v1", "oci:c:v1")),
        (("oci:a:v1", "oci:a:v1"), ("oci:b:v1", "oci:c:v1")),
    ],
)
def test_no_two_images_get_in_each_others_way(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    for both in ((first, second), (second, first)):
        with pytest.raises(UsageError, match="destination"):
            as_jobs(both)


@pytest.mark.parametrize("text", ["oci:{host}:v1", "oci:{}:v1", "oci:{tag", "oci:tag}", "{{tag}}"])
def test_fields_that_no_template_has(text: str) -> None:
    with pytest.raises(UsageError, match="no field"):
        Template(text)


def test_a_template_cannot_fill_in_a_tag_that_is_not_there() -> None:
    source = parse_reference(f"docker://r.example/app@sha256:{'0' * 64}")
    assert str(Template("oci:x:{name}").fill(source)) == "oci:x:app"
    with pytest.raises(UsageError, match="no tag"):
        Template("oci:x:{tag}").fill(source)


@pytest.mark.parametrize("tag", ["a/../../b", "a:b", "a@b", "a//b"])
def test_names_that_somebody_else_chose_lead_nowhere_else(tag: str) -> None:
    source = Reference("oci", "place", tag)
    for template in ("oci:out/{tag}:v1", "oci:out:{tag}", "dir:{tag}"):
        with pytest.raises(UsageError, match="cannot be filled"):
            Template(template).fill(source)
    with pytest.raises(UsageError):
        Template("dir:out/{name}").fill(Reference("oci", "..", "v1"))


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("team/*", ["team/a", "team/a-b.c"], ["team", "team/a/b", "teams/a", "x/team/a"]),
        ("team/**", ["team/a", "team/a/b", "team"], ["teams", "a/team"]),
        ("**", ["a", "a/b/c"], []),
        ("**/app", ["app", "a/app", "a/b/app"], ["apps", "app/x"]),
        ("a/**/b/**/c", ["a/b/c", "a/x/b/y/z/c", "a/b/b/c"], ["a/c", "b/a/c", "a/b"]),
        ("v[12]?", ["v1x", "v2y"], ["v1", "v3x"]),
    ],
)
def test_repositories_by_pattern(glob: str, yes: list[str], no: list[str]) -> None:
    assert [one for one in (*yes, *no) if fits(one, glob)] == yes


@given(st.text("ab/*?[]!", max_size=12), st.text("ab/", max_size=24))
def test_matching_ends(glob: str, name: str) -> None:
    fits(name, glob)
    fits("a" * 255, "*a" * 40 + "b")


@pytest.mark.parametrize(
    "text",
    [
        "docker://r.example/team/app",
        "docker://r.example/team/*",
        "docker://team/*:v1",
        "docker://*.example/app:v1",
        "docker://r.example:v1",
        "docker:r.example/app:*",
        "docker://r.example/a**b:v1",
        "docker://r.example/app:v1@sha256:00",
        "docker://r.example/a b:*",
        "oci:place",
        "oci::*",
        "dir:place:*",
        "containers-storage:x:*",
    ],
)
def test_patterns_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pattern(text)


def test_a_password_in_a_pattern_is_not_repeated() -> None:
    with pytest.raises(UsageError, match="no login") as caught:
        parse_pattern("docker://me:s3cret@registry.example/team/*:*")
    assert "s3cret" not in str(caught.value)


def test_one_or_many_but_not_half_of_each(place: Place) -> None:
    place.images(1)
    place.write_list(1)
    for arguments, said in (
        (("oci:plain:v0", "--from", "list"), "SRC and DST are in the list"),
        (("oci:plain:v0", "oci:x:v0", "--from", "list"), "SRC and DST are in the list"),
        (("oci:plain:v0", "oci:x:v0", "--fail-fast"), "--fail-fast goes with --from"),
        (("oci:plain:v0", "oci:x:v0", "--journal", "j"), "--journal goes with --from"),
        (("oci:plain:v0", "oci:x:v0", "--to", "oci:x:v0"), "--to goes with --from"),
        (("oci:plain:v0", "oci:x:v0", "--dask", "x"), "--dask goes with --from"),
        (("oci:plain:v0",), "required: DST"),
        (("--from", "oci:plain:*", "--to", "oci:x:{tag}"), "--journal FILE"),
        (("--from", "oci:plain:*", "--journal", "j"), "--to"),
        (("--from", "list", "--jobs", "0"), "at least 1"),
        (("--from", "list", "--layer", "x"), "x"),
    ):
        run = boltseal("encrypt", *place.recipient, *arguments)
        assert run.code in (1, 2), arguments
        assert said in run.err
    run = boltseal("encrypt", "--from", "list")
    assert (run.code, "no recipient" in run.err) == (2, True)
    assert sorted(path.name for path in place.folder.iterdir()) == ["list", "plain"]


def test_a_list_that_is_empty_or_not_there(place: Place) -> None:
    (place.folder / "list").write_text("# nothing\n")
    assert "names no image" in place.encrypt().err
    assert "does not exist" in place.encrypt(source="other").err
    assert not list(place.folder.glob("*.journal"))
