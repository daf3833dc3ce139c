"""What `boltseal doctor --print-config` prints runs on Debian's containerd, as does our hook."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support import containerd
from support.cli import boltseal
from support.containerd import COMMAND, Containerd, runnable
from support.containerd_printed import Printed, Second, doctor
from support.cri import CriError
from support.images import GZIP, TAR, ZSTD, Layout
from support.peers import require
from support.registry import Registry, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Registry]:
    """With images called by the kinds of their layers, and the pause image."""
    folder = tmp_path_factory.mktemp("printed")
    with running(folder / "registry") as found:
        for name, kind in {"pause": GZIP, "gzip": GZIP, "zstd": ZSTD, "tar": TAR}.items():
            layout = Layout(folder / name)
            runnable(layout, (kind, kind), "v1", f"secret of {name}")
            to = found.reference(f"{name}:v1")
            how = () if name == "pause" else ("-r", f"jwe:{keys}/p256.pub.pem")
            done = boltseal("copy" if not how else "encrypt", "-q", layout.reference(), to, *how)
            assert done.code == 0, done.err
        yield found


@pytest.fixture(scope="module")
def daemon(registry: Registry) -> Iterator[Printed]:
    with containerd.running(registry, kind=Printed) as found:
        assert isinstance(found, Printed)
        yield found


def looked_at(daemon: Containerd, *arguments: object) -> list[dict[str, Any]]:
    config = daemon.folder / "config.toml"
    done = doctor("--json", "--config", f"containerd={config}", "--only", "containerd",
                  *map(str, arguments))  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.out)["findings"]
    return [one for one in found if one["subject"] == "containerd"]


@pytest.mark.parametrize("name", ["gzip", "zstd", "tar"])
def test_the_printed_configuration_runs(
    daemon: Printed, registry: Registry, keys: Path, name: str
) -> None:
    image = f"{registry.host}/{name}:v1"
    daemon.use_key(keys / "p256.pem")
    daemon.cri.pull(image)
    assert daemon.cri.run(image, COMMAND) == f"secret of {name}"


def test_the_doctor_says_so_before(daemon: Printed, registry: Registry, keys: Path) -> None:
    image = registry.reference("zstd:v1")
    daemon.keys.chmod(0o700)
    daemon.use_key(keys / "p256.pem")
    found = looked_at(daemon, "--image", image)
    assert {one["state"] for one in found} == {"ok"}, found
    assert {"what containerd reads", "this image"} <= {one["check"] for one in found}
    assert found[-1]["message"].startswith("opens all encrypted layers of sha256:")
    daemon.use_key(keys / "other.pem")
    found = looked_at(daemon, "--image", image)
    assert found[-1]["state"] == "fail"
    assert found[-1]["message"].startswith("refuses it: no key given opens it (wrapped by jwe)")
    plain = looked_at(daemon, "--image", registry.reference("pause:v1"))
    assert "any host runs it" in plain[-1]["message"]


def test_what_was_unpacked_does_not_start_without_the_key(
    daemon: Printed, registry: Registry, keys: Path
) -> None:
    """As `test_what_was_unpacked_once_starts_without_a_key` shows, it would without the hook."""
    image = f"{registry.host}/gzip:v1"
    daemon.use_key(keys / "p256.pem")
    daemon.cri.pull(image)
    daemon.use_key(keys / "other.pem")
    identifier = daemon.cri.pull(image)  # nothing is unpacked again
    assert identifier.startswith("sha256:")
    for name in (image, identifier):  # kubelet names it by its identifier
        with pytest.raises(CriError) as caught:
            daemon.cri.run(name, COMMAND)
        said = str(caught.value)
        assert "boltseal refuses to start" in said
        assert f"no key of this host opens docker://{registry.host}/gzip" in said
        daemon.cri.remove_all()
    daemon.use_key(keys / "p256.pem")
    assert daemon.cri.run(image, COMMAND) == "secret of gzip"


def test_plain_images_start_unless_the_policy_refuses_them(
    daemon: Printed, registry: Registry, keys: Path
) -> None:
    image = f"{registry.host}/pause:v1"
    daemon.use_key(keys / "p256.pem")
    assert daemon.cri.run(image, COMMAND) == "secret of pause"
    daemon.decide_by(f'keys = ["{daemon.keys}"]\nplain = "refuse"\n')
    with pytest.raises(CriError, match="is not encrypted, and such images are refused"):
        daemon.cri.run(image, COMMAND)
    daemon.cri.remove_all()
    daemon.decide_by(
        f'keys = ["{daemon.keys}"]\nplain = "refuse"\nexempt = ["{registry.host}/*"]\n'
    )
    assert daemon.cri.run(image, COMMAND) == "secret of pause"
    daemon.decide_by(f'keys = ["{daemon.keys}"]\n')


@pytest.mark.skipif(not Second.program, reason="BOLTSEAL_TEST_CONTAINERD2 names no containerd 2")
def test_containerd_2_pulls_with_what_is_printed_for_it(registry: Registry, keys: Path) -> None:
    with containerd.running(registry, kind=Second) as second:
        for name in ("gzip", "zstd", "tar"):
            image = f"{registry.host}/{name}:v1"
            second.use_key(keys / "other.pem")
            with pytest.raises(
                CriError, match=r"boltseal-ctd-decoder: sha256:.* no key given opens"
            ):
                second.cri.pull(image)
            second.use_key(keys / "p256.pem")
            second.cri.pull(image)


def test_the_form_of_what_is_printed_for_cri_o() -> None:
    """CRI-O is not in Debian 12: that it is TOML with the setting in its section is all we see."""
    import tomllib

    done = boltseal("doctor", "--print-config", "crio", "--keys-path", "/k/e y", "--config",
                    "keyprovider=/etc/p.json")  # fmt: skip
    assert tomllib.loads(done.out) == {"crio": {"runtime": {"decryption_keys_path": "/k/e y"}}}
    assert "#   Environment=OCICRYPT_KEYPROVIDER_CONFIG=/etc/p.json" in done.out
    assert boltseal("doctor", "--print-config", "crio", "--keys-path", "/k\ney").code == 2


def test_both_forms_are_what_containerd_itself_reads(tmp_path: Path) -> None:
    """That of containerd 2 is TOML here; no containerd of that version is in Debian 12."""
    import tomllib

    for major, version in (("1", 2), ("2", 3)):
        done = boltseal("doctor", "--print-config", "containerd", "--runtime-version", major)
        assert done.code == 0, done.err
        document = tomllib.loads(done.out)
        assert document["version"] == version
        assert set(document["stream_processors"]) == {
            "io.containerd.ocicrypt.decoder.v1.tar",
            "io.containerd.ocicrypt.decoder.v1.tar.gzip",
        }
    plugin = document["plugins"]["io.containerd.cri.v1.images"]
    assert plugin == {"use_local_image_pull": True, "image_decryption": {"key_model": "node"}}
    path = tmp_path / "config.toml"
    path.write_text(
        boltseal("doctor", "--print-config", "containerd", "--runtime-version", "1").out
    )
    subprocess.run(
        [require("containerd"), "--config", path, "config", "dump"], check=True, capture_output=True
    )
