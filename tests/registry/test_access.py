"""Credentials: where they are kept, how they are shown."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import RegistryOptions
from boltseal.errors import BoltsealError
from boltseal.transports.registry import credentials
from boltseal.transports.registry.auth import parse_challenge
from support.cli import Run, boltseal
from support.images import Layout, simple_image
from support.proxy import Fault, proxied
from support.registry import PASSWORD, USER

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Authority, Registry, TokenServer


pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return simple_image(tmp_path / "src")


def entry(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def push(source: Layout, registry: Registry, authority: Authority, *more: object) -> Run:
    target = registry.reference("access:v1")
    return boltseal("copy", source.reference(), target, "--cert-dir", authority.trusted(), *more)


# --- where logins are kept ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["run/containers/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json"],
)
def test_every_file(
    tmp_path: Path, source: Layout, basic: Registry, authority: Authority, place: str
) -> None:
    run = push(source, basic, authority)
    assert (run.code, f"log in: boltseal login {basic.host}" in run.err) == (1, True)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {basic.host: entry()}}))
    assert push(source, basic, authority).code == 0
    path.write_text(json.dumps({"auths": {basic.host: entry(password="hunter2")}}))
    run = push(source, basic, authority)
    assert run.code == 1
    assert "hunter2" not in run.err


def test_authfile_and_its_variable(
    tmp_path: Path,
    source: Layout,
    basic: Registry,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps({"auths": {f"{basic.host}/access": entry(), basic.host: entry("x")}})
    )
    assert push(source, basic, authority, "--authfile", path).code == 0
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    assert push(source, basic, authority).code == 0
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "nowhere.json"))
    run = push(source, basic, authority)
    assert (run.code, "does not exist" in run.err) == (1, True)


HELPER = """#!/bin/sh
read -r host
echo "$1 $host" >> {log}
case "$1" in
get) {answer} ;;
store) cat > /dev/null ;;
esac
"""


def helper(tmp_path: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin" / "docker-credential-test"
    path.parent.mkdir(exist_ok=True)
    log = tmp_path / "helper.log"
    path.write_text(HELPER.format(log=log, answer=answer))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return log


@pytest.mark.parametrize("kind", ["credHelpers", "credsStore"])
def test_helpers(
    tmp_path: Path,
    source: Layout,
    basic: Registry,
    authority: Authority,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = json.dumps({"ServerURL": basic.host, "Username": USER, "Secret": PASSWORD})
    log = helper(tmp_path, f"echo '{answer}'", monkeypatch)
    document = {"credHelpers": {basic.host: "test"}} if kind == "credHelpers" else {kind: "test"}
    path = tmp_path / "auth.json"
    path.write_text(json.dumps(document))
    assert push(source, basic, authority, "--authfile", path).code == 0
    assert log.read_text().splitlines()[0] == f"get {basic.host}"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("echo 'credentials not found in native keychain'; exit 1", "log in: boltseal login"),
        ("echo 'secret token is s3'; exit 1", "the credential helper test failed with code 1"),
        ("echo nonsense", "did not answer with JSON"),
        ("echo '{\"Username\":1}'", "did not answer with texts"),
    ],
)
def test_helpers_that_do_not_help(
    tmp_path: Path,
    source: Layout,
    basic: Registry,
    authority: Authority,
    answer: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper(tmp_path, answer, monkeypatch)
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"credsStore": "test"}))
    run = push(source, basic, authority, "--authfile", path)
    assert (run.code, message in run.err) == (1, True), run.err
    assert "s3" not in run.err


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "", "missing-one"])
def test_helpers_that_are_no_programs(tmp_path: Path, name: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"credHelpers": {"h.example": name}}))
    with pytest.raises(BoltsealError):
        credentials.find(RegistryOptions(auth_file=str(path)), "h.example")


def test_docker_hubs_old_names(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": entry()}}))
    found = credentials.find(RegistryOptions(auth_file=str(path)), "docker.io", "library/busybox")
    assert found == credentials.Credentials(USER, PASSWORD)
    assert PASSWORD not in repr(found)


@pytest.mark.parametrize("text", ["{", '{"auths":{"h.example":{"auth":"!"}}}', "[]"])
def test_broken_auth_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text)
    with pytest.raises(BoltsealError, match="auth file"):
        credentials.find(RegistryOptions(auth_file=str(path)), "h.example")


# --- login and logout ---------------------------------------------------------------------------


def login(
    registry: Registry,
    authority: Authority,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
    *more: object,
) -> Run:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    arguments = ("-u", USER, "--password-stdin", "--cert-dir", authority.trusted())
    return boltseal("login", registry.host, *arguments, *more)


@pytest.mark.parametrize("which", ["basic", "bearer"])
def test_login_and_logout(
    tmp_path: Path,
    source: Layout,
    authority: Authority,
    which: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    registry: Registry = request.getfixturevalue(which)
    run = login(registry, authority, "wrong", monkeypatch)
    assert run.code == 1
    assert not (tmp_path / "run" / "containers").exists()
    run = login(registry, authority, PASSWORD, monkeypatch)
    assert run.code == 0, run.err
    path = tmp_path / "run" / "containers" / "auth.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["auths"][registry.host] == entry()
    assert PASSWORD not in run.out + run.err
    assert push(source, registry, authority).code == 0
    assert boltseal("logout", registry.host).code == 0
    assert json.loads(path.read_text())["auths"] == {}
    run = boltseal("logout", registry.host)
    assert (run.code, "there is no login" in run.err) == (1, True)


def test_login_keeps_what_else_is_in_the_file(
    tmp_path: Path, basic: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {"other": entry()}, "HttpHeaders": {"X": "y"}}))
    assert login(basic, authority, PASSWORD, monkeypatch, "--authfile", path).code == 0
    document = json.loads(path.read_text())
    assert set(document["auths"]) == {"other", basic.host}
    assert document["HttpHeaders"] == {"X": "y"}


def test_login_with_a_helper(
    tmp_path: Path, basic: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = helper(tmp_path, "exit 1", monkeypatch)
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"credsStore": "test"}))
    run = login(basic, authority, PASSWORD, monkeypatch, "--authfile", path)
    assert run.code == 0, run.err
    assert PASSWORD not in path.read_text()
    assert "store" in log.read_text()


# --- tokens -------------------------------------------------------------------------------------


def test_tokens_ask_for_what_is_needed(
    source: Layout, bearer: Registry, authority: Authority, tokens: TokenServer
) -> None:
    tokens.given.clear()
    run = push(source, bearer, authority, "--creds", f"{USER}:{PASSWORD}")
    assert run.code == 0, run.err
    assert {scope for scopes in tokens.given for scope in scopes} == {"repository:access:pull,push"}
    assert len(tokens.given) == 1, "a token is used again"


def test_identity_tokens_are_exchanged(
    tmp_path: Path, source: Layout, bearer: Registry, authority: Authority, tokens: TokenServer
) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {bearer.host: {"identitytoken": tokens.refresh}}}))
    before = tokens.posts
    run = push(source, bearer, authority, "--authfile", path)
    assert run.code == 0, run.err
    assert tokens.posts > before


def test_tokens_that_end_in_the_middle_of_a_push(
    source: Layout, bearer: Registry, authority: Authority, tokens: TokenServer, monkeypatch: Any
) -> None:
    """The token server's promise is longer than its tokens."""
    monkeypatch.setattr(tokens, "life", -300)  # every token has ended when it is given
    run = push(source, bearer, authority, "--creds", f"{USER}:{PASSWORD}")
    assert run.code == 1
    assert len([line for line in run.err.splitlines() if line.startswith("error")]) == 1
    given = len(tokens.given)

    def once(*_: object) -> None:
        tokens.life = 300

    real = tokens.token

    def second_is_good(user: str | None, scopes: list[str]) -> dict[str, Any]:
        document = real(user, scopes)
        once()
        return {**document, "expires_in": 300}

    monkeypatch.setattr(tokens, "token", second_is_good)
    run = push(source, bearer, authority, "--creds", f"{USER}:{PASSWORD}")
    assert run.code == 0, run.err
    assert len(tokens.given) > given + 1


def test_wrong_credentials(source: Layout, bearer: Registry, authority: Authority) -> None:
    run = push(source, bearer, authority, "--creds", "alice:hunter2")
    assert (run.code, "does not accept the login" in run.err) == (1, True)
    assert "hunter2" not in run.err
    run = push(source, bearer, authority)
    assert (run.code, "denies" in run.err or "wants a login" in run.err) == (1, True)


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="x y"', "basic", {"realm": "x y"}),
        (
            'Bearer realm="https://a/b?c=d",service="s, t"',
            "bearer",
            {"realm": "https://a/b?c=d", "service": "s, t"},
        ),
        (r'bearer realm="a\"b" , scope=plain', "bearer", {"realm": 'a"b', "scope": "plain"}),
        ("Basic", "basic", {}),
    ],
)
def test_challenges(header: str, scheme: str, parameters: dict[str, str]) -> None:
    found = parse_challenge(header)
    assert found is not None
    assert (found.scheme, dict(found.parameters)) == (scheme, parameters)


@pytest.mark.parametrize("header", ["", "Negotiate", "Digest realm=x", "x" * 100_000])
def test_no_challenge(header: str) -> None:
    assert parse_challenge(header) is None


@pytest.mark.parametrize("realm", ["", "http://tokens.example/t", "ftp://x", "//x", "https://"])
def test_realms_that_are_refused(
    source: Layout, plain: Registry, realm: str, authority: Authority
) -> None:
    with proxied(plain) as proxy:
        proxy.faults = [
            Fault(
                "GET",
                "/v2/$",
                status=401,
                times=99,
                headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'},
            )
        ]
        run = boltseal(
            "copy", source.reference(), proxy.reference("x:v1"), "--creds", f"{USER}:{PASSWORD}"
        )
        assert run.code == 1
        assert PASSWORD not in run.err
