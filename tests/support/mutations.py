"""What can be done to a valid image so that it is none any more: layers, blobs and documents.

Each takes Hypothesis's ``draw`` and an :class:`~support.valid.Opened` image. None of them can be
harmless: it changes what an image holds, or makes one part of it contradict another.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

from hypothesis import assume
from hypothesis import strategies as st

from support.images import CONFIG, GZIP, MANIFEST, TAR, compact, sha256
from support.tamper import b64

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.valid import Opened

    Draw = Callable[[Any], Any]
    Place = tuple[int, int]

SUFFIX = "+encrypted"


def some(draw: Draw, image: Opened, *, encrypted: bool = True) -> Place:
    """A layer."""
    places = image.places(encrypted=encrypted)
    assume(places)
    place: Place = draw(st.sampled_from(places))
    return place


def two(draw: Draw, image: Opened, *, one_manifest: bool = False) -> tuple[Place, Place]:
    """Two encrypted layers with different content."""
    first = some(draw, image)
    others = [
        place
        for place in image.places(encrypted=True)
        if image.tar(place) != image.tar(first) and (not one_manifest or place[0] == first[0])
    ]
    assume(others)
    return first, draw(st.sampled_from(others))


def number(draw: Draw, image: Opened) -> int:
    """A manifest."""
    place: int = draw(st.integers(0, len(image.manifests) - 1))
    return place


# Layers of a manifest


def swap_layers(draw: Draw, image: Opened) -> None:
    one, other = two(draw, image, one_manifest=True)
    layers = image.manifests[one[0]]["layers"]
    layers[one[1]], layers[other[1]] = layers[other[1]], layers[one[1]]


def layer_of_another_place(draw: Draw, image: Opened) -> None:
    one, other = two(draw, image)
    image.manifests[one[0]]["layers"][one[1]] = dict(image.layer(other))


def duplicate_layer(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    layers = image.manifests[place[0]]["layers"]
    layers.insert(draw(st.integers(0, len(layers))), layers[place[1]])


def drop_layer(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    del image.manifests[place[0]]["layers"][place[1]]


def drop_all_layers(draw: Draw, image: Opened) -> None:
    image.manifests[number(draw, image)]["layers"] = []


def layers_of_another_image(draw: Draw, image: Opened) -> None:
    """Encrypted by a stranger for the same people, who are all that he has to know."""
    place = some(draw, image)
    plain = b"another tar" * draw(st.integers(1, 99))
    image.seal(place, plain, TAR)


def size_of_layer(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image, encrypted=draw(st.booleans())))
    layer["size"] += draw(st.integers(-layer["size"], 1 << 30).filter(bool))


def size_of_another_type(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    layer["size"] = draw(st.sampled_from([float(layer["size"]), str(layer["size"]), True, None]))


def digest_of_layer(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image, encrypted=draw(st.booleans())))
    layer["digest"] = draw(st.binary(min_size=1).map(sha256))


def digest_of_no_digest(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    layer["digest"] = layer["digest"][: -draw(st.integers(1, 63))]


def layer_is_the_config(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    config = image.manifests[place[0]]["config"]
    image.layer(place).update(digest=config["digest"], size=config["size"])


def urls_in_place_of_the_blob(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    kind = layer["mediaType"].replace(".layer.", ".layer.nondistributable.")
    layer.update(mediaType=kind, urls=["https://elsewhere.example/layer"])
    image.after.append(image.layout.blob_path(layer["digest"]).unlink)


def urls_that_are_none(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    layer["urls"] = draw(st.sampled_from(["https://x.example", {"a": 1}, [7], 5, True]))


def data_that_lies(draw: Draw, image: Opened) -> None:
    """Content in the descriptor itself that is not what its digest names."""
    place = some(draw, image)
    where = draw(st.sampled_from([image.layer(place), image.manifests[place[0]]["config"]]))
    where["data"] = b64(draw(st.binary(max_size=40)))


# Media types


def type_without_suffix(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    layer["mediaType"] = layer["mediaType"].removesuffix(SUFFIX)


def ciphertext_as_a_plain_layer(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    layer["mediaType"] = layer["mediaType"].removesuffix(SUFFIX)
    del layer["annotations"]


def plain_layer_as_encrypted(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image, encrypted=False))
    layer["mediaType"] += SUFFIX


def plain_layer_with_keys(draw: Draw, image: Opened) -> None:
    """With the annotations of another layer it still holds what it held."""
    other = image.annotations(some(draw, image))
    layer = image.layer(some(draw, image, encrypted=False))
    layer.update(mediaType=layer["mediaType"] + SUFFIX, annotations=dict(other))


def suffix_in_other_letters(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image))
    suffix = draw(st.sampled_from(["+Encrypted", "+ENCRYPTED", "+encrypteD"]))
    layer["mediaType"] = layer["mediaType"].removesuffix(SUFFIX) + suffix


def type_that_nobody_knows(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image, encrypted=draw(st.booleans())))
    name = draw(st.from_regex(r"[a-z]{1,9}/x-[a-z]{1,9}", fullmatch=True))
    suffix = SUFFIX if layer["mediaType"].endswith(SUFFIX) else ""
    layer["mediaType"] = name + suffix


def type_of_another_compression(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image, encrypted=draw(st.booleans())))
    suffix = SUFFIX if layer["mediaType"].endswith(SUFFIX) else ""
    plain = layer["mediaType"].removesuffix(SUFFIX)
    others = {TAR, GZIP, f"{TAR}+zstd"} - {plain}
    layer["mediaType"] = draw(st.sampled_from(sorted(others))) + suffix


# Blobs, with digests and sizes that fit


def blob_with_changed_byte(draw: Draw, image: Opened) -> None:
    place = some(draw, image, encrypted=draw(st.booleans()))
    raw = bytearray(image.blob(place))
    raw[draw(st.integers(0, len(raw) - 1))] ^= draw(st.integers(1, 255))
    assume(not _is_gzip_header(bytes(raw), image.blob(place)))
    image.set_blob(place, bytes(raw))


def _is_gzip_header(changed: bytes, before: bytes) -> bool:
    """A readable layer whose gzip header says another time or system holds what it held."""
    try:
        return gzip.decompress(changed) == gzip.decompress(before)
    except (OSError, EOFError, zlib.error):
        return False


def blob_cut(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    raw = image.blob(place)
    image.set_blob(place, raw[: draw(st.integers(0, len(raw) - 1))])


def blob_extended(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    image.set_blob(place, image.blob(place) + draw(st.binary(min_size=1, max_size=64)))


def blob_blocks_swapped(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    raw = image.blob(place)
    at = draw(st.integers(16, len(raw) - 17))
    assume(raw[at:] + raw[:at] != raw)
    image.set_blob(place, raw[at:] + raw[:at])


def trailing_bytes_behind_the_compression(draw: Draw, image: Opened) -> None:
    """Well encrypted, with the right content, and something behind it that readers treat apart."""
    place = some(draw, image)
    tail = draw(st.binary(min_size=1, max_size=40).filter(lambda raw: raw.strip(b"\0")))
    image.seal(place, gzip.compress(image.tar(place), mtime=0) + b"\x01" + tail, GZIP)


def compression_cut(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    raw = gzip.compress(image.tar(place), mtime=0)
    image.seal(place, raw[: draw(st.integers(1, len(raw) - 1))], GZIP)


# Blobs on disk, under names that are not theirs any more


def blob_on_disk_changed(draw: Draw, image: Opened) -> None:
    place = some(draw, image, encrypted=draw(st.booleans()))
    path = image.layout.blob_path(image.layer(place)["digest"])
    raw = bytearray(path.read_bytes())
    raw[draw(st.integers(0, len(raw) - 1))] ^= draw(st.integers(1, 255))
    image.after.append(lambda: path.write_bytes(raw))


def blob_on_disk_cut(draw: Draw, image: Opened) -> None:
    path = image.layout.blob_path(image.layer(some(draw, image))["digest"])
    raw = path.read_bytes()
    left = raw[: draw(st.integers(0, len(raw) - 1))]
    image.after.append(lambda: path.write_bytes(left))


def blob_on_disk_extended(draw: Draw, image: Opened) -> None:
    path = image.layout.blob_path(image.layer(some(draw, image))["digest"])
    more = path.read_bytes() + draw(st.binary(min_size=1, max_size=40))
    image.after.append(lambda: path.write_bytes(more))


def blob_missing(draw: Draw, image: Opened) -> None:
    place = some(draw, image, encrypted=draw(st.booleans()))
    image.after.append(image.layout.blob_path(image.layer(place)["digest"]).unlink)


def config_on_disk_changed(draw: Draw, image: Opened) -> None:
    which = number(draw, image)

    def change() -> None:
        path = image.layout.blob_path(image.manifests[which]["config"]["digest"])
        raw = bytearray(path.read_bytes())
        raw[at % len(raw)] ^= bits
        path.write_bytes(raw)

    at, bits = draw(st.integers(0, 9999)), draw(st.integers(1, 255))
    image.after.append(change)


# Plaintext beside it


def twin_as_a_blob(draw: Draw, image: Opened) -> None:
    """The layer as it was compressed before."""
    from support.images import compress
    from support.valid import TYPES

    place = some(draw, image)
    _, kind = image.spec.platforms[place[0]][place[1]]
    image.layout.blob(compress(image.tar(place), TYPES[kind]))


def twin_without_compression(draw: Draw, image: Opened) -> None:
    image.layout.blob(image.tar(some(draw, image)))


def twin_as_a_layer(draw: Draw, image: Opened) -> None:
    """The content once more as a readable layer on top, which the config knows of."""
    place = some(draw, image)
    which = number(draw, image)
    raw = gzip.compress(image.tar(place), 1, mtime=draw(st.integers(1, 1 << 31)))
    digest, size = image.layout.blob(raw)
    image.manifests[which]["layers"].append({"mediaType": GZIP, "digest": digest, "size": size})
    image.configs[which]["rootfs"]["diff_ids"].append(sha256(image.tar(place)))


def twin_in_an_image_beside_it(draw: Draw, image: Opened) -> None:
    """In an image of its own, that the same index has."""
    assume(image.index is not None)
    place = some(draw, image)
    tar = image.tar(place)
    layer = image.layout.blob(gzip.compress(tar, 1, mtime=7))
    config = image.layout.blob(
        compact({"os": "linux", "architecture": "x", "rootfs": {"diff_ids": [sha256(tar)]}})
    )
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": CONFIG, "digest": config[0], "size": config[1]},
        "layers": [{"mediaType": GZIP, "digest": layer[0], "size": layer[1]}],
    }
    digest, size = image.layout.blob(compact(manifest))
    assert image.index is not None
    # behind those that save() writes
    image.index["manifests"] = [
        *image.entries,
        {"mediaType": MANIFEST, "digest": digest, "size": size},
    ]


LAYERS: dict[str, Callable[[Draw, Opened], None]] = {
    one.__name__: one
    for one in (
        swap_layers,
        layer_of_another_place,
        duplicate_layer,
        drop_layer,
        drop_all_layers,
        layers_of_another_image,
        size_of_layer,
        size_of_another_type,
        digest_of_layer,
        digest_of_no_digest,
        layer_is_the_config,
        urls_in_place_of_the_blob,
        urls_that_are_none,
        data_that_lies,
        type_without_suffix,
        ciphertext_as_a_plain_layer,
        plain_layer_as_encrypted,
        plain_layer_with_keys,
        suffix_in_other_letters,
        type_that_nobody_knows,
        type_of_another_compression,
        blob_with_changed_byte,
        blob_cut,
        blob_extended,
        blob_blocks_swapped,
        trailing_bytes_behind_the_compression,
        compression_cut,
        blob_on_disk_changed,
        blob_on_disk_cut,
        blob_on_disk_extended,
        blob_missing,
        config_on_disk_changed,
        twin_as_a_blob,
        twin_without_compression,
        twin_as_a_layer,
        twin_in_an_image_beside_it,
    )
}
