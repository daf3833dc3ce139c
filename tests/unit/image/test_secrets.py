"""Likely secrets are found by form and by name; what common images have is none."""

from __future__ import annotations

import base64
import json
import re
import string
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.image import secret_forms
from boltseal.image.secret_names import is_secret
from boltseal.image.secret_search import search
from support import official
from support.configs import ALPHANUMERIC, made_up

UPPER = string.ascii_uppercase
HEX = "0123456789abcdef"
BASE32 = UPPER + "234567"
SECRET = made_up(24)


@pytest.mark.parametrize("name", official.ALL)
def test_common_images_have_none(name: str) -> None:
    assert list(search(official.ALL[name])) == []


def token(start: str, length: int, alphabet: str = ALPHANUMERIC) -> str:
    return start + made_up(length, alphabet)


JWT = ".".join(
    base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")
    for part in ('{"alg":"HS256"}', '{"sub":"somebody","iat":1}', made_up(32))
)
FORMS = {
    "AWS access key": token("AKIA", 16, BASE32),
    "GitHub token": token("ghp_", 36),
    "GitLab token": token("glpat-", 20),
    "Slack token": token("xoxb-", 40, string.digits + "-" + string.ascii_letters),
    "Slack webhook": token("https://hooks.slack.com/services/T", 40),
    "Stripe key": token("sk_live_", 24),
    "npm token": token("npm_", 36),
    "PyPI token": token("pypi-AgEIcHlwaS5vcmc", 80),
    "Google API key": token("AIza", 35),
    "Google OAuth secret": token("GOCSPX-", 28),
    "Docker Hub token": token("dckr_pat_", 27),
    "Hugging Face token": token("hf_", 34),
    "AI service key": token("sk-proj-", 40),
    "DigitalOcean token": token("dop_v1_", 64, HEX),
    "SendGrid key": token("SG.", 22) + token(".", 43),
    "Shopify token": token("shpat_", 32, HEX),
    "Grafana token": token("glsa_", 32) + "_" + made_up(8, HEX),
    "Databricks token": token("dapi", 32, HEX),
    "Vault token": token("hvs.", 24),
    "age secret key": token("AGE-SECRET-KEY-1", 58, UPPER + string.digits),
    "JSON web token": JWT,
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----\nMII",
    "storage account key": token("EndpointSuffix=x;AccountKey=", 86) + "==",
    "password in a URL": f"postgres://app:{SECRET}@db.example/app",
    "authorization header": f"curl -H 'Authorization: Bearer {SECRET}' https://x.example",
}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(
    "place",
    [
        lambda text: {"config": {"Env": [f"SOMETHING={text}"]}},
        lambda text: {"config": {"Labels": {"org.example.note": f"see {text} there"}}},
        lambda text: {"history": [{"created_by": f"RUN /bin/sh -c echo {text} # buildkit"}]},
        lambda text: {"author": text},
        lambda text: {"unknown": [[{"deep": text}]]},
    ],
)
def test_known_forms_are_found_anywhere(kind: str, place: Any) -> None:
    found = list(search(place(FORMS[kind])))
    assert kind in {one.kind for one in found}
    assert_untold(found, FORMS[kind])


def assert_untold(found: list[Any], secret: str) -> None:
    assert found
    told = "".join(one.place + one.name + one.kind for one in found)
    assert secret not in told
    assert secret[-12:] not in told


NAMED: list[tuple[dict[str, Any], str, str]] = [
    ({"config": {"Env": [f"DB_PASSWORD={SECRET}"]}}, "config.Env[0]", "DB_PASSWORD"),
    ({"config": {"Env": [f"PGPASSWORD={SECRET}"]}}, "config.Env[0]", "PGPASSWORD"),
    ({"config": {"Env": ["A=b", "dbPassword=p&ss; word"]}}, "config.Env[1]", "dbPassword"),
    ({"config": {"Env": [f"AWS_SECRET_ACCESS_KEY={made_up(40)}"]}}, "config.Env[0]",
     "AWS_SECRET_ACCESS_KEY"),
    ({"Config": {"env": [f"COOKIE_KEY={made_up(32)}"]}}, "Config.env[0]", "COOKIE_KEY"),
    ({"config": {"Env": [f"JAVA_OPTS=-Xmx1g -Dssl.password={SECRET}"]}}, "config.Env[0]",
     "Dssl.password"),
    ({"config": {"Labels": {"com.example.api-key": SECRET}}},
     "config.Labels.com.example.api-key", ""),
    ({"config": {"Cmd": ["serve", "--password", SECRET]}}, "config.Cmd[2]", ""),
    ({"config": {"Cmd": ["serve", f"--admin-token={SECRET}"]}}, "config.Cmd[1]", "admin-token"),
    ({"config": {"Healthcheck": {"Test": ["CMD-SHELL", f"probe --token {SECRET}"]}}},
     "config.Healthcheck.Test[1]", "token"),
    ({"history": [{"created_by": f"|1 NPM_TOKEN={SECRET} /bin/sh -c npm ci"}]},
     "history[0].created_by", "NPM_TOKEN"),
    ({"history": [{}, {"comment": f"ENV API_TOKEN {SECRET}"}]}, "history[1].comment", "API_TOKEN"),
    ({"history": [{"created_by": f"RUN sh -c 'export TOKEN={SECRET}; make'"}]},
     "history[0].created_by", "TOKEN"),
    ({"config": {"Env": [f"SQL=Server=db;User Id=sa;Password={SECRET};"]}}, "config.Env[0]",
     "Password"),
    ({"config": {"Env": [f'CONFIG={{"clientSecret": "{SECRET}"}}']}}, "config.Env[0]",
     "clientSecret"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "place", "name"), NAMED)
def test_names_that_say_so(document: dict[str, Any], place: str, name: str) -> None:
    found = list(search(document))
    assert [(one.place, one.name) for one in found] == [(place, name)]
    assert_untold(found, SECRET)


def test_a_build_argument_is_called_one() -> None:
    text = f"|2 A=b TOKEN={SECRET} /bin/sh -c true"
    assert [one.kind for one in search({"history": [{"created_by": text}]})] == ["a build argument"]


def test_logins_of_registries() -> None:
    login = base64.b64encode(f"user:{SECRET}".encode()).decode()
    text = json.dumps({"auths": {"registry.example": {"auth": login}}})
    found = list(search({"config": {"Env": [f"DOCKER_AUTH_CONFIG={text}"]}}))
    assert [one.kind for one in found] == ["registry login"]


def test_what_buildkit_packs_is_looked_into() -> None:
    info = json.dumps({"attrs": {"build-arg:NPM_TOKEN": SECRET}}).encode()
    found = list(search({"moby.buildkit.buildinfo.v1": base64.b64encode(info).decode()}))
    assert [one.place for one in found] == ["moby.buildkit.buildinfo.v1.attrs.build-arg:NPM_TOKEN"]


def test_a_member_that_is_itself_a_secret_is_not_told() -> None:
    found = list(search({"config": {"Labels": {FORMS["GitHub token"]: "x"}}}))
    assert [(one.place, one.kind) for one in found] == [("config.Labels.…", "GitHub token")]


def test_a_variable_that_is_itself_a_secret_is_found_and_not_told() -> None:
    secret = FORMS["GitHub token"]
    for text in (secret, f"{secret}=", f"{secret}={FORMS['AWS access key']}"):
        found = list(search({"config": {"Env": [text]}}))
        assert "GitHub token" in {one.kind for one in found}
        assert_untold(found, secret)


@pytest.mark.parametrize("kind", secret_forms._FORMS)
def test_no_form_is_passed_over_by_the_look_that_comes_first(kind: str) -> None:
    pattern = re.compile(secret_forms._FORMS[kind])

    @settings(max_examples=20)
    @given(st.from_regex(pattern))
    def check(text: str) -> None:
        assert secret_forms._hint().search(text)

    check()


@pytest.mark.parametrize(
    "inside", [[1] * 50_000, [""] * 50_000, {str(n): 0 for n in range(50_000)}]
)
def test_places_of_a_hostile_document_are_not_all_in_memory(inside: Any) -> None:
    document = inside
    for number in range(50):
        document = {f"{number}" * 40: document}
    tracemalloc.start()
    try:
        assert list(search(document)) == []
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_searched(name: str, value: str) -> None:
    document = {"config": {"Env": [f"{name}={value}", value], "Labels": {name: value}}, name: name}
    for one in search(document):
        assert one.place
        assert one.kind


@given(
    st.sampled_from(["DB_PASSWORD", "apiToken", "CLIENT_SECRET"]), st.text(ALPHANUMERIC, min_size=9)
)
def test_a_name_that_says_so_is_enough(name: str, value: str) -> None:
    plain = len(set(value)) == 1 or value.lower().startswith(("your", "insert", "example", "xxx"))
    assert plain or is_secret(name, f"9{value}")


@pytest.mark.parametrize(
    "piece",
    ["eyJ", "eyJa.", "://a:", 'a="', "a='b=\"", "A_", '"a":', "--a ", "-----B", 'X_TOKEN="a=', "/"],
)
def test_what_a_hostile_text_costs_grows_with_its_length_alone(piece: str) -> None:
    """Quadratic work on so many characters would end the test run's time limit."""
    text = piece * (300_000 // len(piece))
    document = {"history": [{"created_by": text}], "config": {"Env": [text]}}
    assert len(list(search(document))) < 100
