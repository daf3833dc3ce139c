"""What an image's configuration says about running it (image-spec, config.md), strictly parsed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.spec.limits import MAX_CONFIG_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ITEMS = 10_000  # members of one list or map of a configuration

_TOP = ("config", "os", "architecture", "variant", "os.version", "os.features", "author", "created")
_RUN = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The members that a runtime's configuration is made of; empty where the image has none."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    author: str = ""
    created: str = ""
    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_image_config(raw: bytes) -> ImageConfig:
    """Raises MalformedError or LimitExceededError."""
    document = strictjson.load_object(raw, "config", max_bytes=MAX_CONFIG_BYTES)
    strictjson.refuse_variants(document, _TOP, "config")
    run = document.get("config")
    if run is None:
        run = {}
    if not isinstance(run, dict):
        raise MalformedError("the config's member config is not an object")
    strictjson.refuse_variants(run, _RUN, "config")
    labels = _map(run, "Labels")
    if not all(isinstance(value, str) for value in labels.values()):
        raise MalformedError("the config's Labels are not all text")
    return ImageConfig(
        os=_text(document, "os"),
        architecture=_text(document, "architecture"),
        variant=_text(document, "variant"),
        os_version=_text(document, "os.version"),
        os_features=_texts(document, "os.features"),
        author=_text(document, "author"),
        created=_text(document, "created"),
        user=_text(run, "User"),
        env=_texts(run, "Env"),
        entrypoint=_texts(run, "Entrypoint"),
        cmd=_texts(run, "Cmd"),
        working_dir=_text(run, "WorkingDir"),
        stop_signal=_text(run, "StopSignal"),
        exposed_ports=tuple(sorted(_map(run, "ExposedPorts"))),
        volumes=tuple(sorted(_map(run, "Volumes"))),
        labels=labels,
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise MalformedError(f"the config's {name} is no text")
    return value


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise MalformedError(f"the config's {name} is not a list")
    _bound(len(value), name)
    if not all(isinstance(one, str) and "\0" not in one for one in value):
        raise MalformedError(f"the config's {name} is not a list of texts")
    return tuple(value)


def _map(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedError(f"the config's {name} is not an object")
    _bound(len(value), name)
    return value


def _bound(count: int, name: str) -> None:
    if count > MAX_ITEMS:
        raise LimitExceededError(
            f"the config's {name} has {count} members, over the limit of {MAX_ITEMS}"
        )
