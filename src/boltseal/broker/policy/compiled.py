"""The policies of one version, parsed once and used for every request."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

import cedarpy

from boltseal.broker.policy import text as texts
from boltseal.broker.policy import tree
from boltseal.broker.policy.probes import Probes

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEPT: Final = 256  # versions in memory


@dataclass(frozen=True)
class Compiled:
    """Safe for threads: nothing in it changes, but that :attr:`probes` are made when first used."""

    cedar: cedarpy.PolicySet = field(repr=False)
    trees: Mapping[str, tree.Node] = field(repr=False)
    wanted: frozenset[str]  # members of the context that they use

    def name(self, cedars: str) -> str:
        """A policy's @id, from Cedar's own name of it."""
        found = self.trees.get(cedars, {}).get("annotations", {}).get("id")
        return found or cedars

    def advice(self, cedars: str) -> str:
        """A policy's @advice, empty without one."""
        return self.trees.get(cedars, {}).get("annotations", {}).get("advice") or ""

    @cached_property
    def probes(self) -> Probes:
        """What tells which conditions a request does not meet."""
        return Probes(self.trees)


@lru_cache(maxsize=MAX_KEPT)
def compiled(text: str) -> Compiled | str:
    """The policies, or why there are none: that is as lasting as the text, so it is kept, too."""
    try:
        texts.scan(text)
        trees, has_templates = tree.parse(text)
        if has_templates:
            return "there is a template among the policies"
        return Compiled(cedarpy.PolicySet.from_str(text), trees, tree.members_of_context(trees))
    except (texts.TextError, ValueError, RecursionError) as error:
        return str(error)
