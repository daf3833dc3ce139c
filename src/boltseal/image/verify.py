"""The whole truth about an image, without writing it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import (
    BoltsealError,
    IntegrityError,
    NotFoundError,
    UnsupportedError,
    located,
)
from boltseal.image import tree, twins
from boltseal.image.arguments import as_keyring, as_platforms, as_reference
from boltseal.image.parallel import attempt_layer
from boltseal.image.report import Meter
from boltseal.image.unlock import Unlocker
from boltseal.keywrap import packets
from boltseal.layer.encrypt import check_clear, check_encrypted, encryptable
from boltseal.layer.verify import Verdict, verify_layer
from boltseal.spec import mediatypes
from boltseal.spec.config import parse_config
from boltseal.spec.limits import MAX_CONFIG_BYTES
from boltseal.spec.platform import Platform
from boltseal.transports.base import read_verified
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.arguments import Identities
    from boltseal.image.report import Progress
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource
    from boltseal.transports.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be, and where. A warning does not fail the image."""

    where: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class VerifiedLayer:
    """One layer; ``state`` is ``verified``, ``clear``, ``bad``, ``missing`` or ``elsewhere``."""

    platform: str
    layer: int
    state: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Everything that was found. ``is_good`` when nothing but warnings was."""

    image: str
    digest: str
    layers: tuple[VerifiedLayer, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether every check passed."""
        return all(problem.warning for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {**asdict(self), "good": self.is_good}


def verify(
    source: str | Reference,
    identities: Identities,
    *,
    platforms: Sequence[str | Platform] = (),
    encrypted: bool = False,
    keys: KeyOptions | None = None,
    registry: RegistryOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> VerifyReport:
    """Read all of an image and check everything that can be checked.

    1. Manifests, indexes and configs have the digests and sizes that name them, and are strictly
       what they have to be; index and config name the same platform.
    2. Media types are those of the format, and true; what calls itself encrypted has options and
       wrapped keys that readers take, and public options that carry nothing they should not.
    3. One of the keys opens every encrypted layer, and no two layers have one layer key.
    4. Every layer has its size and digest, every encrypted one its HMAC, and what is in it is what
       the config's diff ids say.
    5. All encrypted layers have the same recipients.
    6. No encrypted layer is readable beside it: not in another place of the image, and not as a
       blob of the same repository or layout.

    With ``encrypted``: every platform has an encrypted layer.

    It does not say who made the image: that takes a signature.

    Returns everything that was found. Raises NoMatchingKeyError when a layer stays closed (3), and
    other BoltsealErrors for what cannot be read at all (1).
    """
    ring = as_keyring(identities, keys)
    reference = as_reference(source)
    with located(str(reference)), open_source(reference, registry) as opened:
        node = tree.load(opened, opened.root().descriptor, as_platforms(platforms))  # 1
        found = list(tree.manifests(node))
        look = _Look(opened, ring, str(reference))
        look.keys.expect(tree.layers(node))
        for one in found:
            look.plan(one)  # 2, 3
            if encrypted and one.is_plain:
                look.problem(one.label, "no layer is encrypted: whoever can pull it can read it")
        look.keys.raise_first()
        look.read(found, progress)  # 4
        for one in found:
            look.check_config(one)  # 1
        look.compare_recipients(found)  # 5
        for where, message in twins.find(opened, found, look.plain):  # 6
            look.problem(where, message)
        for stranger in tree.opaque(node):
            kind = stranger.descriptor.media_type
            look.problem("index", f"an entry of type {kind} was not looked into", warning=True)
        return VerifyReport(
            str(reference),
            str(node.descriptor.digest),
            tuple(look.layers),
            tuple(look.problems),
            ring.notes,
        )


class _Look:
    """Collects problems; looks at a layer that occurs again once."""

    def __init__(self, source: ImageSource, keyring: Keyring, image: str) -> None:
        self._source = source
        self._unlocked: dict[tuple[Digest, int], UnlockedLayer] = {}
        self._verdicts: dict[object, Verdict] = {}
        self._owners: dict[bytes, tuple[Digest, str]] = {}  # the blob of each key
        self._found: dict[Problem, None] = {}
        self.keys = Unlocker(keyring, image)
        self.layers: list[VerifiedLayer] = []
        self.plain: dict[tuple[Digest, int], Digest] = {}

    @property
    def problems(self) -> list[Problem]:
        return list(self._found)

    def problem(self, where: str, message: str, *, warning: bool = False) -> None:
        self._found[Problem(where, message, warning)] = None

    def plan(self, node: ManifestNode) -> None:
        """Look at every layer's descriptor, and unlock what is encrypted."""
        if mediatypes.is_docker(node.manifest.media_type) and any(
            mediatypes.is_encrypted(layer.media_type) for layer in node.manifest.layers
        ):
            self.problem(node.label, "a Docker manifest has encrypted layers", warning=True)
        for index, layer in enumerate(node.manifest.layers):
            where = f"{node.label}, layer {index}"
            try:
                self._plan_layer(node, index, layer, where)
            except (IntegrityError, UnsupportedError) as error:
                self.problem(where, error.message)
            except BoltsealError as error:
                error.where = (node.label, f"layer {index}", *error.where)
                raise

    def _plan_layer(self, node: ManifestNode, index: int, layer: Descriptor, where: str) -> None:
        if not mediatypes.is_encrypted(layer.media_type):
            check_clear(layer)
            if not node.is_attestation and node.config is not None:
                encryptable(layer)  # no type that nobody knows, no stray annotations
            return
        check_encrypted(layer)
        for message in packets.describe(layer.annotations)[1]:
            self.problem(where, message)
        if mediatypes.as_oci(layer.media_type) != layer.media_type:
            self.problem(
                where, f"{layer.media_type} is a type that nobody should write", warning=True
            )
        unlocked = self.keys.unlock(node, index, layer)
        if unlocked is not None:
            self._unlocked[node.descriptor.digest, index] = unlocked
            owner, place = self._owners.setdefault(unlocked.private.symkey, (layer.digest, where))
            if owner != layer.digest:
                self.problem(
                    where, f"it has the key of {place}: two layers with one tell each other"
                )

    def read(
        self, nodes: Sequence[ManifestNode], progress: Callable[[Progress], None] | None
    ) -> None:
        """Read every layer."""
        total = sum(layer.size for node in nodes for layer in node.manifest.layers)
        meter = Meter(total, progress)
        for node in nodes:
            for index, layer in enumerate(node.manifest.layers):
                meter.begin(f"verify layer {index} of {node.label}")
                self._read_layer(node, index, layer, meter)

    def _read_layer(self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> None:
        where = f"{node.label}, layer {index}"
        unlocked = self._unlocked.get((node.descriptor.digest, index))
        diff_id = None
        if (
            not node.is_attestation
            and node.config is not None
            and (unlocked is not None or not mediatypes.is_encrypted(layer.media_type))
        ):
            diff_id = node.config.diff_ids[index]
        elif unlocked is not None and node.config is None:
            kind = node.manifest.config.media_type
            message = f"a config of type {kind} has no diff ids to compare its content with"
            self.problem(where, message, warning=True)
        same = (layer.digest, layer.size, layer.media_type, layer.data, unlocked, diff_id)
        if same not in self._verdicts:
            try:
                self._verdicts[same] = attempt_layer(
                    lambda tick: self._verdict(layer, unlocked, diff_id, tick), meter
                )
            except NotFoundError as error:
                elsewhere = (
                    bool(layer.urls)
                    and unlocked is None  # an encrypted layer is ours to keep
                    and mediatypes.is_foreign(layer.media_type)
                )
                message = "it is only behind its URLs" if elsewhere else error.message
                self.problem(where, message, warning=elsewhere)
                self._tell(node, index, layer, "elsewhere" if elsewhere else "missing")
                return
            except IntegrityError as error:  # what can be seen without reading it
                self._verdicts[same] = Verdict((error.message,))
        else:
            meter.tick(layer.size)
        verdict = self._verdicts[same]
        for message in verdict.problems:
            self.problem(where, message)
        if verdict.mistyped is not None:
            self.problem(where, verdict.mistyped)
        if verdict.plain is not None:
            self.plain[node.descriptor.digest, index] = verdict.plain
        state = "verified" if unlocked is not None else "clear"
        self._tell(node, index, layer, "bad" if verdict.problems or verdict.mistyped else state)

    def _tell(self, node: ManifestNode, index: int, layer: Descriptor, state: str) -> None:
        self.layers.append(VerifiedLayer(node.label, index, state, str(layer.digest), layer.size))

    def _verdict(
        self,
        layer: Descriptor,
        unlocked: UnlockedLayer | None,
        diff_id: Digest | None,
        tick: Callable[[int], None],
    ) -> Verdict:
        reader = self._source.open(layer)
        try:
            return verify_layer(layer, unlocked, reader, diff_id=diff_id, tick=tick)
        finally:
            reader.close()

    def check_config(self, node: ManifestNode) -> None:
        """An image's config is read already: what index and config say has to fit together."""
        stated = node.descriptor.platform
        if node.config is None:
            self._check_other_config(node)
        elif stated is not None and not node.is_attestation:
            own = node.config.platform
            if own.is_known and not stated.matches(Platform(own.os, own.architecture)):
                self.problem(node.label, f"its index calls it {stated}, and its config {own}")

    def _check_other_config(self, node: ManifestNode) -> None:
        """A config of another kind; an image's must not pass for it, and so escape all checks."""
        config, where = node.manifest.config, f"{node.label}, config"
        raw = config.data
        try:
            if config.size > MAX_CONFIG_BYTES:
                tick = Meter(config.size, None).tick
                for message in self._verdict(config, None, None, tick).problems:
                    self.problem(where, message)
            elif raw is None:
                raw = read_verified(self._source, config, "the config", MAX_CONFIG_BYTES)
        except (IntegrityError, NotFoundError) as error:
            self.problem(where, error.message)
        if raw is None:
            return
        try:
            has_layers = bool(parse_config(raw).diff_ids)
        except IntegrityError:
            return
        if has_layers:
            self.problem(where, f"it is an image's, and is called {config.media_type}")

    def compare_recipients(self, nodes: Sequence[ManifestNode]) -> None:
        """Who opens one layer should open all: a difference is a mistake or an attack."""
        first: tuple[str, list[tuple[str, str, str]]] | None = None
        for node in nodes:
            for index, layer in enumerate(node.manifest.layers):
                if not mediatypes.is_encrypted(layer.media_type):
                    continue
                where = f"{node.label}, layer {index}"
                named = sorted(
                    (key.scheme, key.algorithm or "", key.recipient or "")
                    for key in packets.describe(layer.annotations)[0]
                )
                if first is None:
                    first = (where, named)
                elif named != first[1]:
                    self.problem(where, f"it does not have the same recipients as {first[0]}")
