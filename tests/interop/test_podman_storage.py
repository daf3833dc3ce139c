"""Buildah pulls what we pushed, Podman runs it from their storage, and a hook refuses starts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.containerd import SECRET, runnable
from support.images import GZIP, Layout
from support.podman import Storage, storage
from support.registry import Registry, running

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = ["/bin/busybox", "cat", "/secret"]
PROGRAM = str(Path(sys.executable).with_name("boltseal"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Registry]:
    """`app:v1` for a key, `plain:v1` for everybody, and `same:v1` with what is in `app:v1`."""
    folder = tmp_path_factory.mktemp("podman")
    with running(folder / "registry") as found:
        for name, secret in {"app": SECRET, "same": SECRET, "plain": "for all\n"}.items():
            layout = Layout(folder / name)
            runnable(layout, (GZIP, GZIP), "v1", secret)
            how = ("-r", f"jwe:{keys}/rsa2048.pub.pem") if name == "app" else ()
            to = found.reference(f"{name}:v1")
            done = boltseal("encrypt" if how else "copy", "-q", layout.reference(), to, *how)
            assert done.code == 0, done.err
        yield found


@pytest.fixture(scope="module")
def pulled(registry: Registry, keys: Path) -> Iterator[Storage]:
    """All images, pulled with the key; two of them are the same one to the storage."""
    with storage() as found:
        for name in ("app", "plain", "same"):
            reference = registry.reference(f"{name}:v1")
            done = found.pull(reference, "--decryption-key", keys / "rsa2048.pem")
            assert done.returncode == 0, done.stderr
        yield found


class Hook:
    """The folder of hooks that Podman is given, and the policy of ours in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hooks.d"
        self.folder.mkdir()
        self.policy = folder / "image-verifier.toml"
        printed = boltseal("hook", "print-config", "podman", "--config", self.policy)
        assert printed.code == 0, printed.err
        document = json.loads(printed.out)
        document["hook"]["path"] = PROGRAM
        (self.folder / "50-boltseal.json").write_text(json.dumps(document))

    def decide_by(self, text: str) -> None:
        self.policy.write_text(text)
        self.policy.chmod(0o644)


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


def test_podman_runs_what_buildah_pulled(pulled: Storage, registry: Registry) -> None:
    done = pulled.run(f"{registry.host}/app:v1", *COMMAND)
    assert (done.returncode, done.stdout) == (0, SECRET), done.stderr


def test_podman_takes_the_printed_configuration(pulled: Storage, registry: Registry) -> None:
    printed = boltseal("doctor", "--print-config", "podman").out
    conf = pulled.folder / "containers.conf"
    own = conf.read_text()
    sections, _, engine = own.partition("[engine]\n")
    conf.write_text(f"{sections}{printed}{engine}")
    try:
        done = pulled.run(f"{registry.host}/app:v1", *COMMAND)
        assert (done.returncode, done.stdout) == (0, SECRET), done.stderr
        conf.write_text(f"{sections}{printed}{engine}hooks_dir = 1\n")  # what is printed is read
        assert pulled.run(f"{registry.host}/app:v1", *COMMAND).returncode != 0
    finally:
        conf.write_text(own)


def test_without_the_key_nothing_is_pulled(registry: Registry, keys: Path) -> None:
    with storage() as empty:
        for key in ((), ("--decryption-key", keys / "p256.pem")):
            done = empty.pull(registry.reference("app:v1"), *key)
            assert done.returncode != 0
            assert "decrypting layer" in done.stderr
        assert empty.buildah("images", "-q").stdout == ""


def test_buildah_asks_our_key_provider(registry: Registry, keys: Path, tmp_path: Path) -> None:
    """Debian's Buildah 1.28 was built without key providers; one that BOLTSEAL_TEST_BUILDAH names
    may have them, and our own reading of them is in tests/keyprovider."""
    config = tmp_path / "keyprovider.json"
    args = ["keyprovider", "exec", "-k", f"{keys}/rsa2048.pem",
            "-r", f"jwe:{keys}/rsa2048.pub.pem"]  # fmt: skip
    cmd = {"path": PROGRAM, "args": args}
    config.write_text(json.dumps({"key-providers": {"boltseal": {"cmd": cmd}}}))
    sealed = registry.reference("by-provider:v1")
    source = registry.reference("same:v1")
    done = boltseal("encrypt", "-q", source, sealed, "-r", "provider:boltseal",
                    "--keyprovider-config", config)  # fmt: skip
    assert done.code == 0, done.err
    variable = {"OCICRYPT_KEYPROVIDER_CONFIG": str(config)}
    with storage() as found:
        pulling = found.pull(sealed, "--decryption-key", "provider:boltseal", environment=variable)
        if "BOLTSEAL_TEST_BUILDAH" not in os.environ:
            assert pulling.returncode != 0
            assert "Unable to read file: open provider:boltseal" in pulling.stderr
            return
        assert pulling.returncode == 0, pulling.stderr
        started = found.run(sealed.removeprefix("docker://"), *COMMAND)
        assert (started.returncode, started.stdout) == (0, SECRET), started.stderr


def test_the_hook_refuses_what_no_key_of_the_host_opens(
    pulled: Storage, registry: Registry, keys: Path, hook: Hook
) -> None:
    image = f"{registry.host}/app:v1"
    hook.decide_by(f'keys = ["{keys}/rsa2048.pem"]\n')
    done = pulled.run(image, *COMMAND, hooks=hook.folder)
    assert (done.returncode, done.stdout) == (0, SECRET), done.stderr
    hook.decide_by(f'keys = ["{keys}/other.pem"]\n')
    done = pulled.run(image, *COMMAND, hooks=hook.folder)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "boltseal refuses to start" in done.stderr
    assert f"no key of this host opens docker://{registry.host}/app@sha256:" in done.stderr
    for name in ("plain", "same"):
        done = pulled.run(f"{registry.host}/{name}:v1", *COMMAND, hooks=hook.folder)
        assert done.returncode == 0, done.stderr


def test_a_tag_that_moved_does_not_help(
    pulled: Storage, registry: Registry, keys: Path, hook: Hook
) -> None:
    """What is asked about is what was pulled, by its digest, and not what the tag means now."""
    hook.decide_by(f'keys = ["{keys}/other.pem"]\n')
    kept, moved = registry.reference("kept:v1"), registry.reference("app:v1")
    assert boltseal("copy", "-q", moved, kept).code == 0
    assert boltseal("copy", "-q", registry.reference("plain:v1"), moved).code == 0
    try:
        done = pulled.run(f"{registry.host}/app:v1", *COMMAND, hooks=hook.folder)
        assert done.returncode != 0
        assert "no key of this host opens" in done.stderr
    finally:
        assert boltseal("copy", "-q", kept, moved).code == 0


def test_annotations_of_whoever_starts_it_do_not_count(
    pulled: Storage, registry: Registry, keys: Path, hook: Hook
) -> None:
    hook.decide_by(f'keys = ["{keys}/other.pem"]\n')
    claims = [
        f"--annotation=io.kubernetes.cri.image-name={registry.host}/plain:v1",
        f"--annotation=io.kubernetes.cri-o.ImageName={registry.host}/plain:v1",
        "--annotation=io.kubernetes.cri.container-type=sandbox",
    ]
    for claim in claims:
        done = pulled.podman(
            "run", "--rm", "--pull=never", "--network=host", claim, "--ulimit", "nofile=1024:4096",
            "--ulimit", "nproc=1024:4096", f"{registry.host}/app:v1", *COMMAND, hooks=hook.folder,
        )  # fmt: skip
        assert done.returncode != 0, claim
        assert "no key of this host opens" in done.stderr


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("keys = [\n", "is not valid TOML"),
        ('keys = ["/nowhere.pem"]\n', "does not exist"),
        ("", "names no keys"),
    ],
)
def test_a_broken_policy_refuses(
    pulled: Storage, registry: Registry, hook: Hook, policy: str, words: str
) -> None:
    hook.decide_by(policy)
    done = pulled.run(f"{registry.host}/plain:v1", *COMMAND, hooks=hook.folder)
    assert done.returncode != 0
    assert words in done.stderr
    assert os.path.basename(hook.policy) in done.stderr or "nowhere" in done.stderr
