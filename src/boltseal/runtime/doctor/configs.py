"""Configuration files for containerd, CRI-O and Podman, whole and with comments."""

from __future__ import annotations

import json
from dataclasses import dataclass

from boltseal.errors import UsageError
from boltseal.runtime.doctor.containerd import CRI, CRI_IMAGES
from boltseal.runtime.doctor.processors import GZIP, TAR, WITH_PAYLOAD, ZSTD

RUNTIMES = ("containerd", "crio", "podman")
_FOLDERS = {"containerd": "/etc/containerd/ocicrypt/keys", "crio": "/etc/crio/keys/"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the files are to say. ``decoder`` and ``program`` are whole paths; ``major`` is of
    containerd."""

    decoder: str
    program: str
    keys: str | None = None
    providers: str | None = None
    major: int = 1

    def folder(self, runtime: str) -> str:
        """The folder of keys."""
        return self.keys or _FOLDERS[runtime]


def text(runtime: str, wishes: Wishes) -> str:
    """The file for one of RUNTIMES. Raises UsageError for another name."""
    if runtime == "containerd":
        return _containerd(wishes)
    if runtime == "crio":
        return _crio(wishes)
    if runtime == "podman":
        return _podman(wishes)
    raise UsageError(f"there is no configuration for {runtime!r}", hint=f"use {RUNTIMES}")


def _containerd(wishes: Wishes) -> str:
    images = CRI if wishes.major == 1 else CRI_IMAGES
    lines = [
        f"# /etc/containerd/config.toml for containerd {wishes.major}.x, for encrypted images:",
        "# merge it into yours. (With imports, a plugin's section in here would replace all of",
        "# that plugin's section in yours.)",
        f"version = {2 if wishes.major == 1 else 3}",
        "",
        "# The keys are on this host, and not sent along by whoever asks for the pull.",
        f'[plugins."{images}".image_decryption]',
        '  key_model = "node"',
        "",
    ]
    if wishes.major > 1:
        lines += [
            "# Since 2.1 the transfer service pulls, unless told otherwise; it cannot decrypt.",
            f'[plugins."{images}"]',
            "  use_local_image_pull = true",
            "",
        ]
    lines += [
        "# These two names matter: to no other one containerd sends the layer's wrapped keys. The",
        "# second takes zstd, too; containerd looks at the plain layer to see what it is.",
    ]
    for name, accepts, returns in (
        (WITH_PAYLOAD[0], [TAR, _foreign(TAR)], TAR),
        (WITH_PAYLOAD[1], [GZIP, ZSTD, _foreign(GZIP), _foreign(ZSTD)], GZIP),
    ):
        lines += [
            f"[stream_processors.{_quoted(name)}]",
            "  accepts = [",
            *(f'    "{one}+encrypted",' for one in accepts),
            "  ]",
            f"  returns = {_quoted(returns)}",
            f"  path = {_quoted(wishes.decoder)}",
            f"  args = {json.dumps(_arguments(wishes))}",
            *_environment(wishes),
            "",
        ]
    return "\n".join(lines)


def _foreign(kind: str) -> str:
    """The same for layers that may be somewhere else than in the registry."""
    return kind.replace(".layer.v1", ".layer.nondistributable.v1")


def _arguments(wishes: Wishes) -> list[str]:
    return ["--decryption-keys-path", wishes.folder("containerd")]


def _environment(wishes: Wishes) -> list[str]:
    if wishes.providers is None:
        return []
    return [f"  env = {json.dumps([f'OCICRYPT_KEYPROVIDER_CONFIG={wishes.providers}'])}"]


def _crio(wishes: Wishes) -> str:
    lines = [
        "# /etc/crio/crio.conf.d/50-boltseal.conf",
        "# Every file below this folder is a key. CRI-O follows no links in it: let",
        "# boltseal keys sync copy keys from where they are mounted.",
        "[crio.runtime]",
        f"decryption_keys_path = {_quoted(wishes.folder('crio'))}",
        "",
    ]
    if wishes.providers is not None:
        lines += [
            "# Key providers are named in the environment of the service, in",
            "# /etc/systemd/system/crio.service.d/boltseal.conf:",
            "#   [Service]",
            f"#   Environment=OCICRYPT_KEYPROVIDER_CONFIG={wishes.providers}",
            "",
        ]
    lines += [
        "# To refuse starts, too: boltseal hook print-config crio",
        "",
    ]
    return "\n".join(lines)


def _podman(wishes: Wishes) -> str:
    key = wishes.keys or "/etc/boltseal/keys/prod.pem"
    lines = [
        "# /etc/containers/containers.conf.d/50-boltseal.conf",
        "# Podman and Buildah have no folder of keys. A key is named with every pull:",
        f"#   buildah pull --decryption-key {key} docker://…   (Podman as of 4.4, too)",
        "# Podman then runs the image from the storage that both use.",
    ]
    if wishes.providers is not None:
        lines += [
            "# Key providers are named in the environment; env below would come too late, since",
            "# it is read when the programs start:",
            f"#   export OCICRYPT_KEYPROVIDER_CONFIG={wishes.providers}",
            "#   buildah pull --decryption-key provider:boltseal docker://…",
        ]
    lines += [
        "[engine]",
        "# Where hooks are looked for. One that refuses to start what no key of this host opens is",
        "# printed by: boltseal hook print-config podman",
        'hooks_dir = ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"]',
        "",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A TOML basic string; JSON writes the same for paths without control characters."""
    if not text.isprintable():
        raise UsageError("a path has characters that cannot be written into a configuration")
    return json.dumps(text, ensure_ascii=False)
