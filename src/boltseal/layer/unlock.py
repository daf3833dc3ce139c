"""Unwrap one layer's key. Nothing of the layer is read, and little is loaded: nodes wait for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boltseal.blockcipher.options import PrivateOptions, PublicOptions
from boltseal.errors import UnsupportedError
from boltseal.keywrap.base import About
from boltseal.spec import annotations as names
from boltseal.spec.mediatypes import layer_type

if TYPE_CHECKING:
    from boltseal.keywrap.keyring import Keyring
    from boltseal.spec.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class UnlockedLayer:
    """A layer whose key has been unwrapped."""

    public: PublicOptions
    private: PrivateOptions
    identity: str  # what opened it, for people
    plain_type: str


def unlock_layer(layer: Descriptor, keyring: Keyring, about: About | None = None) -> UnlockedLayer:
    """Unwrap a layer's key without reading the layer; ``about`` tells of its image.

    Raises NoMatchingKeyError, or an IntegrityError for options or packets that are refused.
    """
    kind = layer_type(layer.media_type)
    if kind is None or not kind.encrypted:
        raise UnsupportedError(f"an encrypted layer of type {layer.media_type} is not known")
    public = PublicOptions.parse(layer.annotations.get(names.PUBLIC_OPTIONS))
    known = replace(about or About(), layer=str(layer.digest))
    opened = keyring.unwrap(layer.annotations, known)
    return UnlockedLayer(public, PrivateOptions.parse(opened.secret), opened.identity, kind.plain)
