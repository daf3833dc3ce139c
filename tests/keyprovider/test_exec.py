"""``boltseal keyprovider exec`` and ``print-config``: one request, one answer, nothing else."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.keywrap import envelope
from boltseal.keywrap.keyprovider import protocol
from boltseal.keywrap.pq.hybrid import PrivateKey
from support.cli import Run, boltseal
from support.provider_messages import SECRET, UNWRAP, WRAP

if TYPE_CHECKING:
    from pathlib import Path

ENABLED = protocol.wrap_question("acme", ["Enabled"], SECRET)


def ask(request: bytes, *arguments: object) -> Run:
    before = sys.stdin
    with tempfile.TemporaryFile("w+b") as file:
        file.write(request)
        file.seek(0)
        sys.stdin = io.TextIOWrapper(file)
        try:
            run = boltseal("keyprovider", "exec", *arguments)
            sys.stdin.detach()
        finally:
            sys.stdin = before
    for hidden in ("NqGEai", "TnFHRWFpU"):  # the secret, and its base64
        assert hidden not in run.err
    return run


def wrapped(request: bytes, *arguments: object) -> bytes:
    run = ask(request, *arguments)
    assert run.code == 0, run.err
    return protocol.read_answer(run.out.encode(), protocol.WRAP)


def unwrap(packet: bytes, *arguments: object) -> Run:
    return ask(protocol.unwrap_question("acme", ["Enabled"], packet), *arguments)


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    """``pq.pem`` and ``pq.pub.pem``."""
    run = boltseal("keygen", "-a", "xwing", tmp_path / "pq.pem")
    assert run.code == 0, run.err
    return tmp_path


def test_there_and_back(keys: Path) -> None:
    packet = wrapped(WRAP, "-r", f"one=jwe:{keys}/p256.pub.pem", "--name", "acme")
    assert [scheme for scheme, _ in envelope.open_up(packet)] == ["jwe"]
    run = unwrap(packet, "-k", f"{keys}/other.pem", "-k", f"{keys}/p256.pem")
    assert run.code == 0
    assert protocol.read_answer(run.out.encode(), protocol.UNWRAP) == SECRET
    assert " keyunwrap jwe released by " in run.err
    assert len(run.err.splitlines()) == 1
    quiet = unwrap(packet, "-q", "-k", f"{keys}/p256.pem")
    assert (quiet.code, quiet.err) == (0, "")


def test_private_keys_in_a_request_are_not_used(keys: Path) -> None:
    """Go sends everybody the keys that were named on its command line."""
    packet = wrapped(ENABLED, "-r", f"jwe:{keys}/p256.pub.pem")
    request = json.loads(UNWRAP)
    request["keyunwrapparams"]["annotation"] = base64.b64encode(packet).decode()
    private = base64.b64encode((keys / "p256.pem").read_bytes()).decode()
    request["keyunwrapparams"]["dc"]["Parameters"]["privkeys"] = [private]
    run = ask(json.dumps(request).encode(), "-k", f"{keys}/other.pem")
    assert (run.code, run.out) == (3, "")


@pytest.mark.parametrize(
    ("replies", "kind"), [((), str), (("--replies", "text"), str), (("--replies", "numbers"), list)]
)
def test_shapes_of_replies(keys: Path, replies: tuple[str, ...], kind: type) -> None:
    run = ask(ENABLED, "-r", f"jwe:{keys}/p256.pub.pem", *replies)
    assert isinstance(json.loads(run.out)["keywrapresults"]["annotation"], kind)


def test_numbers_are_answered_with_numbers(keys: Path) -> None:
    request = json.loads(ENABLED)
    request["keywrapparams"]["optsdata"] = list(SECRET)
    run = ask(json.dumps(request).encode(), "-r", f"jwe:{keys}/p256.pub.pem")
    annotation = json.loads(run.out)["keywrapresults"]["annotation"]
    run = unwrap(bytes(annotation), "-k", f"{keys}/p256.pem")
    assert protocol.read_answer(run.out.encode(), protocol.UNWRAP) == SECRET


def schemes_for(parameters: list[str], *arguments: object) -> dict[str, int] | str:
    """How many packets of each protocol, or the error."""
    run = ask(protocol.wrap_question("boltseal", parameters, SECRET), *arguments)
    if run.code:
        assert run.out == ""
        assert len(run.err.splitlines()) == 1
        return run.err
    found: dict[str, int] = {}
    packet = protocol.read_answer(run.out.encode(), protocol.WRAP)
    for scheme, inner in envelope.open_up(packet):
        count = len(json.loads(inner).get("recipients", [0])) if scheme == "jwe" else 1
        found[scheme] = found.get(scheme, 0) + count
    return found


def test_which_recipients_a_parameter_means(data: Path, keys: Path) -> None:
    given = (
        *("-r", f"team=jwe:{keys}/p256.pub.pem", "-r", f"jwe:{keys}/p384.pub.pem"),
        *("-r", f"pkcs7:{data}/keys/rsa2048.crt.pem", "--allow-expired"),
    )
    assert schemes_for(["Enabled"], *given) == {"jwe": 2, "pkcs7": 1}
    assert schemes_for(["team"], *given) == {"jwe": 1}
    assert schemes_for([f"jwe:{keys}/p256.pub.pem"], *given) == {"jwe": 1}
    assert schemes_for([f"jwe:{keys}/p384.pub.pem", "team", "team"], *given) == {"jwe": 2}
    assert schemes_for(["team", "Enabled"], *given) == {"jwe": 2, "pkcs7": 1}
    for text in ("Team", "", f"jwe:{keys}/p521.pub.pem"):
        assert "none of the recipients" in schemes_for([text], *given)
    assert "names no recipient" in schemes_for([], *given)
    assert "no recipients of its own" in schemes_for(["Enabled"])


def test_any_recipient(keys: Path) -> None:
    text = f"jwe:{keys}/p521.pub.pem"
    assert schemes_for([text], "--any-recipient") == {"jwe": 1}
    assert "names no protocol" in schemes_for(["x"], "--any-recipient")
    assert "no recipients of its own" in schemes_for(["Enabled"], "--any-recipient")


def test_post_quantum_recipients_do_not_mix(keys: Path, hybrid: Path) -> None:
    given = ("-r", f"pq=pq:{hybrid}/pq.pub.pem", "-r", f"jwe:{keys}/p256.pub.pem")
    assert "quantum" in schemes_for(["Enabled"], *given)
    assert "quantum" in schemes_for(["pq"], *given)  # wrong already as it was started
    found = schemes_for(["Enabled"], *given, "--allow-classical")
    assert found == {"jwe": 1, "provider.boltseal-pq": 1}


@pytest.mark.parametrize("count", [1, 2])
def test_post_quantum_packets(hybrid: Path, tmp_path: Path, count: int) -> None:
    """One packet alone is not put into an envelope: it says what it is."""
    others = PrivateKey.generate()
    (tmp_path / "other.pub.pem").write_bytes(others.public_key().to_pem())
    given = [f"-rpq:{hybrid}/pq.pub.pem", f"-rpq:{tmp_path}/other.pub.pem"][:count]
    packet = wrapped(ENABLED, *given)
    assert (envelope.kind(packet) == "pq/1") == (count == 1)
    assert unwrap(packet, "-k", f"{hybrid}/pq.pem").code == 0


def test_several_providers_need_a_name(keys: Path) -> None:
    run = ask(WRAP, "-r", f"one=jwe:{keys}/p256.pub.pem")
    assert (run.code, run.out) == (1, "")
    assert "--name" in run.err


@pytest.mark.parametrize(
    ("packet", "code", "message"),
    [
        (b"somebody else's", 1, "not wrapped by Boltseal's key provider"),
        (b'{"boltseal":"envelope/2","keys":{}}', 1, "not wrapped by Boltseal's"),
        (b'{"boltseal":"envelope/1","keys":{}}', 1, "not an envelope"),
        (b'{"boltseal":"envelope/1","keys":{"jwe":"YQ=="}}', 1, "not lists of base64"),
        (b'{"boltseal":"envelope/1","keys":{"jwe":["YQ"]}}', 1, "not base64"),
        (b'{"boltseal":"envelope/1","keys":{"\\u0007":["YQ=="]}}', 1, "without a usable name"),
        (b'{"boltseal":"envelope/1","keys":{"jwe":["YQ=="]}}', 1, "JWE"),
        (b'{"boltseal":"envelope/1","keys":{"provider.x":["YQ=="]}}', 3, "no key given opens it"),
    ],
)
def test_packets_that_do_not_open(keys: Path, packet: bytes, code: int, message: str) -> None:
    run = unwrap(packet, "-k", f"{keys}/p256.pem")
    assert (run.code, run.out) == (code, "")
    assert message in run.err
    assert len(run.err.splitlines()) == 1


def test_a_key_that_does_not_fit(keys: Path) -> None:
    packet = wrapped(WRAP, "-r", f"one=jwe:{keys}/p256.pub.pem", "--name", "acme")
    for given, message in (((), "no key was given"), (("-k", f"{keys}/p384.pem"), "p384.pem (EC")):
        run = unwrap(packet, *given)
        assert (run.code, run.out) == (3, "")
        assert message in run.err
        assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("request_", [b"", b"{}", b"\xff", b"[" * 99999, b" " * 3_000_000])
def test_requests_that_are_none(keys: Path, request_: bytes) -> None:
    run = ask(request_, "-k", f"{keys}/p256.pem")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error: the request")
    assert len(run.err.splitlines()) == 1


def test_keys_of_the_other_operation_may_be_missing(keys: Path) -> None:
    absent = ("-k", "/absent/key.pem", "--name", "acme", "-r", f"one=jwe:{keys}/p256.pub.pem")
    packet = wrapped(WRAP, *absent)
    assert unwrap(packet, "-k", f"{keys}/p256.pem", "-r", "jwe:/absent/key.pub.pem").code == 0
    assert unwrap(packet, *absent).code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-r", "Enabled=jwe:{keys}/p256.pub.pem"), "stands for all recipients"),
        (
            ("-r", "a=jwe:{keys}/p256.pub.pem", "-r", "a=jwe:{keys}/p384.pub.pem"),
            "two recipients are called a",
        ),
        (("-r", "a=b=jwe:{keys}/p256.pub.pem"), "names no protocol"),
    ],
)
def test_wrong_recipients(keys: Path, arguments: tuple[str, ...], message: str) -> None:
    run = ask(WRAP, *(one.format(keys=keys) for one in arguments))
    assert (run.code, run.out) == (1, "")
    assert message in run.err


def test_wrong_usage() -> None:
    for arguments in ((), ("exec", "--frobnicate"), ("serve",), ("exec", "--replies", "x")):
        run = boltseal("keyprovider", *arguments)
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith("error: ")


def config(*arguments: object) -> Any:
    run = boltseal("keyprovider", "print-config", *arguments)
    assert run.code == 0, run.err
    return json.loads(run.out)["key-providers"]


def test_print_config(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(keys)
    (keys / "word").write_text("x")
    printed = config(
        *("-k", "p256.pem:file=word", "-k", "pgp:", "-r", "team=jwe:p256.pub.pem"),
        *("-r", "pgp:word", "--any-recipient", "--no-kid", "--provider-timeout", "5"),
    )
    args = printed["boltseal"]["cmd"]["args"]
    assert args[args.index("keyprovider") :] == [
        *("keyprovider", "exec", "--quiet"),
        *("--key", f"{keys}/p256.pem:file={keys}/word", "--key", "pgp:"),
        *("--recipient", f"team=jwe:{keys}/p256.pub.pem", "--recipient", "pgp:word"),
        *("--any-recipient", "--no-kid", "--provider-timeout", "5.0"),
    ]
    assert config("--name", "acme", "--listen", "unix:/run/x")["acme"] == {"grpc": "unix:/run/x"}


@pytest.mark.parametrize(
    "option",
    [
        "-kp256.pem:pass=hunter2",
        "-kp256.pem:hunter2",
        "-k/later/mounted.pem:pass=hunter2",
        "-k/later/mounted.pem:hunter2",
        "-kpkcs11:p11.yaml:pass=hunter2",
        "-kpkcs11:p11.yaml:hunter2",
        "-kpkcs11:token=a;object=b?pin-value=hunter2",
        "-kpkcs11:pkcs11:object=a?pin-value=hunter2",
        "-rpkcs11:token=a;object=b?pin-value=hunter2",
        "-rteam=pkcs11:token=a?module-path=/x&pin-value=hunter2",
        "-rteam=jwe:p256.pem:pass=hunter2",
        "-rteam=pkcs7:p256.pem:hunter2",
        "-rp256.pem:pass=hunter2",
    ],
)
def test_a_configuration_holds_no_secret(
    keys: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(keys)
    run = boltseal("keyprovider", "print-config", option)
    assert (run.code, run.out) == (2, "")
    assert "would stand readable" in run.err
    assert "hunter2" not in run.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-kp256.pem:fd=3", "a descriptor is not there any more"),
        ("-kjwe:p256.pem", "named without jwe:"),
        ("-rp256.pem:hunter2", "names no protocol"),
        ("-rpgp", "names no protocol"),
    ],
)
def test_what_cannot_be_in_a_configuration(option: str, message: str) -> None:
    run = boltseal("keyprovider", "print-config", option)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert "hunter2" not in run.err


def test_every_file_in_a_configuration_has_its_full_path(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keys)
    run = boltseal(
        *(
            "keyprovider",
            "print-config",
            "-k",
            "later.pem:file=later.txt",
            "-k",
            "p256.pem:env=WORD",
        ),
        *("-k", "pkcs11:p11.yaml:file=pin", "-k", "pkcs11:token=t?pin-source=/pin"),
        *("-k", "awskms:///alias/x", "-r", "pkcs7:later.crt", "-r", "a=pkcs11:p11.yaml"),
        *("-r", "b=pkcs11:token=t?pin-source=/pin", "-r", "provider:x:y", "--gnupg-home", "gnupg"),
        *("--ca", "roots.pem", "--keyprovider-config", "c.json"),
    )
    assert run.code == 0, run.err
    args = json.loads(run.out)["key-providers"]["boltseal"]["cmd"]["args"]
    assert args[args.index("--quiet") + 1 :] == [
        *("--key", f"{keys}/later.pem:file={keys}/later.txt", "--key", f"{keys}/p256.pem:env=WORD"),
        *("--key", f"pkcs11:{keys}/p11.yaml:file={keys}/pin"),
        *("--key", "pkcs11:token=t?pin-source=/pin", "--key", "awskms:///alias/x"),
        *("--recipient", f"pkcs7:{keys}/later.crt", "--recipient", f"a=pkcs11:{keys}/p11.yaml"),
        *("--recipient", "b=pkcs11:token=t?pin-source=/pin", "--recipient", "provider:x:y"),
        *("--gnupg-home", f"{keys}/gnupg", "--ca", f"{keys}/roots.pem"),
        *("--keyprovider-config", f"{keys}/c.json"),
    ]
    missing = (
        "later.pem",
        "later.txt",
        "p11.yaml",
        "pin",
        "later.crt",
        "gnupg",
        "roots.pem",
        "c.json",
    )
    assert run.err.splitlines() == [f"note: {keys}/{one} is not there (yet)" for one in missing]


def test_notes_beside_a_configuration(data: Path, keys: Path) -> None:
    run = boltseal("keyprovider", "print-config")
    assert "neither -k nor -r is given" in run.err
    for quiet in (
        ("--any-recipient",),
        ("-q",),
        ("--listen", "unix:/x"),
        ("-k", keys / "p256.pem"),
    ):
        assert boltseal("keyprovider", "print-config", *quiet).err == ""
    for name in ("rsa2048.enc-pkcs8.pem", "rsa2048.enc-pkcs1.pem"):
        key = data / "keys" / name
        run = boltseal("keyprovider", "print-config", "-k", key)
        assert f"{key} has a passphrase" in run.err
        assert boltseal("keyprovider", "print-config", "-k", f"{key}:env=X").err == ""


def test_a_socket_without_its_full_path() -> None:
    for mode in ("print-config", "serve"):
        run = boltseal("keyprovider", mode, "--listen", "unix:keys.sock")
        assert run.code == 2
        assert "hint:  write unix:$PWD/keys.sock" in run.err


def test_standard_output_is_the_answers_alone() -> None:
    assert "--json" not in boltseal("keyprovider", "exec", "--help").out
    assert "--json" in boltseal("keyprovider", "serve", "--help").out
    run = ask(ENABLED, "--json")
    assert run.code == 2


def test_what_is_printed_works(keys: Path) -> None:
    printed = config("-k", keys / "p256.pem", "-r", f"jwe:{keys}/p256.pub.pem")["boltseal"]["cmd"]
    done = subprocess.run(
        [printed["path"], *printed["args"]],
        input=protocol.wrap_question("boltseal", ["Enabled"], SECRET),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert envelope.open_up(protocol.read_answer(done.stdout, protocol.WRAP))
