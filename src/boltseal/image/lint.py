"""Find likely secrets in what stays readable when an image is encrypted.

Layers are hidden; the configuration, all annotations and the provenance that came with a build are
not. This looks for what should not be there. It cannot find everything, and it never tells a value.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import BoltsealError, LikelySecretError, located
from boltseal.image import tree
from boltseal.image.arguments import as_platforms, as_reference
from boltseal.image.secret_search import search
from boltseal.spec.annotations import is_encryption
from boltseal.spec.limits import MAX_CONFIG_BYTES, MAX_LINT_BYTES
from boltseal.transports.base import read_verified
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource
    from boltseal.transports.registry.options import RegistryOptions

MAX_FINDINGS = 200  # of one image
_PREDICATE = "in-toto.io/predicate-type"
ADVICE = (
    "build the image without them (build secrets, files that are mounted when it runs); "
    "encrypt --scrub takes the build's history out"
)
_MAX_PLACE = 200  # characters of a place that are told


@dataclass(frozen=True, slots=True)
class Finding:
    """A likely secret that everybody can read: in which platform, where, and what it looks like.

    ``name`` is the variable, argument or option that holds it, or empty. The value is not told.
    """

    platform: str
    place: str
    name: str
    kind: str

    def to_json(self) -> dict[str, str]:
        """Plain data for ``--json``."""
        return asdict(self)

    def __str__(self) -> str:
        named = f" ({self.name})" if self.name else ""
        where = f"{self.platform}, {self.place}{named}"
        return f"{where} stays readable and may hold a secret: {self.kind}"


def by_platforms(found: Sequence[Finding]) -> list[Finding]:
    """The same findings, each told once for all the platforms that have it."""
    platforms: dict[Finding, list[str]] = {}
    for one in found:
        platforms.setdefault(replace(one, platform=""), []).append(one.platform)
    return [replace(one, platform=", ".join(names)) for one, names in platforms.items()]


@dataclass(frozen=True, slots=True)
class LintReport:
    """What was found in an image; what could not be searched is a finding, too."""

    image: str
    digest: str
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def lint(
    image: str | Reference,
    *,
    platforms: Sequence[str | Platform] = (),
    registry: RegistryOptions | None = None,
) -> LintReport:
    """Search what stays readable of an image when all its layers are encrypted.

    Reads manifests, configurations and provenance, no layer. Raises BoltsealError.
    """
    reference = as_reference(image)
    with located(str(reference)), open_source(reference, registry) as source:
        root = source.root().descriptor
        node = tree.load(source, root, as_platforms(platforms))
        found = tuple(findings(source, node, {}))
        return LintReport(str(reference), str(node.descriptor.digest), found)


def refuse(found: Sequence[Finding]) -> None:
    """Raises LikelySecretError when anything was found."""
    if found:
        what = "1 likely secret" if len(found) == 1 else f"{len(found)} likely secrets"
        raise LikelySecretError(
            f"{what} would stay readable, and nothing was written",
            found,
            hint=ADVICE,
        )


def findings(
    source: ImageSource, node: tree.Node, configs: Mapping[Digest, bytes]
) -> Iterator[Finding]:
    """Everything that is found in an image, MAX_FINDINGS at most.

    ``configs`` are the configurations that are going to be written instead, by manifest digest.
    """
    for told, one in enumerate(_Search(source, configs).look(node)):
        if told == MAX_FINDINGS:
            kind = f"more than {MAX_FINDINGS} were found"
            yield Finding("the image", "its configuration", "", kind)
            return
        yield one


class _Search:
    def __init__(self, source: ImageSource, configs: Mapping[Digest, bytes]) -> None:
        self._source = source
        self._configs = configs
        self._left = MAX_LINT_BYTES
        self._seen: set[Finding] = set()

    def look(self, node: tree.Node) -> Iterator[Finding]:
        if isinstance(node, tree.IndexNode):
            yield from self._annotations("the index", node.index.annotations, "annotations")
            for place, child in enumerate(node.index.manifests):
                where = f"manifests[{place}].annotations"
                yield from self._annotations("the index", child.annotations, where)
            yield from self._rest("the index", node.raw)
            for below in node.children:
                yield from self.look(below)
        elif isinstance(node, tree.ManifestNode):
            yield from self._manifest(node)

    def _manifest(self, node: tree.ManifestNode) -> Iterator[Finding]:
        yield from self._annotations(node.label, node.manifest.annotations, "annotations")
        for index, layer in enumerate(node.manifest.layers):
            where = f"layers[{index}].annotations"
            yield from self._annotations(node.label, layer.annotations, where)
            if node.is_attestation and "provenance" in layer.annotations.get(_PREDICATE, ""):
                yield from self._blob(node, layer, "provenance")
        yield from self._rest(node.label, node.raw)
        if node.config is None:
            yield from self._blob(node, node.manifest.config, "config")
        else:
            raw = self._configs.get(node.descriptor.digest, node.config.raw)
            yield from self._document(node.label, raw, "config")

    def _rest(self, label: str, raw: bytes) -> Iterator[Finding]:
        """What else a manifest or an index has: URLs, members that Boltseal does not know."""
        document = strictjson.load_object(raw, "it", max_bytes=len(raw))
        document.pop("annotations", None)
        for name in ("layers", "manifests"):
            for one in document.get(name) or ():
                for told in ("annotations", "data"):  # told already; content, or a manifest
                    one.pop(told, None)
        if "config" in document:
            document["config"].pop("data", None)
        yield from self._search(label, document, "", len(json.dumps(document)))

    def _annotations(
        self, label: str, annotations: Mapping[str, str], place: str
    ) -> Iterator[Finding]:
        plain = {key: value for key, value in annotations.items() if not is_encryption(key)}
        if plain:
            yield from self._search(label, plain, place, sum(map(len, plain.values())))

    def _blob(self, node: tree.ManifestNode, blob: Descriptor, what: str) -> Iterator[Finding]:
        """Provenance, which may hold every build argument, or the config of what is no image."""
        try:
            raw = read_verified(self._source, blob, what, MAX_CONFIG_BYTES)
        except BoltsealError:
            yield Finding(node.label, what, "", "it could not be searched")
            return
        yield from self._document(node.label, raw, what)

    def _document(self, label: str, raw: bytes, place: str) -> Iterator[Finding]:
        try:
            document = strictjson.load_object(raw, place, max_bytes=MAX_CONFIG_BYTES)
        except BoltsealError:
            yield Finding(label, place, "", "it could not be searched")
            return
        yield from self._search(label, document, "" if place == "config" else place, len(raw))

    def _search(self, label: str, document: Any, place: str, size: int) -> Iterator[Finding]:
        self._left -= size
        if self._left < 0:
            kind = f"it is beyond the {MAX_LINT_BYTES} bytes that are searched"
            yield from self._once(Finding(label, place or "config", "", kind))
            return
        for one in search(document, place):
            yield from self._once(Finding(label, one.place[:_MAX_PLACE], one.name, one.kind))

    def _once(self, finding: Finding) -> Iterator[Finding]:
        """An image that an index names twice is told about once."""
        if finding not in self._seen:
            self._seen.add(finding)
            yield finding
