"""What is about to start, from the state that a runtime hands to its hooks.

OCI Runtime Specification, "State": JSON with ``id``, ``bundle`` and ``annotations``. Which image it
is made of the specification does not say; runtimes write it into annotations of their own, and
Podman into the record of its storage.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import files, strictjson
from boltseal.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_STATE_BYTES = 1024 * 1024  # of a container's state
MAX_RECORD_BYTES = 64 * 1024 * 1024  # of a storage's list of containers
MAX_DIGESTS = 16  # under which one image was pulled
MAX_NAME = 1024  # characters of an image's name
_CRI_TYPE = "io.kubernetes.cri.container-type"
_CRI_NAME = "io.kubernetes.cri.image-name"
_CRIO_TYPE = "io.kubernetes.cri-o.ContainerType"
_CRIO_NAME = "io.kubernetes.cri-o.ImageName"
_CRIO_REFERENCE = "io.kubernetes.cri-o.ImageRef"
_CONTAINERD = frozenset((_CRI_TYPE, _CRI_NAME))
_CRIO = frozenset((_CRIO_TYPE, _CRIO_NAME, _CRIO_REFERENCE))
_SANDBOX = "sandbox"
_MANIFEST = "manifest-"  # before the digests of manifests in a storage's list
_HOW = "see docs/how-to/refuse-starts.md for the runtimes that say it"


@dataclass(frozen=True, slots=True)
class Started:
    """A container before it starts. ``image`` is None for a pod's own, which has no program of
    anybody's in it; ``digests`` are those under which it was pulled, where they are known."""

    identifier: str
    image: str | None
    digests: tuple[str, ...] = ()


def parse(raw: bytes) -> Started:
    """Read a state. Raises MalformedError, LimitExceededError or UsageError when it does not say
    which image it is about: what cannot be told is not started.
    """
    what = "the container's state"
    document = strictjson.load_object(raw, what, max_bytes=MAX_STATE_BYTES)
    identifier, bundle = (document.get(one) for one in ("id", "bundle"))
    if not isinstance(identifier, str) or not isinstance(bundle, str):
        raise UsageError(f"{what} has no id or no bundle", hint="runtimes give it to their hooks")
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(
        isinstance(one, str) for one in annotations.values()
    ):
        raise UsageError(f"{what} has annotations that are no texts")
    found = _recorded(identifier, bundle)
    image: str | None
    digests: tuple[str, ...] = ()
    if found is None:
        _check_one_runtime(annotations)
    if found is not None:
        image, digests = found
    elif _SANDBOX in (annotations.get(_CRI_TYPE), annotations.get(_CRIO_TYPE)):
        return Started(identifier, None)
    else:
        image = _annotated(annotations)
    if image is None:
        raise UsageError(f"{what} does not say which image it is made of", hint=_HOW)
    if len(image) > MAX_NAME:
        raise UsageError(f"{what} has a name of an image of more than {MAX_NAME} characters")
    return Started(identifier, image, digests)


def _check_one_runtime(annotations: Mapping[str, Any]) -> None:
    """CRI-O hands on what a pod is annotated with: its author must not speak for containerd."""
    if not _CONTAINERD.isdisjoint(annotations) and not _CRIO.isdisjoint(annotations):
        raise UsageError("the container's state has annotations of two runtimes", hint=_HOW)


def _annotated(annotations: Mapping[str, Any]) -> str | None:
    """containerd's CRI and CRI-O; a reference with a digest goes before a name."""
    name: str | None = annotations.get(_CRI_NAME) or annotations.get(_CRIO_NAME) or None
    reference = annotations.get(_CRIO_REFERENCE)
    if isinstance(reference, str) and "@" in reference:
        return reference
    return name


def _recorded(identifier: str, bundle: str) -> tuple[str, tuple[str, ...]] | None:
    """What Podman's storage says of a container in ``<root>/<driver>-containers/<id>/userdata``:
    its image's name, and the digests under which it was pulled (one that is pulled in another
    encryption is the same image to it).

    Its annotations come from whoever starts the container; this record does not.
    """
    above, last = os.path.split(os.path.normpath(bundle))
    folder, name = os.path.split(above)
    if last != "userdata" or name != identifier or not folder.endswith("-containers"):
        return None
    container = _entry(os.path.join(folder, "containers.json"), identifier)
    metadata = _object(container.get("metadata"))
    image = metadata.get("image-name")
    if not isinstance(image, str) or not image:
        return None
    images = os.path.join(folder.removesuffix("-containers") + "-images", "images.json")
    record = _entry(images, container.get("image"))
    names = record.get("big-data-names")
    listed = names if isinstance(names, list) else []
    manifests = [one for one in listed if isinstance(one, str) and one.startswith(_MANIFEST)]
    digests = [record.get("digest"), *(one.removeprefix(_MANIFEST) for one in manifests)]
    known = [one for one in digests if isinstance(one, str) and one.startswith("sha256:")]
    return image, tuple(dict.fromkeys(known))[:MAX_DIGESTS]


def _entry(path: str, identifier: Any) -> dict[str, Any]:
    """The object with this identifier in a list of the storage; an empty one if there is none."""
    what = "the storage's list"
    try:
        raw = files.read_user_file(path, what, max_bytes=MAX_RECORD_BYTES)
    except NotFoundError:
        return {}
    found = strictjson.loads(raw, f"{what} {path}", max_bytes=MAX_RECORD_BYTES)
    for entry in found if isinstance(found, list) else []:
        if isinstance(entry, dict) and entry.get("id") == identifier:
            return entry
    return {}


def _object(text: Any) -> dict[str, Any]:
    """An object that is written as JSON in a text."""
    if not isinstance(text, str):
        return {}
    return strictjson.load_object(text.encode(), "its metadata", max_bytes=MAX_STATE_BYTES)


def descriptor_digest(raw: bytes) -> str | None:
    """The digest in the descriptor that an image verifier gets on its standard input."""
    document = strictjson.load_object(raw, "the descriptor", max_bytes=MAX_STATE_BYTES)
    digest = document.get("digest")
    return digest if isinstance(digest, str) else None


def hook_document(program: str, arguments: list[str], seconds: float) -> str:
    """The file of a hook for Podman and CRI-O (oci-hooks(5), version 1.0.0)."""
    document = {
        "version": "1.0.0",
        "hook": {
            "path": program,
            "args": [os.path.basename(program), *arguments],
            "timeout": int(seconds) + 2,
        },
        "when": {"always": True},
        "stages": ["createRuntime"],
    }
    return json.dumps(document, indent=2)


def with_hook(base: bytes, program: str, arguments: list[str], seconds: float) -> str:
    """containerd's ``base_runtime_spec`` with the hook in it. Raises MalformedError."""
    spec = strictjson.load_object(base, "the runtime specification", max_bytes=MAX_STATE_BYTES)
    hooks = spec.get("hooks", {})
    if "ociVersion" not in spec:
        raise UsageError("this is no runtime specification", hint="give what ctr oci spec prints")
    if not isinstance(hooks, dict) or not isinstance(hooks.get("createRuntime", []), list):
        raise UsageError("the runtime specification has hooks of another form")
    entry = {
        "path": program,
        "args": [os.path.basename(program), *arguments],
        "timeout": int(seconds) + 2,
    }
    others = [
        one
        for one in hooks.get("createRuntime", [])
        if not isinstance(one, dict) or one.get("path") != program
    ]
    return json.dumps({**spec, "hooks": {**hooks, "createRuntime": [entry, *others]}}, indent=2)
