"""Unpack an image to an OCI runtime bundle, while its layers arrive and are verified."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from boltseal.errors import IntegrityError, NotFoundError, UnsupportedError, UsageError, located
from boltseal.image import tree
from boltseal.image.arguments import DEFAULT_JOBS, as_keyring, as_platforms, as_reference
from boltseal.image.report import Meter
from boltseal.image.unlock import Unlocker
from boltseal.layer.encrypt import check_clear
from boltseal.layer.open import OpenLayer
from boltseal.runtime import bundle as bundles
from boltseal.runtime.imageconfig import parse_image_config
from boltseal.runtime.unpack.attributes import Attributes, Skipped
from boltseal.runtime.unpack.fetch import Fetch
from boltseal.runtime.unpack.folders import Folders
from boltseal.runtime.unpack.layer import Tree
from boltseal.runtime.unpack.staging import Staging
from boltseal.spec.limits import MAX_CONFIG_BYTES
from boltseal.spec.mediatypes import INDEX_TYPES, is_encrypted, layer_type
from boltseal.spec.platform import Platform
from boltseal.transports.base import read_verified
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.image.arguments import Identities
    from boltseal.image.report import Progress
    from boltseal.keywrap.options import KeyOptions
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource
    from boltseal.transports.registry.options import RegistryOptions

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i386": "386", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class UnpackedLayer:
    """One layer; ``state`` is ``decrypted`` or ``clear``."""

    layer: int
    state: str
    digest: str
    size: int
    entries: int


@dataclass(frozen=True, slots=True)
class UnpackReport:
    """A bundle that was made, and what the user should know about it."""

    image: str
    digest: str
    platform: str
    bundle: str
    layers: tuple[UnpackedLayer, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def unpack(
    source: str | Reference,
    bundle: str | os.PathLike[str],
    identities: Identities,
    *,
    platform: str | Platform | None = None,
    rootless: bool = False,
    process: bundles.Process | None = None,
    keys: KeyOptions | None = None,
    registry: RegistryOptions | None = None,
    jobs: int = DEFAULT_JOBS,
    progress: Callable[[Progress], None] | None = None,
) -> UnpackReport:
    """Make a bundle (``rootfs`` and ``config.json``, OCI Runtime Specification) of one platform.

    The bundle gets its name behind the last check of the last layer: size and digest, HMAC, and the
    content's digest (diff id). Until then it lies in a hidden folder beside it, for its owner
    alone. ``platform`` is that of this host by default; ``rootless`` makes everything ours, and a
    configuration with a user namespace; ``process`` says what is to run instead of what the image
    says; ``jobs`` is how many layers arrive at a time from a registry.

    Raises NoMatchingKeyError, IntegrityError, StorageError or another BoltsealError; nothing is
    left behind then.
    """
    if jobs < 1:
        raise UsageError("the number of jobs is at least 1")
    if not rootless and os.geteuid() != 0:
        raise UsageError(
            "only root can give files to other users",
            hint="unpack with --rootless: everything will belong to you",
        )
    ring = as_keyring(identities, keys)
    reference = as_reference(source)
    with ExitStack() as stack:
        with located(str(reference)):
            opened = stack.enter_context(open_source(reference, registry))
            node = _choose(opened, platform)
            unlocker = Unlocker(ring, str(reference))
            with located(node.label):
                todo = _plan(node, unlocker)
            unlocker.raise_first()
            with located(node.label):
                raw = read_verified(opened, node.manifest.config, "the config", MAX_CONFIG_BYTES)
                config = parse_image_config(raw)
        staging = Staging(os.fspath(bundle))
        stack.push(staging)  # to be left first: a signal may come in the middle of entering
        staging.__enter__()
        skipped = Skipped()
        with located(str(reference)), located(node.label):
            work = _Work(opened, node, todo, Meter(_size(node), progress))
            layers = work.run(staging, Attributes(skipped, privileged=not rootless), skipped, jobs)
            document, notes = bundles.make(
                config, staging.rootfs_fd, process or bundles.Process(), rootless=rootless
            )
        staging.write("config.json", document)
        staging.publish()
    return UnpackReport(
        str(reference),
        str(node.descriptor.digest),
        node.label,
        os.fspath(bundle),
        tuple(layers),
        (*ring.notes, *_platform_note(node, platform), *skipped.notes(), *notes, *staging.notes()),
    )


def host_platform() -> Platform:
    """The platform of this machine."""
    info = os.uname()
    return Platform(info.sysname.lower(), _MACHINES.get(info.machine, info.machine))


def _choose(source: ImageSource, platform: str | Platform | None) -> tree.ManifestNode:
    """One manifest: of the platform asked for, else of this host's, else the only one."""
    root = source.root().descriptor
    wanted = as_platforms([platform]) if platform is not None else ()
    if platform is None and root.media_type in INDEX_TYPES:
        wanted = (host_platform(),)
    node = tree.load(source, root, wanted)
    images = [one for one in tree.manifests(node) if not one.is_attestation]
    if not images:
        raise NotFoundError("there is no image in it")
    return images[0]


def _platform_note(node: tree.ManifestNode, platform: str | Platform | None) -> list[str]:
    host = host_platform()
    if platform is not None or node.platform is None or node.platform.matches(host):
        return []
    return [f"the image is for {node.label}, and this host is {host}"]


def _size(node: tree.ManifestNode) -> int:
    return sum(layer.size for layer in node.manifest.layers)


def _plan(node: tree.ManifestNode, keys: Unlocker) -> list[UnlockedLayer | None]:
    """Every key is unwrapped before the first layer is read."""
    if node.config is None:
        raise UnsupportedError(f"a {node.manifest.config.media_type} cannot be unpacked to run")
    keys.expect(tree.layers(node))
    todo: list[UnlockedLayer | None] = []
    for index, layer in enumerate(node.manifest.layers):
        with located(f"layer {index}"):
            kind = layer_type(layer.media_type)
            if kind is None or not kind.is_tar:
                raise UnsupportedError(f"a layer of type {layer.media_type} cannot be unpacked")
            if is_encrypted(layer.media_type):
                todo.append(keys.unlock(node, index, layer))
            else:
                check_clear(layer)
                todo.append(None)
    return todo


@dataclass(frozen=True, slots=True)
class _Work:
    source: ImageSource
    node: tree.ManifestNode
    todo: list[UnlockedLayer | None]
    meter: Meter

    def run(
        self, staging: Staging, attributes: Attributes, skipped: Skipped, jobs: int
    ) -> list[UnpackedLayer]:
        """Apply every layer, in order."""
        layers = self.node.manifest.layers
        done: list[UnpackedLayer] = []
        with ExitStack() as stack:
            fetch = stack.enter_context(Fetch(self.source, layers, jobs, staging.open_unnamed))
            folders = stack.enter_context(Folders(staging.rootfs_fd))
            made = Tree(folders, attributes, skipped)
            for index, layer in enumerate(layers):
                with located(f"layer {index}"):
                    self.meter.begin(f"unpack layer {index} of {self.node.label}")
                    count = self._apply(made, index, layer, fetch)
                fetch.done()
                state = "clear" if self.todo[index] is None else "decrypted"
                done.append(UnpackedLayer(index, state, str(layer.digest), layer.size, count))
            made.finish()
        return done

    def _apply(self, made: Tree, index: int, layer: Descriptor, fetch: Fetch) -> int:
        assert self.node.config is not None
        diff_id = self.node.config.diff_ids[index]
        reader = fetch.open(index)
        opened = OpenLayer(layer, self.todo[index], reader, diff_id, partial(self.meter.tick))
        try:
            with opened:
                try:
                    return made.apply(opened)
                except IntegrityError:
                    opened.finish()  # that the layer was changed says more than what that did
                    raise
        finally:
            if not opened.is_reading:
                reader.close()
