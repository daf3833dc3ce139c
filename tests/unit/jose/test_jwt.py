"""Signed tokens: whatever is read, it is a result or the one clean error."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.jose import jwt
from support.broker_identity import NOW, Signer, b64, claims, key_set

EC = Signer("ec", place=1)
KEYS = jwt.parse_key_set(json.dumps(key_set(EC)).encode())
GOOD = EC.token(claims())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def read(text: str, *, now: int = NOW) -> jwt.Token | None:
    try:
        token = jwt.parse(text)
        jwt.verify(token, KEYS, jwt.ALGORITHMS)
        jwt.check_times(token.claims, now)
    except jwt.TokenError as error:
        problem: str | None = str(error)
    else:
        problem = None
    if problem is not None:
        assert GOOD.split(".")[1] not in problem
        return None
    return token


def test_a_good_token() -> None:
    token = read(GOOD)
    assert token is not None
    assert token.claims["sub"] == "job-1"
    assert "job-1" not in repr(token)


@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,60}\.[\w-]{0,60}\.[\w-]{0,60}"))
@settings(max_examples=150, deadline=None)
def test_any_text(text: str) -> None:
    assert read(text) is None


@given(st.lists(st.binary(max_size=60), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_any_three_parts(parts: list[bytes]) -> None:
    assert read(".".join(b64(one) for one in parts)) is None


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "x"]), VALUES, max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_header(header: dict[str, Any]) -> None:
    whole = {"alg": "ES256", "kid": "ec", "typ": "JWT", **header}
    token = read(EC.token(claims(), header=json.dumps(whole).encode()))
    if token is not None:
        assert (token.algorithm, token.kid, "crit" in whole) == ("ES256", "ec", False)


@given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat"]), VALUES, max_size=3))
@settings(max_examples=100, deadline=None)
def test_any_times(changed: dict[str, Any]) -> None:
    token = read(EC.token({**claims(), **changed}))
    if token is not None:
        assert token.claims["exp"] > NOW
        assert token.claims.get("nbf", 0) < NOW + 1


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("AZaz09-_.= "))
@settings(max_examples=100, deadline=None)
def test_a_changed_letter(place: int, letter: str) -> None:
    changed = GOOD[:place] + letter + GOOD[place + 1 :]
    assert (read(changed) is not None) is (changed == GOOD)


@given(VALUES | st.fixed_dictionaries({"keys": st.lists(VALUES, max_size=3)}))
@settings(max_examples=100, deadline=None)
def test_any_set_of_keys(value: Any) -> None:
    raw = json.dumps(value).encode()
    try:
        assert isinstance(jwt.parse_key_set(raw), dict)
    except jwt.TokenError:
        pass


@given(st.sampled_from(["kty", "crv", "x", "y", "kid", "use", "alg", "n", "e", "key_ops"]), VALUES)
@settings(max_examples=100, deadline=None)
def test_any_member_of_a_key(name: str, value: Any) -> None:
    raw = json.dumps({"keys": [{**EC.jwk, name: value}]}).encode()
    try:
        found = jwt.parse_key_set(raw)
    except jwt.TokenError:
        return
    assert all(set(key.algorithms) <= set(jwt.ALGORITHMS) for key in found.values())


def test_limits() -> None:
    with pytest.raises(jwt.TokenError, match="over the limit of 16384"):
        jwt.parse("a" * 16385)
    with pytest.raises(jwt.TokenError, match="over the limit of 262144"):
        jwt.parse_key_set(b" " * 262145)
    deep = base64.urlsafe_b64encode(b"[" * 3000).rstrip(b"=").decode()
    with pytest.raises(jwt.TokenError, match="not one strict JSON object"):
        jwt.parse(f"{deep}.{deep}.AA")
