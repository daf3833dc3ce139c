"""Where providers are looked for, and what is wrong with files that tell of them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import BoltsealError, KeyServiceError, NotFoundError, UsageError
from boltseal.keywrap.keyprovider import address, config
from boltseal.keywrap.keyprovider.config import Command, Service, Tls

if TYPE_CHECKING:
    from pathlib import Path

TRUE = "/bin/true"


def options(path: Path, document: Any, **more: Any) -> KeyOptions:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return KeyOptions(provider_files=(str(path),), **more)


def one(**attributes: Any) -> dict[str, Any]:
    return {"key-providers": {"acme": {k.replace("_", "-"): v for k, v in attributes.items()}}}


def test_a_command(tmp_path: Path) -> None:
    given = options(tmp_path / "c.json", one(cmd={"path": TRUE, "args": ["a", "b"]}, more=1))
    assert config.find("acme", given).way == Command(TRUE, ("a", "b"))
    given = options(tmp_path / "c.json", one(cmd={"path": TRUE}, grpc=""))  # as Go writes it
    assert config.find("acme", given).way == Command(TRUE)


def test_a_command_on_the_path(tmp_path: Path) -> None:
    program = tmp_path / "acme-keys"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    document = one(cmd={"path": "acme-keys"})
    given = options(tmp_path / "c.json", document, environment={"PATH": str(tmp_path)})
    assert config.find("acme", given).way == Command(str(program))
    with pytest.raises(KeyServiceError, match="no program 'acme-keys' on the PATH"):
        config.find("acme", options(tmp_path / "c.json", document))


def test_a_service(tmp_path: Path) -> None:
    found = config.find("acme", options(tmp_path / "c.json", one(grpc="127.0.0.1:50051")))
    assert found.way == Service(address.Address(host="127.0.0.1", port=50051))
    found = config.find("acme", options(tmp_path / "c.json", one(grpc="unix:///run/acme.sock")))
    assert found.way == Service(address.Address(path="/run/acme.sock"))
    tls = {
        "root-ca-file": "ca",
        "cert-file": "c",
        "key-file": "k",
        "server-name": "keys.example",
        "insecure-skip-verify": True,
    }
    found = config.find("acme", options(tmp_path / "c.json", one(grpc="k.example:1", grpc_tls=tls)))
    assert found.way == Service(
        address.Address(host="k.example", port=1), Tls("ca", "c", "k", "keys.example", True)
    )
    found = config.find("acme", options(tmp_path / "c.json", one(grpc="k.example:1", grpc_tls={})))
    assert found.way == Service(address.Address(host="k.example", port=1), Tls())


def test_settings_in_toml(tmp_path: Path) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text(
        "[other]\nx = 1\n"
        f'[key-providers.acme]\ncmd = {{path = "{TRUE}", args = ["x"]}}\n'
        '[key-providers.far]\ngrpc = "k.example:7443"\ngrpc-tls = {server-name = "k"}\n'
    )
    given = KeyOptions(settings_files=(str(tmp_path / "absent.toml"), str(settings)))
    assert config.find("acme", given).way == Command(TRUE, ("x",))
    assert config.find("acme", given).source == str(settings)
    assert config.find("far", given).way == Service(
        address.Address(host="k.example", port=7443), Tls(server_name="k")
    )


def test_the_first_file_that_has_the_name_counts(tmp_path: Path) -> None:
    for number in range(2):
        options(tmp_path / f"{number}.json", one(cmd={"path": TRUE, "args": [str(number)]}))
    (tmp_path / "s.toml").write_text(f'[key-providers.acme]\ncmd = {{path = "{TRUE}"}}\n')
    files = (str(tmp_path / "0.json"), str(tmp_path / "1.json"))
    settings = (str(tmp_path / "s.toml"),)
    given = KeyOptions(provider_files=files, settings_files=settings)
    assert config.find("acme", given).way == Command(TRUE, ("0",))
    given = KeyOptions(provider_files=files[::-1], settings_files=settings)
    assert config.find("acme", given).way == Command(TRUE, ("1",))
    assert config.find("acme", KeyOptions(settings_files=settings)).way == Command(TRUE)


def test_from_the_environment(tmp_path: Path) -> None:
    options(tmp_path / "c.json", one(cmd={"path": TRUE}))
    environ = {"OCICRYPT_KEYPROVIDER_CONFIG": str(tmp_path / "c.json"), "HOME": str(tmp_path)}
    assert config.find("acme", KeyOptions.from_environ(environ)).way == Command(TRUE)


def test_an_unknown_name_lists_the_known_ones_and_the_places(tmp_path: Path) -> None:
    given = options(
        tmp_path / "c.json",
        {"key-providers": {"acme": {}, "best": {}}},
        settings_files=(str(tmp_path / "absent.toml"),),
    )
    for parse, text in ((parse_identity, "provider:Acme"), (parse_recipient, "provider:Acme:x")):
        with pytest.raises(UsageError, match="'Acme'; configured are: acme, best") as caught:
            parse(text, given)
        assert str(tmp_path / "c.json") in str(caught.value.hint)
        assert "absent.toml (not there)" in str(caught.value.hint)
    with pytest.raises(UsageError, match="configured are: none") as caught:
        parse_identity("provider:acme")
    assert "OCICRYPT_KEYPROVIDER_CONFIG" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "c.json is not valid JSON"),
        ("[]", "c.json is not a JSON object"),
        ('{"key-providers": [], "key-providers": {}}', "twice"),
        ('{"Key-Providers": {}}', "other readers take for another"),
        ('{"key-providers": [1]}', "key-providers is not a table"),
        (one(), "neither cmd nor grpc"),
        ({"key-providers": {"acme": "x"}}, "not a table"),
        (one(Cmd={"path": TRUE}), "other readers take for another"),
        (one(cmd={"path": TRUE}, grpc="127.0.0.1:1"), "both cmd and grpc"),
        (one(cmd=TRUE), "cmd is not a table"),
        (one(cmd={}), "cmd.path is missing"),
        (one(cmd={"path": 1}), "cmd.path is missing or not a text"),
        (one(cmd={"path": "bin/true"}), "cmd.path is relative"),
        (one(cmd={"path": TRUE, "args": "x"}), "not a list of texts"),
        (one(cmd={"path": TRUE, "args": [1]}), "not a list of texts"),
        (one(cmd={"path": TRUE, "args": ["\0"]}), "NUL"),
        (one(cmd={"path": TRUE, "args": ["x"] * 257}), "256 arguments"),
        (one(grpc=7), "grpc is missing or not a text"),
        (one(grpc="keys.example"), "is no address"),
        (one(grpc="keys.example:http"), "is no address"),
        (one(grpc="me:password@keys.example"), ": 'keys.example' is no address"),
        (one(grpc="keys.example:70000"), "is no address"),
        (one(grpc="xds:///keys.example:1"), "is no address"),
        (one(grpc="unix:run/acme.sock"), "no full path"),
        (one(grpc="unix:/" + "x" * 107), "at most 107 bytes"),
        (one(grpc="keys.example:7443"), "in the clear"),
        (one(grpc="10.0.0.1:7443"), "in the clear"),
        (one(grpc="[fe80::1]:7443"), "in the clear"),
        (one(grpc="k.example:1", grpc_tls="x"), "grpc-tls is not a table"),
        (one(grpc="k.example:1", grpc_tls={"key-file": "k"}), "one of cert-file and key-file"),
        (one(grpc="k.example:1", grpc_tls={"insecure-skip-verify": "yes"}), "true nor false"),
        (one(grpc="k.example:1", grpc_tls={"Root-CA-file": "x"}), "other readers"),
    ],
)
def test_broken_json(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        config.find("acme", options(tmp_path / "c.json", document))
    assert str(tmp_path / "c.json") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[key-providers", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (b"key-providers = 1", "not a table"),
        (b"[key-providers.acme]\ngrpc = 1", "not a text"),
    ],
)
def test_broken_toml(tmp_path: Path, text: bytes, message: str) -> None:
    settings = tmp_path / "config.toml"
    settings.write_bytes(text)
    with pytest.raises(UsageError, match=message) as caught:
        config.find("acme", KeyOptions(settings_files=(str(settings),)))
    assert str(settings) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent.json does not exist"):
        config.find("acme", KeyOptions(provider_files=(str(tmp_path / "absent.json"),)))
    with pytest.raises(BoltsealError, match="is a folder"):
        config.find("acme", KeyOptions(settings_files=(str(tmp_path),)))
    big = tmp_path / "big.json"
    big.touch()
    os.truncate(big, config.MAX_FILE_BYTES + 1)
    with pytest.raises(UsageError, match=r"big.json is larger than the limit of 1048576 bytes"):
        config.find("acme", KeyOptions(provider_files=(str(big),)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("provider:", "names no"),
        ("provider::x", "names no"),
        ("provider:a b", "is no name"),
        ("provider:a\n", "is no name"),
        ("provider:" + "a" * 129, "is no name"),
        ("provider:acme:", "parameter of a key provider is empty"),
        ("provider:acme:" + "x" * 1025, "1024 characters at most"),
    ],
)
def test_spellings(tmp_path: Path, text: str, message: str) -> None:
    given = options(tmp_path / "c.json", one(cmd={"path": TRUE}))
    with pytest.raises(UsageError, match=message):
        parse_recipient(text, given)
    if text != "provider:":
        with pytest.raises(UsageError, match=message):
            parse_identity(text, given)


@pytest.mark.parametrize(("name", "instead"), [("boltseal-pq", "pq:FILE"), ("boltseal-kms", "URI")])
def test_our_own_names_are_no_recipients(tmp_path: Path, name: str, instead: str) -> None:
    document = {"key-providers": {name: {"cmd": {"path": TRUE}}}}
    given = options(tmp_path / "c.json", document)
    with pytest.raises(UsageError, match="Boltseal's own") as caught:
        parse_recipient(f"provider:{name}", given)
    assert instead in str(caught.value.hint)
    assert parse_identity(f"provider:{name}", given).handles(f"provider.{name}")


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("unix:/run/x", True),
        ("localhost:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("localhost.example:1", False),
    ],
)
def test_what_is_local(text: str, *, local: bool) -> None:
    found = address.parse(text, "x")
    assert found.is_local is local
    assert str(found) == text
