"""Certificates, proxies and registries.conf."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from boltseal import RegistryOptions
from boltseal.errors import RegistryError, UsageError
from boltseal.spec.reference import parse_registry_reference
from boltseal.transports.registry import routes
from support.cli import Run, boltseal
from support.images import Layout, simple_image
from support.proxy import proxied
from support.registry import PASSWORD, USER, running

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Authority, Registry


pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return simple_image(tmp_path / "src")


def entry(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def push(source: Layout, registry: Registry, authority: Authority, *more: object) -> Run:
    target = registry.reference("access:v1")
    return boltseal("copy", source.reference(), target, "--cert-dir", authority.trusted(), *more)


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
        assert boltseal("copy", source.reference(), plain.reference("proxied:v0")).code == 0
        assert not proxy.seen, "what is on this machine is never handed to a proxy"
        monkeypatch.setattr("boltseal.transports.registry.http.is_loopback", lambda host: False)
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
