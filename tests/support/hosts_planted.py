"""What can be wrong with a host, one thing at a time, and what has to be said about it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from support.hosts import (
    CONTAINERD,
    CRIO,
    DECODER,
    GNUPG,
    HOOK,
    KEYS,
    MODULE,
    POLICY,
    PROVIDER,
    PROVIDERS,
    FakeHost,
)

if TYPE_CHECKING:
    from pathlib import Path

GZIP_NAME = '[stream_processors."io.containerd.ocicrypt.decoder.v1.tar.gzip"]'
TAR_NAME = '[stream_processors."io.containerd.ocicrypt.decoder.v1.tar"]'
GZIP = '"application/vnd.oci.image.layer.v1.tar+gzip+encrypted"'
ZSTD = '"application/vnd.oci.image.layer.v1.tar+zstd+encrypted"'
TAR = '"application/vnd.oci.image.layer.v1.tar+encrypted"'
KEY = f"{KEYS}/prod.pem"


def put(host: FakeHost, source: Path, folder: str = KEYS) -> None:
    host.write(f"{folder}/{source.name}", source.read_bytes(), 0o600)


def link(host: FakeHost, name: str, target: str) -> None:
    host.path(name).symlink_to(target)


def remove(host: FakeHost, name: str) -> bool:
    path = host.path(name)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def pipe_instead(host: FakeHost, name: str) -> None:
    remove(host, name)
    os.mkfifo(host.path(name))


def many(host: FakeHost) -> None:
    for number in range(1001):
        host.write(f"{KEYS}/{number}", "x")


def zstd_by_its_own_name(host: FakeHost) -> None:
    """What everybody's examples do."""
    host.replace(CONTAINERD, f"{ZSTD},", "")
    text = host.path(CONTAINERD).read_text()
    name = GZIP_NAME.replace("tar.gzip", "tar.zstd")
    entry = text[text.index(GZIP_NAME) :].replace(GZIP_NAME, name).replace(GZIP, ZSTD)
    host.write(CONTAINERD, text + "\n" + entry)


def twice(host: FakeHost) -> None:
    text = host.path(CONTAINERD).read_text()
    entry = text[text.index(TAR_NAME) :].partition("\n\n")[0]
    host.write(CONTAINERD, f"{text}\n{entry.replace('decoder.v1.tar', 'mine')}\n")


def imports(host: FakeHost) -> None:
    host.replace(CONTAINERD, "version = 2", 'version = 2\nimports = ["more/*.toml"]')
    cri = '[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "x"\n'
    host.write("/etc/containerd/more/a.toml", cri)


def policy(host: FakeHost, text: str) -> None:
    host.write(POLICY, f'keys = ["{KEYS}"]\n{text}\n')


# name: what is done to the host; the finding's subject, check and state; words of message and fix.
PLANTED: dict[str, tuple[Any, str, str, str, str, str]] = {
    "no TOML": (
        lambda h: h.write(CONTAINERD, "version = 2\nroot = \n"),
        "containerd", "configuration", "fail", "is not valid TOML (at line 2", "correct it",
    ),
    "dots without end": (
        lambda h: h.write(CONTAINERD, "a" + ".a" * 5000 + " = 1\n"),
        "containerd", "configuration", "fail", "a line with over 200 dots", "correct it",
    ),
    "configuration without end": (
        lambda h: h.write(CONTAINERD, b"#" * (1 << 20) + b"##"),
        "containerd", "configuration", "fail", "larger than the limit of 1048576", "correct it",
    ),
    "configuration is a pipe": (
        lambda h: pipe_instead(h, CONTAINERD),
        "containerd", "configuration", "fail", "is not a regular file", "correct it",
    ),
    "configuration is missing": (
        lambda h: remove(h, CONTAINERD),
        "containerd", "configuration", "warn", "does not exist", "--print-config containerd >",
    ),
    "configuration of version 1": (
        lambda h: h.replace(CONTAINERD, "version = 2\n", ""),
        "containerd", "configuration version", "fail", "is of version 1", "write version = 2",
    ),
    "configuration of version 9": (
        lambda h: h.replace(CONTAINERD, "version = 2\n", "version = 9\n"),
        "containerd", "configuration version", "fail", "a version that there is not", "version = 3",
    ),
    "imports replace a section": (
        imports,
        "containerd", "imports", "warn", "replaces all that was said of it", "into one file",
    ),
    "CRI is disabled": (
        lambda h: h.replace(CONTAINERD, "version = 2", 'version = 2\ndisabled_plugins = ["cri"]'),
        "containerd", "CRI", "warn", "the CRI plugin is disabled", "remove it from",
    ),
    "key model": (
        lambda h: h.replace(CONTAINERD, 'key_model = "node"', 'key_model = ""'),
        "containerd", "key model", "fail", "so that the CRI does not decrypt",
        '[plugins."io.containerd.grpc.v1.cri".image_decryption]',
    ),
    "key model of the other version": (
        lambda h: h.replace(CONTAINERD, "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"),
        "containerd", "key model's section", "fail", "where containerd 2.x looks", "move it to",
    ),
    "gzip is not accepted": (
        lambda h: h.replace(CONTAINERD, f"{GZIP},", ""),
        "containerd", "layers of tar+gzip", "fail", "no stream processor accepts", f"list {GZIP}",
    ),
    "zstd is not accepted": (
        lambda h: h.replace(CONTAINERD, f"{ZSTD},", ""),
        "containerd", "layers of tar+zstd", "warn", "no stream processor accepts", f"list {ZSTD}",
    ),
    "tar is not accepted": (
        lambda h: h.replace(CONTAINERD, f"{TAR},", ""),
        "containerd", "layers of tar", "fail", "no stream processor accepts", f"list {TAR}",
    ),
    "the name that gets no payload": (
        zstd_by_its_own_name,
        "containerd", "layers of tar+zstd", "fail", "sends the layers' wrapped keys only to",
        "remove the entry io.containerd.ocicrypt.decoder.v1.tar.zstd",
    ),
    "two accept the same": (
        twice,
        "containerd", "layers of tar", "fail", "both accept them", "and there alone",
    ),
    "plain layers are sent there": (
        lambda h: h.replace(CONTAINERD, f"{GZIP},", f"{GZIP.replace('+encrypted', '')},{GZIP},"),
        "containerd", "decoder.v1.tar.gzip: media types", "fail", "no type of an encrypted layer",
        "end in +encrypted",
    ),
    "returns what it got": (
        lambda h: h.replace(
            CONTAINERD, 'returns = "application/vnd.oci.image.layer.v1.tar"', f"returns = {TAR}"
        ),
        "containerd", "decoder.v1.tar: media types", "fail", "cannot unpack", "write returns = ",
    ),
    "returns zstd": (
        lambda h: h.replace(CONTAINERD, 'v1.tar+gzip"\n', 'v1.tar+zstd"\n'),
        "containerd", "decoder.v1.tar.gzip: media types", "fail", "cannot unpack", "tar+gzip",
    ),
    "args is a text": (
        lambda h: h.replace(CONTAINERD, f'args = ["--decryption-keys-path", "{KEYS}"]', 'args=""'),
        "containerd", "stream processor io.containerd.ocicrypt.decoder.v1.tar", "fail",
        "lists of texts", "--print-config containerd",
    ),
    "decoder is missing": (
        lambda h: remove(h, DECODER),
        "containerd", "decoder.v1.tar.gzip: program", "fail", "does not exist", "its whole path",
    ),
    "decoder is not executable": (
        lambda h: h.path(DECODER).chmod(0o644),
        "containerd", "decoder.v1.tar.gzip: program", "fail", "not executable", "chmod 0755",
    ),
    "decoder is not on the PATH": (
        lambda h: h.replace(CONTAINERD, f'path = "{DECODER}"', 'path = "ctd-decoder"'),
        "containerd", "decoder.v1.tar: program", "fail", "ctd-decoder is not on the PATH",
        "its whole path",
    ),
    "decoder is everybody's": (
        lambda h: h.path(DECODER).chmod(0o777),
        "containerd", "decoder.v1.tar: program", "fail", "somebody else than root may change",
        f"chmod 0755 {DECODER}",
    ),
    "released early": (
        lambda h: h.replace(CONTAINERD, f'"{KEYS}"]', f'"{KEYS}", "--release=early"]'),
        "containerd", "decoder.v1.tar: release", "warn", "before it is known to be right",
        "leave --release out",
    ),
    "no keys at all": (
        lambda h: (
            h.replace(CONTAINERD, f'"--decryption-keys-path", "{KEYS}"', ""),
            h.replace(CONTAINERD, "  env = ", "  # env = "),
        ),
        "containerd", "decoder.v1.tar: keys", "fail", "neither a folder of keys nor key providers",
        "--decryption-keys-path",
    ),
    "keys are relative": (
        lambda h: h.replace(CONTAINERD, f'"{KEYS}"]', '"keys"]'),
        "containerd", "decoder.v1.tar: keys", "fail", "relative to wherever", "its whole path",
    ),
    "TMPDIR is missing": (
        lambda h: h.replace(CONTAINERD, "  env = [", '  env = ["TMPDIR=/nowhere", '),
        "containerd", "decoder.v1.tar: room for layers", "fail", "is no folder", "install -d",
    ),
    "provider file is missing": (
        lambda h: remove(h, PROVIDERS),
        "containerd", "decoder.v1.tar: key providers", "warn", "which does not exist",
        "boltseal keyprovider print-config",
    ),
    "keys folder is missing": (
        lambda h: remove(h, KEYS),
        "containerd", "keys folder", "fail", "does not exist", f"install -d -m 0700 {KEYS}",
    ),
    "keys folder is a file": (
        lambda h: (remove(h, KEYS), h.write(KEYS, "key")),
        "containerd", "keys folder", "fail", "is not a folder", f"put the key into {KEYS}/",
    ),
    "keys folder is empty": (
        lambda h: remove(h, KEY),
        "containerd", "keys folder", "fail", "has no key that can be used", "boltseal keys sync",
    ),
    "keys folder is everybody's": (
        lambda h: h.path(KEYS).chmod(0o777),
        "containerd", "keys folder's permissions", "fail", "others may put keys", "chmod 0700",
    ),
    "keys folder is open": (
        lambda h: h.path(KEYS).chmod(0o755),
        "containerd", "keys folder's permissions", "warn", "others may look into", "chmod 0700",
    ),
    "too many files": (
        many,
        "containerd", "keys folder", "fail", "the limit of 1000 files", "nothing but keys",
    ),
    "key is readable": (
        lambda h: h.path(KEY).chmod(0o644),
        "containerd", "key prod.pem", "fail", "others may read the private key", "chmod 0600",
    ),
    "key is writable": (
        lambda h: h.path(KEY).chmod(0o620),
        "containerd", "key prod.pem", "fail", "others may change", "chmod 0600",
    ),
    "key leads out": (
        lambda h: link(h, f"{KEYS}/out.pem", "../../config.toml"),
        "containerd", "key out.pem", "fail", "a link to a place outside", "copy the key itself",
    ),
    "key is a pipe": (
        lambda h: os.mkfifo(h.path(f"{KEYS}/pipe")),
        "containerd", "key pipe", "fail", "it is a special file", f"remove {KEYS}/pipe",
    ),
    "key is too large": (
        lambda h: h.write(f"{KEYS}/large", b"\0" * 300_000, 0o600),
        "containerd", "key large", "fail", "larger than", f"remove {KEYS}/large",
    ),
    "key is a readme": (
        lambda h: h.write(f"{KEYS}/README", "keys of the node\n"),
        "containerd", "key README", "warn", "is no key", f"remove {KEYS}/README",
    ),
    "CRI-O's keys are links": (
        lambda h: link(h, "/etc/crio/keys/link.pem", "prod.pem"),
        "cri-o", "key link.pem", "fail", "is a symbolic link", "boltseal keys sync",
    ),
    "CRI-O is no TOML": (
        lambda h: h.write(CRIO, "[crio.runtime\n"),
        "cri-o", "configuration", "fail", "is not valid TOML", "--print-config crio",
    ),
    "CRI-O's setting in another section": (
        lambda h: h.replace(CRIO, "[crio.runtime]", "[crio.image]"),
        "cri-o", "keys path's section", "fail", "does not look for it", "move it to [crio.runtime]",
    ),
    "CRI-O's drop-in takes it away": (
        lambda h: h.write(f"{CRIO}.conf", "[crio.runtime]\ndecryption_keys_path = 0"),
        "cri-o", "keys path", "fail", "CRI-O decrypts nothing", "decryption_keys_path =",
    ),
    "CRI-O's keys are missing": (
        lambda h: remove(h, "/etc/crio/keys"),
        "cri-o", "keys folder", "fail", "does not exist", "install -d -m 0700",
    ),
    "containers.conf is no TOML": (
        lambda h: h.write("/etc/containers/containers.conf", "[engine"),
        "podman", "containers.conf", "fail", "is not valid TOML", "correct",
    ),
    "variable comes too late": (
        lambda h: h.write(
            "/etc/containers/containers.conf", '[engine]\nenv = ["OCICRYPT_KEYPROVIDER_CONFIG=/x"]'
        ),
        "podman", "containers.conf: key providers", "fail", "comes too late", "export OCICRYPT_KEY",
    ),
    "registries.conf of version 1": (
        lambda h: h.write("/etc/containers/registries.conf", "[registries.search]\nregistries=[]"),
        "podman", "registries.conf: form", "fail", "of version 1", "[[registry]]",
    ),
    "registries.conf in one bracket": (
        lambda h: h.write("/etc/containers/registries.conf", '[registry]\nprefix = "x"'),
        "podman", "registries.conf: form", "fail", "has a [registry]", "two brackets",
    ),
    "registry without TLS": (
        lambda h: h.write(
            "/etc/containers/registries.conf", '[[registry]]\nprefix = "x.example"\ninsecure = true'
        ),
        "podman", "registry x.example", "warn", "anybody on the way", "certificate",
    ),
    "storage without driver": (
        lambda h: h.write("/etc/containers/storage.conf", "[storage]\n"),
        "podman", "storage.conf: driver", "fail", "names no driver", 'driver = "overlay"',
    ),
    "hooks folder is missing": (
        lambda h: h.write("/etc/containers/containers.conf", '[engine]\nhooks_dir = ["/nowhere"]')
        and remove(h, "/etc/containers/containers.conf.d/50.conf"),
        "podman", "hooks folder", "fail", "which is no folder", "install -d",
    ),
    "hook is no JSON": (
        lambda h: h.write(HOOK, "{"),
        "podman", "hook 50-boltseal.json", "fail", "is not valid JSON", "boltseal hook",
    ),
    "hook's program is missing": (
        lambda h: remove(h, "/usr/bin/boltseal"),
        "cri-o", "hook 50-boltseal.json", "fail", "no container starts", "boltseal hook print",
    ),
    "hook comes after the start": (
        lambda h: h.replace(HOOK, "createRuntime", "poststart"),
        "podman", "hook 50-boltseal.json", "fail", "it refuses nothing", '"createRuntime"',
    ),
    "provider file is no JSON": (
        lambda h: h.write(PROVIDERS, "{"),
        "key providers", "configuration", "fail", "is not valid JSON", "print-config",
    ),
    "provider file is empty": (
        lambda h: h.write(PROVIDERS, "{}"),
        "key providers", "configuration", "fail", "names no key provider", "print-config",
    ),
    "provider's program is missing": (
        lambda h: remove(h, PROVIDER),
        "key providers", "provider one", "fail", "is not there or not executable", "cmd.path",
    ),
    "provider in the clear": (
        lambda h: h.write(PROVIDERS, '{"key-providers": {"far": {"grpc": "10.0.0.7:7443"}}}'),
        "key providers", "provider far", "fail", "in the clear", "configure grpc-tls",
    ),
    "GnuPG without agent": (
        lambda h: remove(h, "/usr/bin/gpg-agent"),
        "gnupg", "agent", "fail", "there is no gpg-agent", "apt-get install gnupg",
    ),
    "GnuPG's home is open": (
        lambda h: h.path(GNUPG).chmod(0o755),
        "gnupg", "home", "fail", "others may look into", "chmod 0700",
    ),
    "policy for modules is no YAML": (
        lambda h: h.write("/etc/ocicrypt.conf", "pkcs11: [\n"),
        "pkcs11", "policy", "fail", "ocicrypt.conf", "OCICRYPT_CONFIG=internal",
    ),
    "module is missing": (
        lambda h: remove(h, MODULE),
        "pkcs11", "module", "fail", "which does not exist", "install the module",
    ),
    "module is everybody's": (
        lambda h: h.path(MODULE).chmod(0o666),
        "pkcs11", "module", "fail", "somebody else than root may change", "chmod 0644",
    ),
    "gate's policy has an unknown name": (
        lambda h: policy(h, 'plan = "refuse"'),
        "refusing starts", "policy", "fail", "the unknown name 'plan'", "known are authfile",
    ),
    "gate's policy is everybody's": (
        lambda h: h.path(POLICY).chmod(0o666),
        "refusing starts", "policy", "fail", "somebody else may change", "chmod 0644",
    ),
    "gate's keys are missing": (
        lambda h: h.write(POLICY, 'keys = ["/nowhere"]\n'),
        "refusing starts", "policy's keys", "fail", "does not exist", "correct keys",
    ),
    "nothing starts containers": (
        lambda h: remove(h, "/usr/bin/runc"),
        "host", "runc", "fail", "nothing can start a container", "apt-get install runc",
    ),
    "no place to wait": (
        lambda h: remove(h, "/var/tmp"),
        "host", "room for layers", "fail", "no such file", "install -d -m 1777",
    ),
    "anybody may remove what waits": (
        lambda h: h.path("/var/tmp").chmod(0o777),
        "host", "room for layers", "fail", "everybody may remove", "chmod 1777",
    ),
    "clock is behind": (
        lambda h: os.utime(h.path(CONTAINERD), (4_000_000_000, 4_000_000_000)),
        "host", "clock", "fail", "was changed on 2096", "set the clock",
    ),
}  # fmt: skip
