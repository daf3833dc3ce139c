"""From a reference to the transport that serves it; each is imported only when it is used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError
from boltseal.spec.reference import (
    parse_path_reference,
    parse_registry_reference,
    split_transport,
)

if TYPE_CHECKING:
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageDestination, ImageSource
    from boltseal.transports.registry.options import RegistryOptions

_HERE = "boltseal.transports"
# transport to module and the beginning of its classes' names
_HOMES = {
    "oci": (f"{_HERE}.oci_layout", "Layout"),
    "oci-archive": (f"{_HERE}.oci_archive", "Archive"),
    "docker-archive": (f"{_HERE}.docker_archive", "DockerArchive"),
    "dir": (f"{_HERE}.directory", "Directory"),
    "docker-daemon": (f"{_HERE}.programs", "Program"),
    "containers-storage": (f"{_HERE}.programs", "Program"),
}
REGISTRY = "docker"
_KNOWN = (REGISTRY, *_HOMES)


def parse_reference(text: str) -> Reference:
    """Raises UsageError for a transport that there is not."""
    transport, _ = split_transport(text)
    if transport not in _KNOWN:
        hint = f"use one of {', '.join(_KNOWN)}"
        if transport in ("http", "https"):
            hint = "write docker://HOST/NAME[:TAG]"
        elif os.path.isdir(transport):
            hint = f"write oci:{transport}[:TAG] for the layout in that folder"
        elif os.path.exists(transport):
            hint = f"write oci-archive:{transport}[:TAG] for an archive"
        elif "/" not in text.partition(":")[2]:
            hint = "write docker://NAME[:TAG] for a registry, oci:PATH[:TAG] for a layout"
        raise UsageError(f"{transport!r} is not a transport", hint=hint)
    if transport == REGISTRY:
        return parse_registry_reference(text)
    return parse_path_reference(text)


def open_source(reference: Reference, options: RegistryOptions | None = None) -> ImageSource:
    """A source that is not opened yet: enter it."""
    if reference.transport == REGISTRY:
        from boltseal.transports.registry.options import RegistryOptions
        from boltseal.transports.registry.source import RegistrySource

        return RegistrySource(reference, options or RegistryOptions())
    made: ImageSource = _class(reference, "Source")(reference)
    return made


def open_destination(
    reference: Reference, options: RegistryOptions | None = None
) -> ImageDestination:
    """A destination that is not opened yet: enter it."""
    if reference.digest is not None:
        raise UsageError(
            f"{reference} cannot be written to: its digest is not known before",
            hint="leave @DIGEST out",
        )
    if reference.transport == REGISTRY:
        from boltseal.transports.registry.destination import RegistryDestination
        from boltseal.transports.registry.options import RegistryOptions

        return RegistryDestination(reference, options or RegistryOptions())
    made: ImageDestination = _class(reference, "Destination")(reference)
    return made


def _class(reference: Reference, end: str) -> Any:
    module, name = _HOMES[reference.transport]
    return getattr(import_module(module), name + end)
