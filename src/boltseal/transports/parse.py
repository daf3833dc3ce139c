"""From a reference to the transport that serves it; each is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import UnsupportedError, UsageError
from boltseal.spec.reference import (
    parse_path_reference,
    parse_registry_reference,
    split_transport,
)

if TYPE_CHECKING:
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageDestination, ImageSource
    from boltseal.transports.registry.options import RegistryOptions

_KNOWN = ("oci", "oci-archive", "docker")
_LATER = ("docker-archive", "docker-daemon", "dir", "containers-storage")


def parse_reference(text: str) -> Reference:
    """Raises UsageError, or UnsupportedError for a transport that skopeo knows and we do not."""
    transport, _ = split_transport(text)
    if transport in _LATER:
        raise UnsupportedError(
            f"the transport {transport}: is not in this version",
            hint="bring the image into a layout first: skopeo copy --all SOURCE oci:PATH:TAG",
        )
    if transport not in _KNOWN:
        raise UsageError(
            f"{transport!r} is not a transport", hint=f"use one of {', '.join(_KNOWN)}"
        )
    if transport == "docker":
        return parse_registry_reference(text)
    return parse_path_reference(text)


def open_source(reference: Reference, options: RegistryOptions | None = None) -> ImageSource:
    """A source that is not opened yet: enter it."""
    if reference.transport == "docker":
        from boltseal.transports.registry.options import RegistryOptions
        from boltseal.transports.registry.source import RegistrySource

        return RegistrySource(reference, options or RegistryOptions())
    if reference.transport == "oci":
        from boltseal.transports.oci_layout import LayoutSource

        return LayoutSource(reference)
    from boltseal.transports.oci_archive import ArchiveSource

    return ArchiveSource(reference)


def open_destination(
    reference: Reference, options: RegistryOptions | None = None
) -> ImageDestination:
    """A destination that is not opened yet: enter it."""
    if reference.digest is not None:
        raise UsageError(
            f"{reference} cannot be written to: its digest is not known before",
            hint="leave @DIGEST out",
        )
    if reference.transport == "docker":
        from boltseal.transports.registry.destination import RegistryDestination
        from boltseal.transports.registry.options import RegistryOptions

        return RegistryDestination(reference, options or RegistryOptions())
    if reference.transport == "oci":
        from boltseal.transports.oci_layout import LayoutDestination

        return LayoutDestination(reference)
    from boltseal.transports.oci_archive import ArchiveDestination

    return ArchiveDestination(reference)
