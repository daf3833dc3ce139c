"""Hide more than layers: search and scrub what stays readable, and make diff ids unguessable."""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import UnsupportedError, UsageError
from boltseal.image import tree
from boltseal.image.lint import by_platforms, findings, refuse
from boltseal.image.scrub import as_scrub, scrub
from boltseal.layer.salted import check_saltable, telling_annotations
from boltseal.spec.config import parse_config
from boltseal.spec.config_edit import Scrub, set_diff_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boltseal.image.session import Session
    from boltseal.image.tree import ManifestNode
    from boltseal.spec.descriptor import Descriptor

_MAX_TOLD = 20  # findings that are told one by one; all of them are in the outcome


@dataclass(frozen=True, slots=True)
class Hiding:
    """What a caller asks for; ``padded`` is of use with ``salt`` alone."""

    lint: bool = True
    strict: bool = False
    scrub: Scrub = field(default_factory=Scrub)
    salt: bool = False
    padded: bool = True

    @classmethod
    def of(
        cls,
        *,
        lint: bool,
        strict: bool,
        scrub: Sequence[str],
        salt: bool,
        padding: bool,
        reuse: bool,
    ) -> Hiding:
        """Raises UsageError for wishes that exclude each other."""
        if strict and not lint:
            raise UsageError("strict refuses what lint finds, so it needs lint")
        if salt and reuse:
            raise UsageError(
                "a salt makes every layer a new one, so no earlier layer can be reused",
                hint="leave --salt or --reuse out",
            )
        return cls(lint, strict, as_scrub(scrub), salt, padding)

    def check_layer(self, node: ManifestNode, layer: Descriptor) -> None:
        """Whether a layer that is going to be encrypted can be salted, where it is to be."""
        if not self.salt:
            return
        if node.config is None:
            raise UnsupportedError(
                "an artifact has no config with diff ids, so a salt has no place in it",
                hint="leave --salt out, or keep the platforms that are images with --platform",
            )
        check_saltable(layer, padded=self.padded)

    def prepare(self, session: Session) -> None:
        """Before anything is written: scrub, and search what is left.

        Raises LikelySecretError when something was found and ``strict`` is set.
        """
        if self.scrub:
            scrub(session, self.scrub)
        if not self.lint:
            return
        with session.at_source():
            found = tuple(findings(session.source, session.node, session.configs))
            if self.strict:
                refuse(found)
        session.journal.findings = found
        told = by_platforms(found)
        for one in told[:_MAX_TOLD]:
            session.journal.warn(str(one))
        if len(told) > _MAX_TOLD:
            session.journal.warn(
                f"{len(told) - _MAX_TOLD} more likely secrets stay readable: see boltseal lint"
            )

    def finish(self, session: Session) -> None:
        """After the layers are written: enter new diff ids, and say what that means."""
        before = ("already encrypted", "recipients added")
        if self.salt and any(one.action in before for one in session.journal.layers):
            session.journal.warn("layers that were encrypted before were not salted")
        if not session.diff_ids:
            return
        for node in tree.manifests(session.node):
            new = session.diff_ids.get(node.descriptor.digest)
            if not new or node.config is None:
                continue
            raw = session.configs.get(node.descriptor.digest, node.config.raw)
            raw = set_diff_ids(raw, new)
            parse_config(raw)  # nothing is written that could not be read again
            session.configs[node.descriptor.digest] = raw
            _warn_of_old_ones(session, node, raw, new)
            if any(telling_annotations(node.manifest.layers[index]) for index in new):
                session.journal.note(
                    "annotations for fetching layers in parts (eStargz, zstd:chunked) tell their "
                    "content and were left out: the layers are ordinary ones now"
                )
        session.journal.note(
            "the layers were salted: decrypting gives the same files back, and layers and an image "
            "of other digests"
        )


def _warn_of_old_ones(
    session: Session, node: ManifestNode, raw: bytes, new: Mapping[int, object]
) -> None:
    """A salt is in vain where something else of the image tells what a layer was."""
    assert node.config is not None
    told = [*node.manifest.annotations.values(), raw.decode("utf-8"), *_packed(raw)]
    for index in new:
        layer = node.manifest.layers[index]
        kept = [
            value
            for key, value in layer.annotations.items()
            if key not in telling_annotations(layer)
        ]
        for digest in (node.config.diff_ids[index], layer.digest):
            if any(digest.hex in text for text in (*told, *kept)):
                session.journal.warn(
                    f"the config or an annotation of {node.label} still tells the digest that "
                    f"layer {index} had without its salt: see --scrub and --scrub-label"
                )
                break


def _packed(raw: bytes) -> list[str]:
    """What BuildKit puts into a config in base64: its cache names layers."""
    found = []
    for key, value in json.loads(raw).items():
        if key.startswith("moby.buildkit.") and isinstance(value, str):
            with suppress(binascii.Error):
                found.append(base64.b64decode(value).decode("latin-1"))
    return found
