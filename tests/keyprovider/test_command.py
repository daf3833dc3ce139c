"""Programs as key providers: those that work, and all that programs can do wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import BoltsealError, KeyServiceError
from boltseal.keywrap.keyprovider.words import shown
from boltseal.keywrap.keyring import wrap
from boltseal.keywrap.parse import parse_keyring
from support import providers
from support.providers import SECRET_LOOKING, configuration

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b'{"symkey":"bm90IGEgc2VjcmV0"}'


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "acme.key"
    path.write_bytes(os.urandom(32))
    return str(path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., KeyOptions]:
    """Options with one program, called acme."""

    def options(*way: str, **more: Any) -> KeyOptions:
        path = configuration(tmp_path / "c.json", acme=list(way))
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        return replace(KeyOptions(environment=environment, **more), provider_files=(str(path),))

    return options


def wrapped(options: KeyOptions, *texts: str) -> list[bytes]:
    recipients = [parse_recipient(text, options) for text in texts or ("provider:acme",)]
    return wrap(recipients, SECRET)["provider.acme"]


@pytest.mark.parametrize("shape", ["text", "numbers"])
def test_there_and_back(make: Callable[..., KeyOptions], key: str, shape: str) -> None:
    options = make("aes", key, shape)
    (packet,) = wrapped(options)
    identity = parse_identity("provider:acme", options)
    assert identity.unwrap("provider.acme", packet) == SECRET
    assert identity.describe() == "key provider acme"
    assert not identity.handles("provider.other")
    with pytest.raises(KeyServiceError, match="exit status 3: this is wrapped by another key"):
        identity.unwrap("provider.acme", packet[:-1] + bytes((packet[-1] ^ 1,)))


def test_one_question_with_all_parameters_and_nothing_else(
    make: Callable[..., KeyOptions], key: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    options = make("aes", key, "text", str(log))
    packets = wrapped(options, "provider:acme:one", "provider:acme:two:2", "provider:acme:one")
    assert len(packets) == 1
    parse_identity("provider:acme:mine", options).unwrap("provider.acme", packets[0])
    asked, unwrapping = map(json.loads, log.read_text().splitlines())
    assert asked["keywrapparams"]["ec"] == {
        "Parameters": {"acme": ["b25l", "dHdvOjI="]},
        "DecryptConfig": {"Parameters": {}},
    }
    assert unwrapping["keyunwrapparams"]["dc"] == {"Parameters": {"acme": ["bWluZQ=="]}}


def test_recipients_with_different_parameters_are_different(
    make: Callable[..., KeyOptions], key: str
) -> None:
    texts = ("provider:acme", "provider:acme:one", "provider:acme:One")
    options = make("aes", key)
    assert len({parse_recipient(text, options).describe() for text in texts}) == 3


def test_what_it_is_started_with(make: Callable[..., KeyOptions], tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    with open(seen, "w") as secret_file:  # a descriptor that must not be handed on
        os.set_inheritable(secret_file.fileno(), True)
        wrapped(make("environment", str(seen)))
    found = json.loads(seen.read_text())
    assert found["environ"].keys() == {"PATH", "LC_ALL"}
    assert len(found["descriptors"]) == 4 + 1  # the three, the file it writes, the folder it lists


def test_it_does_not_get_the_secrets_of_keys(
    make: Callable[..., KeyOptions], tmp_path: Path, data: Path
) -> None:
    """Also of those that are named after it, and of those that are never read."""
    seen = tmp_path / "seen.json"
    options = make("environment", str(seen))
    variables = {"P": "a", "Q": "b", "R": "c", "VAULT_TOKEN": "for it to use"}
    options = replace(options, environment={**options.environment, **variables})
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("pgp-locked.sec.gpg", "rsa2048.pem"):
        (folder / name).write_bytes((data / "keys" / name).read_bytes())
    recipient = parse_recipient("provider:acme", options)
    locked = f"{data}/keys/pgp-locked.sec.gpg:env=P"
    parse_keyring([locked, "provider:acme", f"{folder}:env=Q"], options)
    wrap([recipient], SECRET)
    found = json.loads(seen.read_text())["environ"]
    assert found.keys() == {"PATH", "LC_ALL", "R", "VAULT_TOKEN"}


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (("flood", "stdout"), "acme answered with over 2097152 bytes"),
        (("say", "not json"), "does not keep to the protocol: the answer is not valid JSON"),
        (("say", ""), "does not keep to the protocol"),
        (("say", '{"keyunwrapresults":{"optsdata":"b2s="}}'), "has no keywrapresults"),
        (("say", '{"keywrapresults":{"annotation":[256]}}'), "numbers from 0 to 255"),
        (("say", '{"keywrapresults":{"annotation":{"a":1}}}'), "neither base64 text nor an array"),
        (("say", '{"KEYWRAPRESULTS":{"annotation":"b2s="}}'), "other readers"),
        (("absent",), "exit status 1"),
    ],
)
def test_what_programs_do_wrong(
    make: Callable[..., KeyOptions], way: tuple[str, ...], message: str
) -> None:
    with pytest.raises(KeyServiceError, match=message):
        wrapped(make(*way))


def test_what_a_program_complains_about(make: Callable[..., KeyOptions]) -> None:
    with pytest.raises(KeyServiceError) as caught:
        wrapped(make("fail"))
    assert str(caught.value) == "key provider acme failed: exit status 7: ?[31mno such key: …"
    assert SECRET_LOOKING not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n  first \nsecond", "first"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'op'\n", "KeyError: 'op'"),
        ("a\x1b\u202eb\r", "a??b"),
        ("x " * 300, "x " * 99 + "x…"),
        ("no " + "Ab3/" * 8 + "=, sorry", "no …, sorry"),
        ("/usr/lib/acme/keys: not found", "/usr/lib/acme/keys: not found"),
    ],
)
def test_words_of_others(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_one_that_does_not_listen(make: Callable[..., KeyOptions]) -> None:
    options = make("deaf", "x")
    recipient = parse_recipient("provider:acme", options)
    big = b"x" * 60_000  # more than a pipe holds
    assert wrap([recipient], big) == {"provider.acme": [b"ok"]}


@pytest.mark.parametrize("way", [("hang",), ("flood", "stderr")])
def test_time_limit(make: Callable[..., KeyOptions], way: tuple[str, ...]) -> None:
    with pytest.raises(KeyServiceError, match=r"did not answer within 0\.4 seconds") as caught:
        wrapped(make(*way, provider_timeout=0.4))
    assert "--provider-timeout" in str(caught.value.hint)


def test_its_children_end_with_it(make: Callable[..., KeyOptions], tmp_path: Path) -> None:
    mark = tmp_path / "child"
    with pytest.raises(KeyServiceError, match="did not answer"):
        wrapped(make("hang-with-child", str(mark), provider_timeout=1.0))
    _wait_until_gone(int(mark.read_text()))


def test_what_it_leaves_behind_is_not_waited_for(
    make: Callable[..., KeyOptions], tmp_path: Path, key: str
) -> None:
    mark = tmp_path / "child"
    packets = wrapped(make("leave-child", key, str(mark), provider_timeout=30.0))
    os.kill(int(mark.read_text()), signal.SIGKILL)
    assert len(packets) == 1


def test_a_signal_ends_it_as_well(tmp_path: Path, keys: Path) -> None:
    """The whole program is stopped while a provider hangs."""
    from support.cli import command
    from support.images import simple_image

    mark = tmp_path / "child"
    path = configuration(tmp_path / "c.json", acme=["hang-with-child", str(mark)])
    image = simple_image(tmp_path / "app")
    process = subprocess.Popen(
        command(
            *("encrypt", image.reference(), f"oci:{tmp_path}/sealed:v1", "-r", "provider:acme"),
            *("--keyprovider-config", path),
        ),
        stderr=subprocess.PIPE,
    )
    while not (mark.exists() and mark.read_text()):
        assert process.poll() is None
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    _wait_until_gone(int(mark.read_text()))


def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    script = tmp_path / "provider"
    script.write_text("#!/absent/interpreter\n")
    ways = ((str(script), "permission denied"), ("/absent/provider", "no such file or directory"))
    for path, reason in ways:
        document = {"key-providers": {"acme": {"cmd": {"path": path}}}}
        (tmp_path / "c.json").write_text(json.dumps(document))
        options = KeyOptions(provider_files=(str(tmp_path / "c.json"),))
        with pytest.raises(KeyServiceError, match=f"{path} cannot be started: {reason}"):
            wrapped(options)


def test_many_threads(make: Callable[..., KeyOptions], key: str) -> None:
    options = make("aes", key)
    recipients = [parse_recipient("provider:acme", options)]
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.extend(wrap(recipients, SECRET)["provider.acme"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    identity = parse_identity("provider:acme", options)
    assert len(set(found)) == 8
    assert identity.unwrap("provider.acme", found[0]) == SECRET


def test_the_fake_is_a_program_of_its_own(key: str) -> None:
    done = subprocess.run(
        [sys.executable, providers.__file__, "aes", key],
        input=b'{"op":"keywrap","keywrapparams":{"optsdata":"YQ=="}}',
        capture_output=True,
        check=True,
    )
    assert b"keywrapresults" in done.stdout


def test_errors_are_ours(make: Callable[..., KeyOptions]) -> None:
    identity = parse_identity("provider:acme", make("say", "{}"))
    with pytest.raises(BoltsealError):
        identity.unwrap("provider.acme", b"\x00")
    assert identity.is_remote  # type: ignore[attr-defined]


def _wait_until_gone(pid: int) -> None:
    """An orphan that was killed is gone as soon as whoever inherited it notices."""
    with suppress(FileNotFoundError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            threading.Event().wait(0.02)
