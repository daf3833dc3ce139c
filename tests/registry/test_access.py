"""Credentials, certificates and registries.conf."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import RegistryOptions
from boltseal.errors import BoltsealError, RegistryError, UsageError
from boltseal.spec.reference import parse_registry_reference
from boltseal.transports.registry import credentials, routes
from boltseal.transports.registry.auth import parse_challenge
from support.cli import Run, boltseal
from support.images import Layout, simple_image
from support.proxy import Fault, proxied
from support.registry import PASSWORD, USER, running

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Authority, Registry, TokenServer


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's logins is read or written."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("boltseal._io.retry.BASE_SECONDS", 0.01)


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
    path.write_text(json.dumps({"auths": {basic.host: entry(password="wrong")}}))
    run = push(source, basic, authority)
    assert run.code == 1
    assert "wrong" not in run.err


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


# --- TLS ----------------------------------------------------------------------------------------


def test_an_authority_that_is_not_trusted(source: Layout, basic: Registry) -> None:
    creds = ("--creds", f"{USER}:{PASSWORD}")
    run = boltseal("copy", source.reference(), basic.reference("tls:v1"), *creds)
    assert (run.code, "is not trusted" in run.err) == (1, True)
    assert "--cert-dir" in run.err
    run = boltseal(
        "copy", source.reference(), basic.reference("tls:v1"), *creds, "--dest-tls-verify", "false"
    )
    assert run.code == 0, run.err


def test_certificates_by_host(
    tmp_path: Path, source: Layout, basic: Registry, authority: Authority
) -> None:
    folder = tmp_path / "home" / ".config" / "containers" / "certs.d" / basic.host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes((authority.trusted() / "ca.crt").read_bytes())
    creds = ("--creds", f"{USER}:{PASSWORD}")
    assert boltseal("copy", source.reference(), basic.reference("tls:v2"), *creds).code == 0


def test_a_broken_certificate(tmp_path: Path, source: Layout, basic: Registry) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.crt").write_text("nonsense")
    run = boltseal(
        "copy", source.reference(), basic.reference("x:v1"), "--cert-dir", tmp_path / "certs"
    )
    assert (run.code, "cannot be used" in run.err) == (1, True)


def test_client_certificates(tmp_path: Path, source: Layout, authority: Authority) -> None:
    folder = authority.trusted()
    with running(tmp_path / "mutual", authority=authority, client_certificates=True) as registry:
        target = registry.reference("mutual:v1")
        run = boltseal("copy", source.reference(), target, "--cert-dir", folder)
        assert run.code == 1
        certificate, key = authority.issue("client")
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())
        (mine / "client.cert").write_bytes(certificate.read_bytes())
        (mine / "client.key").write_bytes(key.read_bytes())
        run = boltseal("copy", source.reference(), target, "--cert-dir", mine)
        assert run.code == 0, run.err
        (mine / "client.key").unlink()
        run = boltseal("copy", source.reference(), target, "--cert-dir", mine)
        assert (run.code, "cannot be used" in run.err) == (1, True)


def test_proxies_from_the_environment(
    source: Layout, plain: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(plain) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert boltseal("copy", source.reference(), plain.reference("proxied:v1")).code == 0
        assert any(one.path.startswith(f"http://{plain.host}/v2/proxied") for one in proxy.seen)
        proxy.seen.clear()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert boltseal("copy", source.reference(), plain.reference("proxied:v2")).code == 0
        assert not proxy.seen


def test_plain_http_is_for_loopback_alone(
    monkeypatch: pytest.MonkeyPatch, source: Layout, plain: Registry
) -> None:
    monkeypatch.setattr("boltseal.transports.registry.client.is_loopback", lambda host: False)
    run = boltseal("copy", source.reference(), plain.reference("x:v1"))
    assert (run.code, "does not speak TLS" in run.err) == (1, True)
    args = ("copy", source.reference(), plain.reference("x:v1"), "--tls-verify", "false")
    assert boltseal(*args).code == 0


# --- registries.conf ----------------------------------------------------------------------------

CONF = """
unqualified-search-registries = ["ignored.example"]
[aliases]
"fedora" = "registry.fedora.example/fedora"
[[registry]]
prefix = "blocked.example"
blocked = true
[[registry]]
prefix = "moved.example/old"
location = "new.example/team"
[[registry.mirror]]
location = "mirror.example/m"
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "*.wild.example"
location = "tame.example"
[[registry]]
location = "loose.example:5000"
insecure = true
"""


@pytest.fixture
def conf(tmp_path: Path) -> routes.Routes:
    path = tmp_path / "registries.conf"
    path.write_text(CONF)
    return routes.load(RegistryOptions(registries_conf=str(path)))


def places(conf: routes.Routes, text: str) -> list[str]:
    found = conf.sources(parse_registry_reference(text))
    return [f"{one.host}/{one.repository}{'!' if one.insecure else ''}" for one in found]


def test_routes(conf: routes.Routes) -> None:
    digest = "sha256:" + "a" * 64
    assert places(conf, "docker://fedora:39") == ["registry.fedora.example/fedora"]
    assert places(conf, "docker://docker.io/library/fedora") == ["docker.io/library/fedora"]
    assert places(conf, "docker://busybox") == ["docker.io/library/busybox"]
    assert places(conf, "docker://team/app") == ["docker.io/team/app"]
    assert places(conf, "docker://moved.example/old/x:1") == [
        "mirror.example/m/x",
        "new.example/team/x",
    ]
    assert places(conf, f"docker://moved.example/old/x@{digest}") == [
        "mirror.example/m/x",
        "digests.example/x",
        "new.example/team/x",
    ]
    assert places(conf, "docker://moved.example/other") == ["moved.example/other"]
    assert places(conf, "docker://moved.example/older") == ["moved.example/older"]
    assert places(conf, "docker://a.wild.example/x") == ["tame.example/x"]
    assert places(conf, "docker://loose.example:5000/x") == ["loose.example:5000/x!"]
    with pytest.raises(RegistryError, match="blocked"):
        places(conf, "docker://blocked.example/x")


def test_destinations_are_never_mirrors(conf: routes.Routes) -> None:
    found = conf.destination(parse_registry_reference("docker://moved.example/old/x:1"))
    assert (found.host, found.repository) == ("new.example", "team/x")


@pytest.mark.parametrize("text", ["=", "[registries.search]\nregistries = []", "\xff"])
def test_a_broken_registries_conf(tmp_path: Path, text: str) -> None:
    path = tmp_path / "registries.conf"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        routes.load(RegistryOptions(registries_conf=str(path)))


def test_a_mirror_serves_and_the_next_one_when_it_lacks_the_image(
    tmp_path: Path, source: Layout, plain: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert boltseal("copy", source.reference(), plain.reference("mirrored/app:v1")).code == 0
    path = tmp_path / "registries.conf"
    path.write_text(
        f"""
[[registry]]
prefix = "primary.invalid"
[[registry.mirror]]
location = "{plain.host}/nothing"
[[registry.mirror]]
location = "{plain.host}/mirrored"
"""
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    run = boltseal("copy", "docker://primary.invalid/app:v1", f"oci:{tmp_path}/o:v1")
    assert run.code == 0, run.err


def test_options_from_the_environment() -> None:
    found = RegistryOptions.from_environ(
        {"HOME": "/h", "https_proxy": "http://p:1", "HTTP_PROXY": "http://q:1", "NO_PROXY": "x"}
    )
    assert found.proxies == {"https": "http://p:1", "no": "x"}
    assert found.docker_auth_file == "/h/.docker/config.json"
    assert "hunter2" not in repr(RegistryOptions(credentials=("a", "hunter2")))
