"""Whole namespaces of a real registry: catalog and tags in pages, patterns, what is sent again."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from boltseal.errors import BoltsealError, MalformedError, UsageError
from boltseal.image.bulk.patterns import expand, parse_pattern
from boltseal.image.bulk.run import encrypt_many
from boltseal.transports.registry.options import RegistryOptions
from support.bulk import states
from support.cli import boltseal
from support.proxy import Fault, proxied
from support.registry import PASSWORD, USER, Authority, Registry, TokenServer, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.bulk import Place

NAMES = ("team/a", "team/b", "team/deep/c", "other/a", "top")
TAGS = ("v1", "v2", "w1")
SIGNATURE = f"sha256-{'0' * 64}.sig"
CLAIM = f"boltseal-claim-{'0' * 16}"  # what a change of recipients leaves in some registries


@pytest.fixture(scope="module")
def full(paged: Registry, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry with five repositories, three tags in each, and a signature's tag in one."""
    from support.bulk import many_images

    layout = many_images(tmp_path_factory.mktemp("plain") / "l", TAGS)
    for name in NAMES:
        for tag in TAGS:
            target = paged.reference(f"{name}:{tag}")
            assert boltseal("copy", layout.reference(tag), target, "-q").code == 0
    for tag in (SIGNATURE, CLAIM):
        target = paged.reference(f"team/a:{tag}")
        assert boltseal("copy", layout.reference("v1"), target, "-q").code == 0
    return paged


def names(registry: Registry, pattern: str) -> list[str]:
    found = expand(parse_pattern(registry.reference(pattern)))
    return [str(one).removeprefix(registry.reference("")) for one in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("team/*:v*", ["team/a:v1", "team/a:v2", "team/b:v1", "team/b:v2"]),
        ("team/**:w1", ["team/a:w1", "team/b:w1", "team/deep/c:w1"]),
        ("**/a:v1", ["other/a:v1", "team/a:v1"]),
        ("team/a:*", ["team/a:v1", "team/a:v2", "team/a:w1"]),
        ("team/a:sha*", [f"team/a:{SIGNATURE}"]),
        ("t[!e]?:[vw]1", ["top:v1", "top:w1"]),
    ],
)
def test_images_by_pattern(full: Registry, pattern: str, expected: list[str]) -> None:
    assert sorted(names(full, pattern)) == expected


def test_a_namespace_is_sealed_and_the_second_run_sends_nothing(
    full: Registry, place: Place
) -> None:
    pattern = full.reference("team/**:v*")
    with proxied(full) as proxy:
        template = f"docker://{proxy.host}/sealed/{{repository}}:{{tag}}"
        arguments = ("--to", template, "--journal", "j", "--json")
        first = place.encrypt(*arguments, source=pattern)
        assert states(first) == ["encrypted"] * 6, first.err
        found = json.loads(first.out)["images"]
        found_at = [one["destination"].replace(proxy.host, full.host) for one in found]
        assert all(map(place.is_right, found_at))
        proxy.seen.clear()
        assert states(place.encrypt(*arguments, source=pattern)) == ["skipped"] * 6
        asked = [
            (one.method, "/manifests/" in one.path) for one in proxy.seen if one.path != "/v2/"
        ]
        assert asked == [("GET", True)] * 6  # one look at each destination, and no blob


def test_failures_of_the_network_are_the_images_own(full: Registry, place: Place) -> None:
    with proxied(full) as proxy:
        proxy.faults.append(Fault("GET", "/team/b/manifests/v1", status=403, times=9))
        run = place.encrypt(
            "--to", "oci:sealed:{name}-{tag}", "--journal", "j", "--json", "--jobs", "2",
            source=f"docker://{proxy.host}/team/*:v*",
        )  # fmt: skip
        assert run.code == 1
        assert sorted(states(run)) == ["encrypted"] * 3 + ["failed"]
        proxy.faults.clear()
        run = place.encrypt(
            "--to", "oci:sealed:{name}-{tag}", "--journal", "j", "--json",
            source=f"docker://{proxy.host}/team/*:v*",
        )  # fmt: skip
        assert sorted(states(run)) == ["encrypted"] + ["skipped"] * 3


def test_a_catalog_behind_tokens(tmp_path: Path, place: Place) -> None:
    authority = Authority(tmp_path / "authority")
    tokens = TokenServer(authority)
    access = ("--creds", f"{USER}:{PASSWORD}", "--cert-dir", authority.trusted())
    plain = place.images(1)
    with running(tmp_path / "registry", authority=authority, tokens=tokens) as registry:
        image = registry.reference("team/a:v1")
        assert boltseal("copy", plain.reference("v0"), image, *access, "-q").code == 0
        run = place.encrypt(
            "--to", registry.reference("sealed/{name}:{tag}"), "--journal", "j", *access, "--json",
            source=registry.reference("team/*:*"),
        )  # fmt: skip
    assert states(run) == ["encrypted"], run.err
    assert ["registry:catalog:*"] in tokens.given


class Hostile(http.server.BaseHTTPRequestHandler):
    """Answers as its table says."""

    answers: ClassVar[dict[str, tuple[int, bytes, str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        status, body, link = self.answers.get(path, (200, b"{}", ""))
        self.send_response(status)
        if link:
            self.send_header("Link", link)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hostile() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    Hostile.answers = {}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b'{"repositories":["../../etc"]}', ""), "no name"),
        ((200, b'{"repositories":["a b"]}', ""), "no name"),
        ((200, b'{"repositories":[1]}', ""), "no string"),
        ((200, b'{"repositories":"a"}', ""), "no list"),
        ((200, b"[]", ""), "not a JSON object"),
        ((200, b'{"repositories":["a"]}', '<http://127.0.0.2/>; rel="next"'), "another host"),
        ((200, b'{"repositories":["a"]}', '</v2/_catalog?last=a>; rel="next"'), "limit of"),
        ((200, b'{"repositories":["a","b","c","d"]}', ""), "limit of 3"),
        ((404, b"", ""), "write a list instead"),
        ((403, b"", ""), "denies the list"),
        ((200, b'{"repositories":null}', ""), "no image fits"),
    ],
)  # fmt: skip
def test_hostile_catalogs(
    hostile: str, answer: tuple[int, bytes, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltseal.transports.registry.catalog.MAX_REPOSITORIES", 3)
    Hostile.answers = {"/v2/_catalog": answer}
    with pytest.raises(BoltsealError) as caught:
        expand(parse_pattern(f"docker://{hostile}/**:*"), RegistryOptions())
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "tag", ["../x", "a b", f"v1@sha256:{'0' * 64}", "x/y:z", "", ":v1", "a" * 129]
)
def test_hostile_tags(hostile: str, tag: str) -> None:
    Hostile.answers = {
        "/v2/_catalog": (200, b'{"repositories":["a"]}', ""),
        "/v2/a/tags/list": (200, json.dumps({"tags": [tag]}).encode(), ""),
    }
    with pytest.raises(MalformedError, match="no tag"):
        expand(parse_pattern(f"docker://{hostile}/*:*"), RegistryOptions())


def test_credentials_for_one_registry_go_to_no_other_of_a_list(
    hostile: str, tmp_path: Path, keys: Path
) -> None:
    """Whoever writes a list chooses its hosts; they must not get what is for another one."""
    who = [f"jwe:{keys}/p256.pub.pem"]
    both = [(f"docker://{hostile}/a:v1", "one"), ("docker://127.0.0.2:9/b:v1", "two")]
    given = RegistryOptions(credentials=(USER, PASSWORD), tls_verify=False)
    Hostile.asked.clear()
    for access in (given, (given, RegistryOptions())):
        pairs = [(source, f"oci:{tmp_path}/{name}:v1") for source, name in both]
        with pytest.raises(UsageError, match="credentials were given for one registry"):
            encrypt_many(pairs, who, registry=access)
    turned = [(f"oci:{tmp_path}/{name}:v1", target) for target, name in both]
    with pytest.raises(UsageError, match="the destinations are in 2: "):
        encrypt_many(turned, who, registry=(RegistryOptions(), given))
    assert Hostile.asked == []
    same = [(f"docker://{hostile}/{name}:v1", f"oci:{tmp_path}/{name}:v1") for name in "ab"]
    report = encrypt_many(same, who, registry=(given, RegistryOptions()))
    assert report.count("failed") == 2
    assert Hostile.asked
