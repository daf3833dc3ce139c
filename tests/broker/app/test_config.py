"""Settings: each mistake is told with its line, its member and what to write, without its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.broker.app import config
from boltseal.cli import broker_shared
from boltseal.errors import BoltsealError, NotFoundError, UsageError
from support import cli
from support.broker import Broker

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
database = "sqlite:///broker.db"
root_key = "file:root.key"

[server]
listen = ["127.0.0.1:8443"]
"""
SECRET = "hunter2"


def load(folder: Path, text: str) -> config.Settings:
    (folder / "config.toml").write_text(text)
    return config.load(str(folder))


@pytest.mark.parametrize(
    ("written", "cores", "count"), [(-1, 1, 0), (-1, 2, 1), (-1, 64, 8), (0, 64, 0), (12, 1, 12)]
)
def test_how_many_processes_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int, cores: int, count: int
) -> None:
    monkeypatch.setattr(config.cores, "usable", lambda: cores)
    found = load(tmp_path, f"{GOOD}[limits]\nprocesses = {written}\n")
    assert found.bounds.deciding_processes == count
    assert load(tmp_path, GOOD).bounds.processes == -1


def test_paths_are_relative_to_the_settings(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD)
    assert found.database == f"sqlite:///{tmp_path}/broker.db"
    assert found.root_key == f"file:{tmp_path}/root.key"
    assert (found.public_address, found.tls) == ("http://127.0.0.1:8443", None)
    assert str(found.listen[0]) == "127.0.0.1:8443"


def test_the_database_address_may_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"postgresql://broker:{SECRET}@db.example/broker\n")
    found = load(
        tmp_path, GOOD.replace('database = "sqlite:///broker.db"', 'database_file = "url"')
    )
    assert SECRET in found.database
    assert SECRET not in repr(found)


BAD = {
    "an unknown member": (GOOD + 'colour = "hunter2"\n', "line 6", "[server] colour"),
    "an unknown table": (GOOD + "[colours]\nred = 1\n", "line 6", "colours"),
    "no database": (GOOD.replace("database", "datadase"), "config.toml", "database"),
    "two databases": ('database_file = "hunter2"\n' + GOOD, "line 2", "database"),
    "no root key": (GOOD.replace("root_key", "rootkey"), "config.toml", "root_key"),
    "another type": (GOOD.replace('["127.0.0.1:8443"]', '"hunter2"'), "line 5", "listen"),
    "no port": (GOOD.replace("127.0.0.1:8443", "hunter2"), "line 5", "HOST:PORT"),
    "a port that is none": (GOOD.replace(":8443", ":84430"), "line 5", "HOST:PORT"),
    "plain HTTP for others": (GOOD.replace("127.0.0.1", "0.0.0.0"), "line 5", "no TLS"),
    "half of TLS": (GOOD + 'tls_key = "hunter2"\n', "config.toml", "tls_certificate"),
    "metrics for others": (
        GOOD + '[metrics]\nlisten = "10.0.0.1:9464"\n', "line 7", "this machine alone",
    ),
    "no level": (GOOD + '[log]\nlevel = "hunter2"\n', "line 7", "[log] level"),
    "out of bounds": (GOOD + "[limits]\nworkers = 65\n", "line 7", "0 to 64"),
    "too few processes": (GOOD + "[limits]\nprocesses = -2\n", "line 7", "-1 to 64"),
    "a truth value": (GOOD + "[limits]\nworkers = true\n", "line 7", "another type"),
    "no https": (GOOD + 'public_address = "ftp://hunter2"\n', "line 6", "public_address"),
    "a path": (GOOD + 'public_address = "http://x/hunter2"\n', "line 6", "public_address"),
    "half an issuer": (GOOD + '[console]\nissuer = "https://a"\n', "config.toml", "client_id"),
    "not TOML": (GOOD + 'x = "hunter2\n', "line 6", "not TOML"),
    "a member twice": (GOOD + "[server]\n", "line 6", "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place", "what"), BAD.values(), ids=BAD)
def test_mistakes(tmp_path: Path, text: str, place: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    error = caught.value
    assert place in error.message
    assert what in error.message
    assert error.hint
    assert SECRET not in str(error)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        config.load(str(tmp_path))
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(BoltsealError, match="UTF-8"):
        config.load(str(tmp_path))
    (tmp_path / "config.toml").write_text("#" * 70_000)
    with pytest.raises(BoltsealError, match="limit"):
        config.load(str(tmp_path))
    told = cli.boltseal("broker", "key", "list", "--config", tmp_path / "nothing")
    assert told.code == 1
    assert "does not exist" in told.err


def test_init_never_writes_over_anything_and_can_be_tried_again(tmp_path: Path) -> None:
    place = tmp_path / "broker"
    bad = cli.boltseal("broker", "init", place, "--listen", "nowhere")
    assert bad.code == 2
    assert not (place / "config.toml").exists()
    broker = Broker(place)
    for name in ("config.toml", "root.key", "broker.db", "tls/server.key", "tls/ca.key"):
        assert (place / name).stat().st_mode & 0o077 == 0, name
    again = cli.boltseal("broker", "init", place)
    assert again.code == 1
    assert "already" in again.err
    assert broker.admin_token not in (place / "config.toml").read_text()


def test_init_takes_names_of_hosts_alone(tmp_path: Path) -> None:
    place = tmp_path / "broker"
    for name in ("https://broker.example", "broker.example:8443", "exämple", ""):
        bad = cli.boltseal("broker", "init", place, f"--name={name}")
        assert bad.code == 2
        assert "is no name or address of a server" in bad.err
    told = cli.boltseal("broker", "init", place, "--name=*.one.example", "--name=2001:db8::1")
    assert told.code == 0
    assert "address: https://[2001:db8::1]:8443" in told.out


def test_an_init_that_fails_leaves_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    place = tmp_path / "broker"
    place.mkdir()
    (place / "mine").write_text("a file of somebody's")
    (tmp_path / "url").write_text("mysql://nowhere/broker")
    bad = cli.boltseal("broker", "init", place, "--database-file", tmp_path / "url")
    assert bad.code == 2
    assert [one.name for one in place.iterdir()] == ["mine"]
    Broker(place)


def test_a_private_key_as_root_key_is_found_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.boltseal("keygen", "root.pem", "-a", "p256").code == 0
    given = ("--root-key", "root.pem", "--root-recipient", "jwe:root.pub.pem")
    assert cli.boltseal("broker", "init", "broker", *given).code == 0
    monkeypatch.chdir("/")
    made = cli.boltseal("broker", "key", "create", "k", "--config", tmp_path / "broker")
    assert made.code == 0, made.err


@pytest.mark.parametrize(
    ("spelling", "full"),
    [
        ("root.pem", "/etc/b/root.pem"),
        ("file:root.key", "file:/etc/b/root.key"),
        ("file:/root.key", "file:/root.key"),
        ("jwe:root.pub.pem", "jwe:/etc/b/root.pub.pem"),
        ("pkcs11:token.yaml", "pkcs11:/etc/b/token.yaml"),
        ("pkcs11:token=a;object=b", "pkcs11:token=a;object=b"),
        ("hashivault://root", "hashivault://root"),
        ("awskms:///alias/root", "awskms:///alias/root"),
        ("pgp:root@example.org", "pgp:root@example.org"),
    ],
)
def test_what_a_root_key_names(spelling: str, full: str) -> None:
    assert config.located(spelling, "/etc/b") == full


def test_settings_before_the_action_and_a_trust_in_place_of_another(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    early = cli.boltseal("broker", "--config", tmp_path / "broker", "key", "list")
    assert early.code == 2
    assert "options stand behind the action" in early.err
    ca = ("--ca", str(tmp_path / "broker" / "tls" / "ca.pem"))
    assert "before" not in broker.run("trust", "add", "eu", *ca, "--label", "a=b").err
    assert "was before" in broker.run("trust", "add", "eu", *ca).err
    assert broker.run("trust", "add", "x", "--kind", "oidc", code=2).err.count("trust x") == 1


def test_a_tenant_that_is_not_there_has_no_empty_answers(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    for command in (
        ("key", "list"),
        ("trust", "list"),
        ("releases",),
        ("limits",),
        ("audit", "export"),
        ("audit", "report", "sha256:" + 64 * "0"),
    ):
        assert "no tenant acne" in broker.run(*command, "--tenant", "acne", code=1).err
    assert "TENANT/PROJECT" in broker.run("key", "create", "k", "--tenant", "acne", code=2).err


def test_commands_without_a_server(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    assert "sha256:" in broker.run("key", "create", "k", "--algorithm", "p256").out
    assert broker.run("key", "create", "k", "--algorithm", "p256", code=1).err
    assert broker.run("key", "rotate", "k", "--json").json["version"] == 2
    broker.run("key", "destroy", "k", "--version", "1", "--days", "0")
    shown = broker.run("key", "show", "k")
    assert "destroyed" in shown.out
    broker.run("key", "restore", "k", "--version", "1", code=1)
    broker.run("key", "create", "BAD NAME", code=2)
    broker.run("limits", "identity", "--per-minute", "5")
    assert broker.run("limits", "--json").json["limits"][0]["per_minute"] == 5
    broker.run("project", "create", "p")
    assert broker.run("project", "list", "--json").json == {"projects": ["default", "p"]}
    broker.run("backup", str(tmp_path / "copy"))
    (tmp_path / "broker" / "broker.db").unlink()
    for name in ("broker.db-wal", "broker.db-shm"):
        (tmp_path / "broker" / name).unlink(missing_ok=True)
    assert "chain is whole" in broker.run("restore", str(tmp_path / "copy")).out
    assert broker.run("key", "show", "k", "--json").json["versions"] == 2
    assert broker.run("audit", "verify", "--json").json["ok"]
    assert broker.run("openapi", "--json", config=False).json["openapi"].startswith("3.")


def test_a_missing_extra_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_shared, "_NEEDED", ("no_such_module",))
    told = cli.boltseal("broker", "init", tmp_path / "a")
    assert told.code == 1
    assert "pip install 'boltseal[broker]'" in told.err


def test_plain_http_is_for_this_machine_alone(tmp_path: Path) -> None:
    bad = cli.boltseal("broker", "init", tmp_path / "a", "--no-tls", "--listen", "0.0.0.0:8080")
    assert bad.code == 2
    with Broker(tmp_path / "b", "--no-tls") as plain:
        assert plain.url.startswith("http://127.0.0.1:")
        answer = plain.ask("GET", "/readyz")
        assert answer.status == 200
        assert "strict-transport-security" not in answer.headers
