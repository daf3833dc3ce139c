"""Further mutations: the JSON of manifests, configs and indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import assume
from hypothesis import strategies as st

from support.images import INDEX, MANIFEST, sha256
from support.mutations import number, some

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.mutations import Draw
    from support.valid import Opened


def diff_ids_in_another_order(draw: Draw, image: Opened) -> None:
    diff_ids = image.configs[number(draw, image)]["rootfs"]["diff_ids"]
    changed = draw(st.permutations(diff_ids))
    assume(changed != diff_ids)
    diff_ids[:] = changed


def another_diff_id(draw: Draw, image: Opened) -> None:
    diff_ids = image.configs[number(draw, image)]["rootfs"]["diff_ids"]
    at = draw(st.integers(0, len(diff_ids) - 1))
    diff_ids[at] = draw(st.sampled_from([None, 7, "", diff_ids[at][:-1], sha256(b"other")]))


def more_or_fewer_diff_ids(draw: Draw, image: Opened) -> None:
    diff_ids = image.configs[number(draw, image)]["rootfs"]["diff_ids"]
    if draw(st.booleans()):
        diff_ids.pop(draw(st.integers(0, len(diff_ids) - 1)))
    else:
        diff_ids.insert(draw(st.integers(0, len(diff_ids))), sha256(b"more"))


def no_rootfs(draw: Draw, image: Opened) -> None:
    config = image.configs[number(draw, image)]
    config["rootfs"] = draw(st.sampled_from([None, {}, [], {"diff_ids": {}}, "x"]))


def config_in_other_letters(draw: Draw, image: Opened) -> None:
    config = image.configs[number(draw, image)]
    config[draw(st.sampled_from(["Rootfs", "OS", "Architecture", "rootfſ"]))] = {}


def config_of_another_type(draw: Draw, image: Opened) -> None:
    """What is called no image's config has no diff ids to be compared with."""
    config = image.manifests[number(draw, image)]["config"]
    name = draw(st.from_regex(r"application/vnd\.[a-z]{1,9}\.config", fullmatch=True))
    config["mediaType"] = name


def config_size_or_digest(draw: Draw, image: Opened) -> None:
    config = image.manifests[number(draw, image)]["config"]
    image.lie(
        config,
        **draw(
            st.sampled_from(
                [{"size": 0}, {"size": 1 << 20}, {"size": -1}, {"digest": sha256(b"other")}]
            )
        ),
    )


def another_platform(draw: Draw, image: Opened) -> None:
    """Of the index, or of the config below it."""
    assume(image.index is not None)
    which = number(draw, image)
    name = draw(st.sampled_from(["riscv64", "386", "mips"]))
    at_index = draw(st.booleans())
    where = image.entries[which]["platform"] if at_index else image.configs[which]
    where[draw(st.sampled_from(["architecture", "os"]))] = name


def platforms_swapped(draw: Draw, image: Opened) -> None:
    assume(len(image.entries) > 1)
    one, other = image.entries[0], image.entries[1]
    one["platform"], other["platform"] = other["platform"], one["platform"]


def called_an_attestation(draw: Draw, image: Opened) -> None:
    assume(image.index is not None)
    entry = image.entries[number(draw, image)]
    entry["platform"] = {"os": "unknown", "architecture": "unknown"}
    entry["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}


def platform_that_is_none(draw: Draw, image: Opened) -> None:
    assume(image.index is not None)
    entry = image.entries[number(draw, image)]
    entry["platform"] = draw(
        st.sampled_from(["linux/amd64", [], {"os": 5}, {"os": "x" * 200, "architecture": "y"}])
    )


def manifest_size_or_digest(draw: Draw, image: Opened) -> None:
    entry = image.entries[number(draw, image)]
    image.lie(entry, **draw(st.sampled_from([{"size": 5}, {"digest": sha256(b"other")}])))


def manifest_of_another_type(draw: Draw, image: Opened) -> None:
    manifest = image.manifests[number(draw, image)]
    manifest["mediaType"] = draw(st.sampled_from([INDEX, None, "", "application/json", 2]))


def manifest_as_an_index(draw: Draw, image: Opened) -> None:
    image.entries[number(draw, image)]["mediaType"] = INDEX


def two_documents_in_one(draw: Draw, image: Opened) -> None:
    manifest = image.manifests[number(draw, image)]
    manifest[draw(st.sampled_from(["manifests", "fsLayers"]))] = []


def schema_version(draw: Draw, image: Opened) -> None:
    wrong = draw(st.sampled_from([1, 3, None, "2", 0]))
    image.manifests[number(draw, image)]["schemaVersion"] = wrong


def subject_that_is_none(draw: Draw, image: Opened) -> None:
    wrong = st.sampled_from(["x", 7, [], {}, {"mediaType": MANIFEST, "size": 5, "digest": "x"}])
    image.manifests[number(draw, image)]["subject"] = draw(wrong)


def members_in_other_letters(draw: Draw, image: Opened) -> None:
    """Go's parser takes the last one, whatever its letters."""
    place = some(draw, image)
    manifest, layer = image.manifests[place[0]], image.layer(place)
    where, name = draw(
        st.sampled_from(
            [(manifest, "Layers"), (manifest, "CONFIG"), (manifest, "Subject"),
             (layer, "Annotations"), (layer, "Digest"), (layer, "mediatype"), (layer, "ſize")]
        )
    )  # fmt: skip
    where[name] = draw(st.sampled_from([[], {}, "", None]))


def raw(draw: Draw, image: Opened, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a document, and name it by its new digest."""
    kinds = ["manifest", "config"] + (["index"] if image.index is not None else [])
    kind = draw(st.sampled_from(kinds))
    which = 0 if kind == "index" else number(draw, image)
    image.rewrite[kind, which] = change


def a_member_twice(draw: Draw, image: Opened) -> None:
    member = draw(st.sampled_from([b'"x":1,"x":2', b'"a":{"y":1,"y":1}']))
    raw(draw, image, lambda text: b"{" + member + b"," + text[1:])


def something_behind_the_document(draw: Draw, image: Opened) -> None:
    tail = draw(st.sampled_from([b"{}", b",", b"x", b"\0", b"[]", b"null"]))
    raw(draw, image, lambda text: text + tail)


def a_document_cut(draw: Draw, image: Opened) -> None:
    count = draw(st.integers(1, 60))
    raw(draw, image, lambda text: text[:-count])


def another_encoding(draw: Draw, image: Opened) -> None:
    name = draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"]))
    raw(draw, image, lambda text: text.decode().encode(name))


def numbers_that_json_has_not(draw: Draw, image: Opened) -> None:
    value = draw(st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"01", b"1e999"]))
    raw(draw, image, lambda text: b'{"n":' + value + b"," + text[1:])


def nested_too_deep(draw: Draw, image: Opened) -> None:
    depth = draw(st.integers(70, 500))
    raw(draw, image, lambda text: b'{"n":' + b"[" * depth + b"]" * depth + b"," + text[1:])


DOCUMENTS: dict[str, Callable[[Draw, Opened], None]] = {
    one.__name__: one
    for one in (
        diff_ids_in_another_order,
        another_diff_id,
        more_or_fewer_diff_ids,
        no_rootfs,
        config_in_other_letters,
        config_of_another_type,
        config_size_or_digest,
        another_platform,
        platforms_swapped,
        called_an_attestation,
        platform_that_is_none,
        manifest_size_or_digest,
        manifest_of_another_type,
        manifest_as_an_index,
        two_documents_in_one,
        schema_version,
        subject_that_is_none,
        members_in_other_letters,
        a_member_twice,
        something_behind_the_document,
        a_document_cut,
        another_encoding,
        numbers_that_json_has_not,
        nested_too_deep,
    )
}
