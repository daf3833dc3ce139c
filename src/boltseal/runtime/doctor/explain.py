"""What each runtime of a host would do with one image: open it, refuse it, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, KeyFileError, NoMatchingKeyError, NotFoundError
from boltseal.image.check import check
from boltseal.image.inspect import inspect
from boltseal.keywrap.parse import parse_keyring
from boltseal.runtime.doctor import keyfolder, processors
from boltseal.runtime.doctor.finding import Subject
from boltseal.runtime.gate.verdict import this_platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltseal.keywrap.options import KeyOptions
    from boltseal.runtime.doctor.examine import Runtimes
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host
    from boltseal.transports.registry.options import RegistryOptions

_CHECK = "this image"


def explain(
    host: Host,
    runtimes: Runtimes,
    image: str,
    named: Sequence[str],
    registry: RegistryOptions,
) -> list[Finding]:
    """One finding for each runtime; ``named`` are keys as ``-k`` names them, for Podman.

    Raises what reading the image raises: nothing can be said of an image that is not there.
    """
    platform = this_platform()
    report = inspect(image, platforms=(platform,), registry=registry)
    kinds = {
        layer.media_type
        for manifest in report.manifests
        for layer in manifest.layers
        if layer.encrypted
    }
    asked = _Asked(host, image, platform, registry)
    if not kinds:
        return [
            Subject(name).ok(_CHECK, f"{image} is not encrypted for {platform}: any host runs it")
            for name in _names(runtimes)
        ]
    found: list[Finding] = []
    if runtimes.containerd is not None:
        found += _containerd(asked, runtimes, kinds)
    if runtimes.crio is not None:
        folder = runtimes.crio.folder
        keys = [host.place(folder)] if folder is not None else []
        refused = _links("cri-o", keys)
        found.append(refused or asked.look("cri-o", keys, host.keys))
    if runtimes.podman is not None:
        found.append(_podman(asked, named))
    return found


def _names(runtimes: Runtimes) -> Iterator[str]:
    for name in ("containerd", "cri-o", "podman"):
        if getattr(runtimes, name.replace("-", "")) is not None:
            yield name


class _Asked:
    """One image, asked about with several sets of keys."""

    def __init__(self, host: Host, image: str, platform: str, registry: RegistryOptions) -> None:
        self._host = host
        self._image = image
        self._platform = platform
        self._registry = registry

    @property
    def host(self) -> Host:
        """Whose runtimes these are."""
        return self._host

    def look(self, name: str, keys: Sequence[str], options: KeyOptions) -> Finding:
        """What a runtime with these keys does."""
        subject = Subject(name)
        there = f"see whom it is for: boltseal recipients list {self._image}; and put such a key"
        mend = f"{there} there" if name != "podman" else f"{there} behind -k"
        try:
            ring = parse_keyring(keys, options)
        except (KeyFileError, NotFoundError) as error:  # no folder, or one without any key
            return subject.fail(_CHECK, f"refuses it: {error.message}", mend)
        except BoltsealError as error:
            return subject.failed(_CHECK, error, mend)
        try:
            report = check(
                self._image,
                ring,
                platforms=(self._platform,),
                keys=options,
                registry=self._registry,
            )
        except NoMatchingKeyError as error:
            first = error.attempts[0] if error.attempts else None
            why = f"{error.message}; it is for {error.whom}" if error.whom else error.message
            why = f"{why}; {first.identity}: {first.reason}" if first else why
            return subject.fail(_CHECK, f"refuses it: {why}", mend)
        except BoltsealError as error:
            return subject.failed(_CHECK, error, mend)
        count = len(report.layers)
        layers = "all encrypted layers" if count > 1 else "the encrypted layer"
        with_what = ", ".join(sorted({one.identity for one in report.layers}))
        return subject.ok(_CHECK, f"opens {layers} of {report.digest[:19]} with {with_what}")


def _containerd(asked: _Asked, runtimes: Runtimes, kinds: set[str]) -> Iterator[Finding]:
    """By the stream processor of each kind of layer; all have to be there."""
    here = runtimes.containerd
    assert here is not None
    found, _ = processors.parse(here.processors)
    takers = {}
    for kind in sorted(kinds):
        mine = [one for one in found if kind in one.accepts]
        usable = [one for one in mine if one.name in processors.WITH_PAYLOAD]
        if not usable:
            why = "none accepts it" if not mine else "the one that does gets no wrapped keys"
            yield Subject("containerd").fail(
                _CHECK,
                f"refuses it: it has layers of type {kind}, and of the stream processors {why}",
                "boltseal doctor --print-config containerd shows the entries",
            )
            return
        takers[usable[0].name] = usable[0]
    for one in takers.values():
        host = asked.host
        keys = [host.place(one.folder)] if one.folder is not None else []
        options = host.keys
        if one.providers is not None:
            options = replace(options, provider_files=(host.place(one.providers),))
            keys += _providers(options)
        if one.is_ours and host.is_here and _has_broker(options):
            keys.append("broker:")
        refused = None if one.is_ours or one.folder is None else _links("containerd", keys[:1])
        yield refused or asked.look("containerd", keys, options)


def _links(name: str, folders: Sequence[str]) -> Finding | None:
    """The failure of a program that takes no key of a folder with links in it."""
    for folder in folders:
        link = keyfolder.first_link(folder)
        if link is not None:
            return Subject(name).fail(
                _CHECK,
                f"refuses it: {link} is a symbolic link, and no key is taken beside one",
                f"boltseal keys sync --source {folder} --dest DIR, and name DIR instead",
            )
    return None


def _providers(options: KeyOptions) -> list[str]:
    from boltseal.keywrap.keyprovider import config

    try:
        return [f"provider:{name}" for name in config.names(options)]
    except BoltsealError:
        return []  # told by the checks of key providers


def _has_broker(options: KeyOptions) -> bool:
    """Whether our stream processor asks a key broker by itself."""
    from boltseal.keywrap.broker import settings

    try:
        return settings.configured(options) is not None
    except BoltsealError:
        return False  # a broken configuration is told by what reads it


def _podman(asked: _Asked, named: Sequence[str]) -> Finding:
    if not named:
        return Subject("podman").warn(
            _CHECK,
            "Podman and Buildah refuse it unless a key is named",
            "buildah pull --decryption-key KEY IMAGE; say which with -k to know whether it opens",
        )
    return asked.look("podman", named, asked.host.keys)
