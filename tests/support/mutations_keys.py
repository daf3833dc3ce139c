"""Further mutations: public options and wrapped keys."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from hypothesis import assume
from hypothesis import strategies as st

from support.images import compact
from support.mutations import some, two
from support.tamper import JWE, PUBOPTS, b64, b64url

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.mutations import Draw, Place
    from support.valid import Opened


# Public options


def options(image: Opened, place: Place, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the public options of a layer as JSON."""
    document = json.loads(base64.b64decode(image.annotations(place)[PUBOPTS]))
    change(document)
    image.annotations(place)[PUBOPTS] = b64(compact(document))


def no_public_options(draw: Draw, image: Opened) -> None:
    del image.annotations(some(draw, image))[PUBOPTS]


def options_of_another_layer(draw: Draw, image: Opened) -> None:
    one, other = two(draw, image)
    image.annotations(one)[PUBOPTS] = image.annotations(other)[PUBOPTS]


def a_nonce_in_the_open(draw: Draw, image: Opened) -> None:
    nonce = b64(draw(st.binary(min_size=16, max_size=16)))
    options(image, some(draw, image), lambda one: one.update(cipheroptions={"nonce": nonce}))


def other_cipher_options(draw: Draw, image: Opened) -> None:
    found = draw(st.dictionaries(st.text(max_size=5), st.integers(), min_size=1, max_size=3))
    options(image, some(draw, image), lambda one: one.update(cipheroptions=found))


def another_cipher(draw: Draw, image: Opened) -> None:
    name = draw(
        st.sampled_from(["AES_256_CTR", "aes_256_ctr_hmac_sha256", "", None, 7])
        | st.text(max_size=20)
    )
    options(image, some(draw, image), lambda one: one.update(cipher=name))


def hmac_with_changed_byte(draw: Draw, image: Opened) -> None:
    at, bits = draw(st.integers(0, 31)), draw(st.integers(1, 255))

    def change(one: dict[str, Any]) -> None:
        raw = bytearray(base64.b64decode(one["hmac"]))
        raw[at] ^= bits
        one["hmac"] = b64(bytes(raw))

    options(image, some(draw, image), change)


def hmac_of_another_length(draw: Draw, image: Opened) -> None:
    raw = draw(st.binary(max_size=64).filter(lambda raw: len(raw) != 32))
    options(image, some(draw, image), lambda one: one.update(hmac=b64(raw)))


def no_hmac(draw: Draw, image: Opened) -> None:
    options(image, some(draw, image), lambda one: one.pop("hmac"))


def options_with_a_key_twice(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    raw = base64.b64decode(image.annotations(place)[PUBOPTS])
    member = draw(st.sampled_from([b'"cipher":"x"', b'"hmac":""', b'"cipheroptions":{}']))
    image.annotations(place)[PUBOPTS] = b64(b"{" + member + b"," + raw[1:])


def options_in_other_letters(draw: Draw, image: Opened) -> None:
    name = draw(st.sampled_from(["Cipher", "HMAC", "cipherOptions", "cipheroptionſ"]))
    options(image, some(draw, image), lambda one: one.update({name: "x"}))


def options_that_are_no_base64(draw: Draw, image: Opened) -> None:
    annotations = image.annotations(some(draw, image))
    value = annotations[PUBOPTS]
    at = draw(st.integers(0, len(value)))
    annotations[PUBOPTS] = value[:at] + draw(st.sampled_from(" \n-_%=,")) + value[at:]
    assume(annotations[PUBOPTS].rstrip("=") != value.rstrip("="))


# Wrapped keys


def no_wrapped_key(draw: Draw, image: Opened) -> None:
    del image.annotations(some(draw, image))[JWE]


def keys_of_another_layer(draw: Draw, image: Opened) -> None:
    one, other = two(draw, image)
    assume(image.secret(one) != image.secret(other))
    image.annotations(one)[JWE] = image.annotations(other)[JWE]


def annotations_of_another_layer(draw: Draw, image: Opened) -> None:
    one, other = two(draw, image)
    image.layer(one)["annotations"] = dict(image.annotations(other))


def packet_cut(draw: Draw, image: Opened) -> None:
    annotations = image.annotations(some(draw, image))
    raw = base64.b64decode(annotations[JWE])
    annotations[JWE] = b64(raw[: draw(st.integers(0, len(raw) - 1))])


def packet_with_a_changed_byte(draw: Draw, image: Opened) -> None:
    """In what is encrypted or authenticated: names in a packet are neither."""
    annotations = image.annotations(some(draw, image))
    packet = json.loads(base64.b64decode(annotations[JWE]))
    member = draw(st.sampled_from(["iv", "tag", "ciphertext", "protected"]))
    raw = bytearray(base64.urlsafe_b64decode(packet[member] + "=="))
    raw[draw(st.integers(0, len(raw) - 1))] ^= draw(st.integers(1, 255))
    packet[member] = b64url(bytes(raw))
    annotations[JWE] = b64(compact(packet))


def garbage_beside_a_packet(draw: Draw, image: Opened) -> None:
    annotations = image.annotations(some(draw, image))
    junk = b64(draw(st.binary(max_size=30)))
    ends = [annotations[JWE], junk]
    annotations[JWE] = ",".join(ends if draw(st.booleans()) else ends[::-1])


def empty_keys(draw: Draw, image: Opened) -> None:
    image.annotations(some(draw, image))[JWE] = draw(st.sampled_from(["", ",", ",,"]))


def too_many_packets(draw: Draw, image: Opened) -> None:
    image.annotations(some(draw, image))[JWE] += ",e30=" * draw(st.integers(256, 400))


def packet_of_another_scheme(draw: Draw, image: Opened) -> None:
    annotations = image.annotations(some(draw, image))
    scheme = draw(st.sampled_from(["pgp", "pkcs7", "pkcs11", "JWE", "provider.x", "jwe2"]))
    annotations[JWE.removesuffix("jwe") + scheme] = annotations.pop(JWE)


def one_more_for_one_layer(draw: Draw, image: Opened) -> None:
    """Somebody who opens one layer and no other: a mistake, or somebody let himself in."""
    assume(len(image.places(encrypted=True)) > 1)
    place = some(draw, image)
    image.annotations(place)[JWE] += "," + image.wrap(image.secret(place), "other")


def one_less_for_one_layer(draw: Draw, image: Opened) -> None:
    assume(len(image.spec.people) > 1 and len(image.places(encrypted=True)) > 1)
    place = some(draw, image)
    image.annotations(place)[JWE] = image.wrap(image.secret(place), *image.spec.people[:-1])


def for_others_alone(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    image.annotations(place)[JWE] = image.wrap(image.secret(place), "p384", "p521")


def another_nonce(draw: Draw, image: Opened) -> None:
    """The key is right, so the HMAC is; what comes out is not."""
    place = some(draw, image)
    secret = json.loads(image.secret(place))
    nonce = b64(draw(st.binary(min_size=16, max_size=16)))
    assume(nonce != secret["cipheroptions"]["nonce"])
    secret["cipheroptions"]["nonce"] = nonce
    image.annotations(place)[JWE] = image.wrap(compact(secret), *image.spec.people)


def another_key(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    secret = json.loads(image.secret(place))
    secret["symkey"] = b64(draw(st.binary(min_size=32, max_size=32)))
    image.annotations(place)[JWE] = image.wrap(compact(secret), *image.spec.people)


def a_secret_that_is_none(draw: Draw, image: Opened) -> None:
    place = some(draw, image)
    secret = json.loads(image.secret(place))
    kind = draw(st.sampled_from(["symkey", "cipheroptions"]))
    del secret[kind]
    image.annotations(place)[JWE] = image.wrap(compact(secret), *image.spec.people)


def annotation_that_is_no_text(draw: Draw, image: Opened) -> None:
    layer = image.layer(some(draw, image, encrypted=draw(st.booleans())))
    layer.setdefault("annotations", {})["x"] = draw(st.sampled_from([1, None, [], {}, True]))


KEYS: dict[str, Callable[[Draw, Opened], None]] = {
    one.__name__: one
    for one in (
        no_public_options,
        options_of_another_layer,
        a_nonce_in_the_open,
        other_cipher_options,
        another_cipher,
        hmac_with_changed_byte,
        hmac_of_another_length,
        no_hmac,
        options_with_a_key_twice,
        options_in_other_letters,
        options_that_are_no_base64,
        no_wrapped_key,
        keys_of_another_layer,
        annotations_of_another_layer,
        packet_cut,
        packet_with_a_changed_byte,
        garbage_beside_a_packet,
        empty_keys,
        too_many_packets,
        packet_of_another_scheme,
        one_more_for_one_layer,
        one_less_for_one_layer,
        for_others_alone,
        another_nonce,
        another_key,
        a_secret_that_is_none,
        annotation_that_is_no_text,
    )
}
