"""containerd: which version, what its configuration says, and whether its CRI decrypts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from boltseal.errors import BoltsealError, NotFoundError, UsageError
from boltseal.runtime.doctor.finding import Subject
from boltseal.runtime.doctor.host import parse_toml, table, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

CONFIG = "/etc/containerd/config.toml"
SUBJECT = Subject("containerd")
CRI = "io.containerd.grpc.v1.cri"  # of containerd 1.x
CRI_IMAGES = "io.containerd.cri.v1.images"  # of containerd 2.x
VERIFIER = "io.containerd.image-verifier.v1.bindir"
_PREFIX = "io.containerd.ocicrypt.decoder.v1."
_LAYER = "application/vnd.oci.image.layer.v1."
KEYS = "/etc/containerd/ocicrypt/keys"
_PROVIDERS = "/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf"
_MAX_IMPORTS = 64  # files that one configuration imports
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)")
_PRINT = "boltseal doctor --print-config containerd"

# What containerd adds to every configuration that has no entry of the same name.
DEFAULT_PROCESSORS: dict[str, Any] = {
    f"{_PREFIX}{name}": {
        "accepts": [f"{_LAYER}{kind}+encrypted"],
        "returns": f"{_LAYER}{kind}",
        "path": "ctd-decoder",
        "args": ["--decryption-keys-path", KEYS],
        "env": [f"OCICRYPT_KEYPROVIDER_CONFIG={_PROVIDERS}"],
    }
    for name, kind in (("tar", "tar"), ("tar.gzip", "tar+gzip"))
}


@dataclass(frozen=True, slots=True)
class Containerd:
    """What is there: ``document`` is the whole configuration; ``major`` 1 or 2."""

    program: str | None
    version: str | None
    path: str
    document: dict[str, Any]
    major: int
    findings: tuple[Finding, ...]

    @property
    def processors(self) -> dict[str, Any]:
        """The stream processors, containerd's own among them."""
        return {**DEFAULT_PROCESSORS, **table(self.document, "stream_processors")}

    @property
    def images(self) -> dict[str, Any]:
        """What the CRI's part about images says."""
        return table(self.document, "plugins", CRI if self.major == 1 else CRI_IMAGES)


def look(host: Host) -> Containerd | None:
    """containerd on the host; None when neither the program nor a configuration is there."""
    program = host.which("containerd")
    path = host.config("containerd", CONFIG)
    if program is None and "containerd" not in host.files and not os.path.lexists(path):
        return None
    version = _version(host, program)
    found: list[Finding] = []
    document: dict[str, Any] = {}
    try:
        document = _load(host, path, found)
        found.append(SUBJECT.ok("configuration", f"{path} is valid TOML"))
    except NotFoundError:
        found.append(
            SUBJECT.warn(
                "configuration",
                f"{path} does not exist: containerd's defaults count",
                f"{_PRINT} > {CONFIG}",
            )
        )
    except BoltsealError as error:
        found.append(SUBJECT.failed("configuration", error, f"correct it, or start with {_PRINT}"))
    given = document.get("version", 1)
    major = _major(version, given)
    found += _versions(program, version, given, major, path if document else None)
    dumped = _dump(host, program, path, found) if document and program else None
    return Containerd(program, version, path, dumped or document, major, tuple(found))


def checks(here: Containerd) -> Iterator[Finding]:
    """Everything but the stream processors."""
    yield from here.findings
    yield from _cri(here)


def _version(host: Host, program: str | None) -> str | None:
    said = host.run([program, "--version"]) if program is not None else None
    found = _VERSION.search(said.out) if said is not None and said.code == 0 else None
    return ".".join(found.groups()) if found else None


def _major(version: str | None, config_version: object) -> int:
    if version is not None:
        return 1 if version.startswith(("0.", "1.")) else 2
    return 2 if isinstance(config_version, int) and config_version > 2 else 1


def _load(host: Host, path: str, found: list[Finding]) -> dict[str, Any]:
    """The configuration with what it imports; as in containerd, later files replace entries."""
    document = host.toml(path, "containerd's configuration")
    for name in _imported(host, document, path):
        more = host.toml(name, "containerd's configuration")
        twice = table(document, "plugins").keys() & table(more, "plugins").keys()
        if twice:
            found.append(
                SUBJECT.warn(
                    "imports",
                    f"{name} has a section of the plugin {min(twice)[:120]}, which replaces all "
                    "that was said of it before",
                    "put what belongs to one plugin into one file",
                )
            )
        for part in ("stream_processors", "plugins"):
            both = {**table(document, part), **table(more, part)}
            document = {**document, part: both} if both else document
        rest = {key: value for key, value in more.items() if not isinstance(value, dict)}
        document = {**document, **{key: value for key, value in rest.items() if key != "version"}}
    return document


def _imported(host: Host, document: dict[str, Any], path: str) -> list[str]:
    wanted = texts(document.get("imports", []))
    if wanted is None:
        raise UsageError(f"{path}: imports is not a list of paths")
    found: list[str] = []
    for one in wanted:
        folder, pattern = os.path.split(os.path.join(os.path.dirname(path), one))
        if not one.startswith("/"):
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            found += [os.path.join(folder, name) for name in names if fnmatch(name, pattern)]
        else:
            found += [
                name
                for name in host.drop_ins(folder, "")
                if fnmatch(os.path.basename(name), pattern)
            ]
        if len(found) > _MAX_IMPORTS:
            raise UsageError(f"{path} imports more than {_MAX_IMPORTS} files")
    return found


def _versions(
    program: str | None, version: str | None, given: object, major: int, path: str | None
) -> Iterator[Finding]:
    if program is None:
        yield SUBJECT.absent("program", "containerd is not on the PATH; its configuration is there")
    elif version is None:
        yield SUBJECT.ok("program", f"{program}; its version is not known, nothing was started")
    else:
        yield SUBJECT.ok("program", f"{program} {version}")
    if path is None:
        return
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= 4:
        yield SUBJECT.fail(
            "configuration version",
            f"{path} has a version that there is not: {str(given)[:40]!r}",
            "write version = 2 for containerd 1.x, version = 3 for containerd 2.x",
        )
    elif given == 1:
        yield SUBJECT.fail(
            "configuration version",
            f"{path} is of version 1, in which the sections of plugins have other names",
            f"write version = 2 and the names of plugins that {_PRINT} shows",
        )
    elif given > 2 and version is not None and major == 1:
        yield SUBJECT.fail(
            "configuration version",
            f"{path} is of version {given}, which containerd {version} does not read",
            "write version = 2, or install containerd 2",
        )
    else:
        yield SUBJECT.ok("configuration version", f"version {given}")


def _dump(host: Host, program: str, path: str, found: list[Finding]) -> dict[str, Any] | None:
    """What containerd itself makes of the file."""
    said = host.run([program, "--config", path, "config", "dump"])
    if said is None:
        return None
    if said.code != 0:
        found.append(
            SUBJECT.fail(
                "what containerd reads",
                f"containerd does not take it: {said.complaint}",
                f"correct {path}, or start with {_PRINT}",
            )
        )
        return None
    try:
        document = parse_toml(said.out.encode(), "what containerd config dump prints")
    except UsageError:
        return None
    found.append(SUBJECT.ok("what containerd reads", "containerd config dump takes it"))
    return document


def _cri(here: Containerd) -> Iterator[Finding]:
    disabled = texts(here.document.get("disabled_plugins", [])) or []
    if {"cri", CRI, CRI_IMAGES} & set(disabled):
        yield SUBJECT.warn(
            "CRI",
            "the CRI plugin is disabled, and containerd's own client sends no keys' payload",
            "remove it from disabled_plugins, or pull with imgcrypt's ctr-enc",
        )
        return
    model = table(here.images, "image_decryption").get("key_model", "node")
    section = f'[plugins."{CRI if here.major == 1 else CRI_IMAGES}".image_decryption]'
    if model == "node":
        yield SUBJECT.ok("key model", "node: the keys are on this host")
    else:
        yield SUBJECT.fail(
            "key model",
            f"key_model is {str(model)[:40]!r}, so that the CRI does not decrypt",
            f'write key_model = "node" under {section}',
        )
    other = table(here.document, "plugins", CRI_IMAGES if here.major == 1 else CRI)
    if "image_decryption" in other and "image_decryption" not in here.images:
        yield SUBJECT.fail(
            "key model's section",
            f"image_decryption is where containerd {3 - here.major}.x looks for it",
            f"move it to {section}",
        )
    if here.major == 2:
        yield _local_pull(here)
        if here.version is not None and not _decrypts(here.version):
            yield SUBJECT.fail(
                "decryption",
                f"the CRI of containerd {here.version} decrypts nothing, whatever is configured",
                "install containerd 2.1.7, 2.2.2 or 2.3, which do again, or 1.7",
            )


def _decrypts(version: str) -> bool:
    """containerd 2 lost it, and got it back in the middle of two releases."""
    _, minor, patch = map(int, version.split("."))
    first = {0: None, 1: 7, 2: 2}.get(minor, 0)
    return first is not None and patch >= first


def _local_pull(here: Containerd) -> Finding:
    if here.images.get("use_local_image_pull") is True:
        return SUBJECT.ok("pull", "use_local_image_pull: the CRI pulls by itself")
    if (here.version or "").startswith("2.0."):
        return SUBJECT.ok("pull", "the CRI of containerd 2.0 pulls by itself")
    return SUBJECT.fail(
        "pull",
        "images are pulled by the transfer service, which knows nothing of encrypted layers",
        f'write use_local_image_pull = true under [plugins."{CRI_IMAGES}"]',
    )
