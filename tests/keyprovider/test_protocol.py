"""The documents of the protocol, as others write and read them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keyprovider_server import question
from boltseal.keywrap.keyprovider import protocol
from support.provider_messages import SECRET, UNWRAP, WRAP


def test_a_request_to_wrap_from_skopeo() -> None:
    asked = question.parse(WRAP)
    assert (asked.operation, asked.data, asked.shape) == ("keywrap", SECRET, "text")
    assert asked.mine("acme") == ["one", "Enabled"]
    assert asked.mine("other") == ["x"]
    assert "pubkeys" not in asked.parameters
    with pytest.raises(
        MalformedError, match="for several providers, and this one does not know its name"
    ):
        asked.mine(None)
    with pytest.raises(MalformedError, match="no parameters for the provider nobody"):
        asked.mine("nobody")


def test_a_request_to_unwrap_from_skopeo() -> None:
    asked = question.parse(UNWRAP)
    assert (asked.operation, asked.data, asked.shape) == ("keyunwrap", SECRET, "text")
    assert asked.parameters == {}  # it has private keys in it, which are nobody's business


def test_no_secret_in_the_text_of_a_request() -> None:
    assert "NqGEai" not in repr(question.parse(WRAP))


def test_ours_differ_from_skopeos_in_what_they_leave_out() -> None:
    theirs = json.loads(WRAP)
    for name in ("other", "pubkeys"):
        del theirs["keywrapparams"]["ec"]["Parameters"][name]
    assert protocol.wrap_question("acme", ["one", "Enabled"], SECRET) == _compact(theirs)
    theirs = json.loads(UNWRAP)
    for name in ("privkeys", "privkeys-passwords"):
        del theirs["keyunwrapparams"]["dc"]["Parameters"][name]
    assert protocol.unwrap_question("acme", ["abc"], SECRET) == _compact(theirs)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"keywrapresults":{"annotation":"b2s="}}',
        b'{"keywrapresults":{"annotation":[111,107]}}',
        b'{"keywrapresults":{"annotation":"b2s="},"keyunwrapresults":{"optsdata":null}}',  # Go
        b'{"keywrapresults":{"annotation":[111,107]},"keyunwrapresults":null,"more":1}\n',
    ],
)
def test_answers(answer: bytes) -> None:
    assert protocol.read_answer(answer, protocol.WRAP) == b"ok"


@pytest.mark.parametrize("shape", ["text", "numbers"])
@pytest.mark.parametrize("operation", [protocol.WRAP, protocol.UNWRAP])
def test_our_answers_are_read_by_us(operation: str, shape: Any) -> None:
    raw = protocol.write_answer(operation, bytes(range(256)), shape)
    assert protocol.read_answer(raw, operation) == bytes(range(256))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "not valid JSON"),
        (b"null", "not a JSON object"),
        (b"{}", "has no keywrapresults"),
        (b'{"keyunwrapresults":{"optsdata":"b2s="}}', "has no keywrapresults"),
        (b'{"KeyWrapResults":{"annotation":"b2s="}}', "other readers take for another"),
        (b'{"keywrapresults":{"Annotation":"b2s="}}', "other readers take for another"),
        (b'{"keywrapresults":"b2s="}', "is not an object"),
        (b'{"keywrapresults":{}}', "neither base64 text nor an array"),
        (b'{"keywrapresults":{"annotation":true}}', "neither base64 text nor an array"),
        (b'{"keywrapresults":{"annotation":""}}', "is empty"),
        (b'{"keywrapresults":{"annotation":[]}}', "is empty"),
        (b'{"keywrapresults":{"annotation":"b2s"}}', "is not base64"),
        (b'{"keywrapresults":{"annotation":"b2s=\\n"}}', "base64"),
        (b'{"keywrapresults":{"annotation":[256]}}', "numbers from 0 to 255"),
        (b'{"keywrapresults":{"annotation":[-1]}}', "numbers from 0 to 255"),
        (b'{"keywrapresults":{"annotation":[1.0]}}', "numbers from 0 to 255"),
        (b'{"keywrapresults":{"annotation":[true]}}', "numbers from 0 to 255"),
        (b'{"keywrapresults":{"annotation":"YQ==","annotation":"Yg=="}}', "twice"),
    ],
)
def test_answers_that_are_none(answer: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        protocol.read_answer(answer, protocol.WRAP)


@pytest.mark.parametrize("shape", ["text", "numbers"])
def test_bounds_of_answers(shape: Any) -> None:
    for operation, most in (
        (protocol.WRAP, protocol.MAX_PACKET_BYTES),
        (protocol.UNWRAP, protocol.MAX_SECRET_BYTES),
    ):
        largest = protocol.write_answer(operation, b"\x09" * most, shape)
        assert len(protocol.read_answer(largest, operation)) == most
        with pytest.raises(LimitExceededError, match=f"limit of {most}"):
            protocol.read_answer(
                protocol.write_answer(operation, bytes(most + 1), shape), operation
            )
    with pytest.raises(LimitExceededError):
        protocol.read_answer(b" " * (protocol.MAX_MESSAGE_BYTES + 1), protocol.WRAP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "keysteal"}, "neither keywrap nor keyunwrap"),
        ({"op": ["keywrap"]}, "neither keywrap nor keyunwrap"),
        ({"OP": "keyunwrap"}, "other readers"),
        ({"keywrapparams": None}, "is not an object"),
        ({"keywrapparams": {"ec": {"Parameters": {}}, "optsdata": None}}, "neither base64"),
        ({"keywrapparams": {"ec": {"Parameters": {}}, "optsdata": ""}}, "is empty"),
        ({"keywrapparams": {"ec": None, "optsdata": "YQ=="}}, "ec is not an object"),
        ({"keywrapparams": {"ec": {}, "optsdata": "YQ=="}}, "parameters is not an object"),
        ({"keywrapparams": {"ec": {"Parameters": {"a": None}}, "optsdata": "YQ=="}}, "not a list"),
        ({"keywrapparams": {"ec": {"Parameters": {"a": [1]}}, "optsdata": "YQ=="}}, "neither"),
        ({"keywrapparams": {"ec": {"Parameters": {"a": ["/w=="]}}, "optsdata": "YQ=="}}, "UTF-8"),
        (
            {"keywrapparams": {"ec": {"Parameters": {}}, "optsdata": "YQ==", "EC": 1}},
            "other readers",
        ),
    ],
)
def test_requests_that_are_none(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        question.parse(json.dumps(json.loads(WRAP) | change).encode())


def test_bounds_of_requests() -> None:
    for parameters in ({"a": ["YQ=="] * 257}, {f"a{n}": [] for n in range(257)}):
        request = {"ec": {"Parameters": parameters}, "optsdata": "YQ=="}
        with pytest.raises(LimitExceededError, match="256"):
            question.parse(json.dumps(json.loads(WRAP) | {"keywrapparams": request}).encode())


@given(st.binary(max_size=400))
def test_noise_is_no_request(raw: bytes) -> None:
    with pytest.raises(IntegrityError):
        question.parse(raw)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["op", "keywrapparams", "ec", "Parameters", "optsdata", "acme", "dc"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, _JSON)
def test_nothing_but_our_errors(one: Any, other: Any) -> None:
    for document in (
        {"op": "keywrap", "keywrapparams": one},
        {"op": "keyunwrap", "keyunwrapparams": other},
        {"op": "keywrap", "keywrapparams": {"ec": {"Parameters": one}, "optsdata": "YQ=="}},
    ):
        with suppress(IntegrityError):
            question.parse(_compact(document)).mine(None)
    for operation in (protocol.WRAP, protocol.UNWRAP):
        for answer in ({"keywrapresults": one}, {"keyunwrapresults": {"optsdata": other}}):
            with suppress(IntegrityError):
                assert protocol.read_answer(_compact(answer), operation)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
