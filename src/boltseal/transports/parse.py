"""From a reference to the transport that serves it; each is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import UnsupportedError, UsageError
from boltseal.spec.reference import parse_path_reference, split_transport

if TYPE_CHECKING:
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageDestination, ImageSource

_KNOWN = ("oci", "oci-archive")
_LATER = ("docker", "docker-archive", "docker-daemon", "dir", "containers-storage")


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
    return parse_path_reference(text)


def open_source(reference: Reference) -> ImageSource:
    """A source that is not opened yet: enter it."""
    if reference.transport == "oci":
        from boltseal.transports.oci_layout import LayoutSource

        return LayoutSource(reference)
    from boltseal.transports.oci_archive import ArchiveSource

    return ArchiveSource(reference)


def open_destination(reference: Reference) -> ImageDestination:
    """A destination that is not opened yet: enter it."""
    if reference.digest is not None:
        raise UsageError(
            f"{reference} cannot be written to: its digest is not known before",
            hint="leave @DIGEST out",
        )
    if reference.transport == "oci":
        from boltseal.transports.oci_layout import LayoutDestination

        return LayoutDestination(reference)
    from boltseal.transports.oci_archive import ArchiveDestination

    return ArchiveDestination(reference)
