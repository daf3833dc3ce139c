"""Platforms: ``os/architecture[/variant]`` (OCI Image Specification, image-index.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from boltseal.errors import MalformedError, UsageError

_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# containerd's platforms package: what a missing variant means
_DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm"}


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform as an index or a configuration states it."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def from_json(cls, value: Any, what: str) -> Platform:
        """Raises MalformedError unless ``os`` and ``architecture`` are strings."""
        if not isinstance(value, dict):
            raise MalformedError(f"{what} is not an object")
        fields = [value.get(key, "") for key in ("os", "architecture", "variant", "os.version")]
        if not all(isinstance(field, str) and len(field) <= 128 for field in fields):
            raise MalformedError(f"{what} has a field that is not a short string")
        return cls(*fields)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """From the command line: ``linux/arm64`` or ``linux/arm/v7``; raises UsageError."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(
                f"{text!r} is not a platform", hint="write OS/ARCH or OS/ARCH/VARIANT: linux/arm64"
            )
        return cls(*parts)

    def matches(self, wanted: Platform) -> bool:
        """Whether this platform is the wanted one; a variant not asked for may be any."""
        ours, asked = self._normal(), wanted._normal()
        if ours[:2] != asked[:2]:
            return False
        return not wanted.variant or ours[2] == asked[2]

    def _normal(self) -> tuple[str, str, str]:
        architecture = self.architecture.lower()
        architecture = _ALIASES.get(architecture, architecture)
        variant = self.variant.lower() or _DEFAULT_VARIANT.get(architecture, "")
        return self.os.lower(), architecture, variant

    @property
    def is_known(self) -> bool:
        """False for the ``unknown/unknown`` of attestation manifests and for empty ones."""
        return bool(self.os) and self.os != "unknown"

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
