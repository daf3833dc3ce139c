"""`boltseal-image-verifier`: which images containerd 2 may pull, and what if it cannot tell."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import GZIP, Layout, add_manifest, tar_bytes
from support.registry import Registry, running
from support.verifier import PROGRAM, Judgement, ask, ask_by_containerd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Registry]:
    """`app:v1` for a key, and `app:plain` in the same repository."""
    folder = tmp_path_factory.mktemp("verifier")
    layout = Layout(folder / "app")
    entry = add_manifest(
        layout, [tar_bytes({"secret": b"x"}), tar_bytes({"more": b"y"})], [GZIP] * 2
    )
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    with running(folder / "registry") as found:
        to = found.reference("app:v1")
        how = ("-r", f"jwe:{keys}/p256.pub.pem", "--layer", "1")
        assert boltseal("encrypt", "-q", layout.reference(), to, *how).code == 0
        assert boltseal("copy", "-q", layout.reference(), found.reference("app:plain")).code == 0
        yield found


def digest_of(registry: Registry, tag: str) -> str:
    return boltseal("digest", registry.reference(f"app:{tag}")).out.strip()


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "image-verifier.toml"
        path.write_text(text)
        path.chmod(0o644)
        return path

    return write


@pytest.fixture(params=["imitated", "containerd"])
def judge(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path, str, str], Judgement]:
    """Both ways of asking."""
    if request.param == "imitated":
        return ask
    return lambda policy, name, digest: ask_by_containerd(tmp_path / "bin", policy, name, digest)


def test_who_may_pull(
    registry: Registry,
    keys: Path,
    policy: Callable[[str], Path],
    judge: Callable[[Path, str, str], Judgement],
) -> None:
    name, digest = f"{registry.host}/app:v1", digest_of(registry, "v1")
    found = judge(policy(f'keys = ["{keys}/p256.pem"]'), name, digest)
    assert found.accepted
    assert (
        f"the keys of this host open all of docker://{registry.host}/app@{digest}" in found.reason
    )
    found = judge(policy(f'keys = ["{keys}/other.pem"]'), name, digest)
    assert not found.accepted
    assert "no key of this host opens" in found.reason
    assert "layer 1: no key given opens it (wrapped by jwe)" in found.reason
    plain = digest_of(registry, "plain")
    assert judge(policy(f'keys = ["{keys}/other.pem"]'), name, plain).accepted
    found = judge(policy(f'keys = ["{keys}/other.pem"]\nplain = "refuse"'), name, plain)
    assert not found.accepted
    assert "is not encrypted, and such images are refused" in found.reason


def test_the_digest_counts_and_not_the_tag(
    registry: Registry, keys: Path, policy: Callable[[str], Path]
) -> None:
    """Whatever `v1` is by now."""
    path = policy(f'keys = ["{keys}/other.pem"]\nplain = "accept"')
    assert not ask(path, f"{registry.host}/app:plain", digest_of(registry, "v1")).accepted
    assert ask(path, f"{registry.host}/app:v1", digest_of(registry, "plain")).accepted


def test_what_is_exempt_is_not_looked_at(
    registry: Registry, keys: Path, policy: Callable[[str], Path]
) -> None:
    digest = digest_of(registry, "v1")
    path = policy(f'keys = ["{keys}/other.pem"]\nexempt = ["{registry.host}/app"]')
    assert ask(path, f"{registry.host}/app:v1", digest).accepted
    assert ask(path, f"{registry.host}/app", digest).accepted
    assert not ask(path, f"{registry.host}/application:v1", digest).accepted


@contextmanager
def silent() -> Iterator[str]:
    """A registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in held:
            one.close()


@pytest.mark.parametrize("answer", ["refuse", "accept"])
def test_when_it_cannot_be_told(keys: Path, policy: Callable[[str], Path], answer: str) -> None:
    digest = f"sha256:{'0' * 64}"
    path = policy(f'keys = ["{keys}/p256.pem"]\nunreachable = "{answer}"\nseconds = 1')
    with silent() as host:
        found = ask(path, f"{host}/app:v1", digest)
    assert found.accepted == (answer == "accept")
    assert "no verdict within 1 seconds" in found.reason
    path = policy(f'keys = ["{keys}/p256.pem"]\nunreachable = "{answer}"\nseconds = 20')
    found = ask(path, f"{host}/app:v1", digest)
    assert found.accepted == (answer == "accept")
    assert "there is no connection to" in found.reason


def test_a_provider_that_does_not_open_it_is_an_answer(
    registry: Registry, keys: Path, policy: Callable[[str], Path], tmp_path: Path
) -> None:
    """It fails in the same way as one that is broken, and must not let everything start."""
    program = tmp_path / "provider"
    program.write_text("#!/bin/sh\necho not my key >&2\nexit 3\n")
    program.chmod(0o755)
    config = tmp_path / "providers.json"
    config.write_text(json.dumps({"key-providers": {"mine": {"cmd": {"path": str(program)}}}}))
    sealed = registry.reference("provided:v1")
    wraps = tmp_path / "wraps.json"
    args = ["keyprovider", "exec", "-r", f"jwe:{keys}/p256.pub.pem"]
    cmd = {"path": PROGRAM.replace("-image-verifier", ""), "args": args}
    wraps.write_text(json.dumps({"key-providers": {"mine": {"cmd": cmd}}}))
    done = boltseal("encrypt", "-q", registry.reference("app:plain"), sealed,
                    "-r", "provider:mine", "--keyprovider-config", wraps)  # fmt: skip
    assert done.code == 0, done.err
    digest = boltseal("digest", sealed).out.strip()
    path = policy(
        f'keys = ["provider:mine"]\nkeyprovider-config = "{config}"\nunreachable = "accept"'
    )
    found = ask(path, sealed.removeprefix("docker://"), digest)
    assert not found.accepted
    assert "not my key" in found.reason
    path = policy(f'keys = ["{keys}/p256.pem"]\nunreachable = "accept"')
    assert ask(path, sealed.removeprefix("docker://"), digest).accepted


def test_an_answer_that_is_no_image_is_a_refusal(
    registry: Registry, keys: Path, policy: Callable[[str], Path]
) -> None:
    path = policy(f'keys = ["{keys}/p256.pem"]\nunreachable = "accept"')
    found = ask(path, f"{registry.host}/app:v1", f"sha256:{'0' * 64}")
    assert not found.accepted
    assert "is not in" in found.reason
    found = ask(path, "sha256:" + "0" * 64, digest_of(registry, "v1"))
    assert not found.accepted
    assert "is an identifier" in found.reason
    assert not ask(path, f"{registry.host}/UPPER", digest_of(registry, "v1")).accepted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "the descriptor is not valid JSON"),
        (b"{}", "of another image"),
        (b'{"digest": "sha256:00"}', "of another image"),
        (b'{"digest": 1}', "of another image"),
        (b'{"digest": "a", "digest": "b"}', "twice"),
        (b"[" * 100_000, "the descriptor"),
        (b" " * (1 << 20) + b"  ", "larger than the limit"),
    ],
)
def test_a_descriptor_that_is_none(
    registry: Registry, keys: Path, policy: Callable[[str], Path], given: bytes, words: str
) -> None:
    path = policy(f'keys = ["{keys}/p256.pem"]')
    found = ask(path, f"{registry.host}/app:v1", digest_of(registry, "v1"), given=given)
    assert not found.accepted
    assert words in found.reason
    # of another media type nothing is known, and the digest is enough
    assert ask(path, f"{registry.host}/app:v1", digest_of(registry, "v1"), given=given,
               more={"type": "application/else"}).accepted  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keys = [", "is not valid TOML"),
        ("", "names no keys"),
        ("keys = []", "names no keys"),
        ('keys = "a"', "keys is not a list of texts"),
        ("keys = [1]", "keys is not a list of texts"),
        ('keys = ["k"]\nplain = "maybe"', "plain is neither accept nor refuse"),
        ('keys = ["k"]\nunreachable = true', "unreachable is neither accept nor refuse"),
        ('keys = ["k"]\nseconds = 0', "seconds is between 0 and 300"),
        ('keys = ["k"]\nseconds = nan', "seconds is between 0 and 300"),
        ('keys = ["k"]\nseconds = true', "seconds is not a number"),
        ('keys = ["k"]\ntls-verify = "no"', "tls-verify is neither true nor false"),
        ('keys = ["k"]\nauthfile = "auth.json"', "authfile is not a whole path"),
        ('keys = ["k"]\nfail-open = true', "the unknown name 'fail-open'"),
        ("a" + ".a" * 5_000 + " = 1", "over 200 dots"),
        ("#" * 70_000, "larger than the limit"),
        ('keys = ["/nowhere.pem"]', "does not exist"),
    ],
)
def test_a_policy_that_is_none_refuses(
    registry: Registry, policy: Callable[[str], Path], text: str, words: str
) -> None:
    found = ask(policy(text), f"{registry.host}/app:plain", f"sha256:{'0' * 64}")
    assert not found.accepted
    assert words in found.reason


def test_without_a_policy_of_root_nothing_is_pulled(
    registry: Registry, keys: Path, policy: Callable[[str], Path], tmp_path: Path
) -> None:
    digest = digest_of(registry, "plain")
    found = ask(tmp_path / "nowhere.toml", f"{registry.host}/app:plain", digest)
    assert not found.accepted
    assert "does not exist" in found.reason
    path = policy(f'keys = ["{keys}/p256.pem"]')
    path.chmod(0o666)
    found = ask(path, f"{registry.host}/app:plain", digest)
    assert not found.accepted
    assert "somebody else may change" in found.reason
    path.unlink()
    os.mkfifo(path)  # which nobody writes to
    assert "is not a regular file" in ask(path, f"{registry.host}/app:plain", digest).reason


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "does not exist"),
        (["-name"], "-name needs a value"),
        (["--nonsense", "x"], "'--nonsense' is no option"),
        (["x"], "'x' is no option"),
    ],
)
def test_arguments_that_are_wrong_refuse(arguments: list[str], words: str) -> None:
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 1
    assert words in done.stdout


def test_by_hand(registry: Registry, keys: Path, policy: Callable[[str], Path]) -> None:
    """Without a media type nothing is read from standard input."""
    path = policy(f'keys = ["{keys}/p256.pem"]')
    name, digest = f"{registry.host}/app:plain", digest_of(registry, "plain")
    words = [PROGRAM, "-name", name, "-digest", digest, "--config", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, done.stdout
    words += ["-stdin-media-type", "application/vnd.oci.descriptor.v1+json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.returncode, "the descriptor is not valid JSON" in done.stdout) == (1, True)


def test_help_and_version() -> None:
    for option, words in (("--help", "bin_dir of [plugins."), ("--version", "image-verifier 0")):
        done = subprocess.run([PROGRAM, option], capture_output=True, text=True, check=True)
        assert words in done.stdout
