"""Valid encrypted images by Hypothesis, and a way to change any part of one: digests fit again."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from boltseal.keywrap import keyring
from boltseal.keywrap.parse import parse_keyring, parse_recipient
from boltseal.spec.annotations import KEYS
from support.cli import boltseal
from support.images import GZIP, INDEX, TAR, ZSTD, Layout, add_manifest, compact, tar_bytes
from support.tamper import JWE, PUBOPTS, b64

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TYPES = (TAR, GZIP, ZSTD)
SPECS = 18  # different images


@dataclass(frozen=True)
class Spec:
    """An image: per platform contents and types of layers; how many of the first stay readable.

    ``people`` have it encrypted for them; the first key is what verifies.
    """

    platforms: tuple[tuple[tuple[int, int], ...], ...]
    clear: int
    people: tuple[str, ...]
    has_names: bool


def specs() -> st.SearchStrategy[Spec]:
    """A few of the many: what takes time is to encrypt them."""
    return st.integers(0, SPECS - 1).map(_spec)


def _spec(seed: int) -> Spec:
    """Of one to three platforms, two to four layers each, a shared first one in each."""
    draw = random.Random(seed)
    first = (9, draw.randrange(3))
    return Spec(
        tuple(
            (
                first,
                *(
                    (what, draw.randrange(3))
                    for what in draw.sample(range(6), draw.choice([1, 2, 3]))
                ),
            )
            for _ in range(1 + seed % 3)
        ),
        clear=seed // 3 % 2,
        people=("p256", "p384", "p521")[: draw.choice([1, 2, 3])],
        has_names=draw.random() < 0.6,
    )


def content(number: int) -> bytes:
    """The tar of one layer."""
    return tar_bytes({f"srv/{number}": f"content {number}\n".encode() * (20 + number)})


class Images:
    """Makes the image of a Spec once, and copies of it."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder, self.keys = folder, keys
        self._made: dict[Spec, Layout] = {}
        self._count = 0

    def make(self, spec: Spec) -> Opened:
        """A copy to change."""
        if spec not in self._made:
            self._made[spec] = self._encrypt(spec)
        self._count += 1
        layout = Layout.__new__(Layout)
        layout.path = self.folder / f"copy{self._count}"
        shutil.copytree(self._made[spec].path, layout.path)
        return Opened(layout, self.keys, spec)

    def _encrypt(self, spec: Spec) -> Layout:
        number = len(self._made)
        source = Layout(self.folder / f"plain{number}")
        entries = [
            add_manifest(
                source,
                [content(what) for what, _ in layers],
                [TYPES[kind] for _, kind in layers],
                architecture=architecture,
            )
            for layers, architecture in zip(
                spec.platforms, ("amd64", "arm64", "s390x"), strict=False
            )
        ]
        if len(entries) == 1:
            (entry,) = entries
            source.tag(entry["mediaType"], entry["digest"], entry["size"])
        else:
            index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
            source.tag(INDEX, *source.blob(index))
        sealed = Layout.__new__(Layout)
        sealed.path = self.folder / f"sealed{number}"
        who = [part for one in spec.people for part in ("-r", f"jwe:{self.keys}/{one}.pub.pem")]
        options = [] if spec.has_names else ["--no-kid"]
        options += ["--layer", f"{spec.clear}.."] if spec.clear else []
        run = boltseal("encrypt", source.reference(), sealed.reference(), *who, *options, "-q")
        assert run.code == 0, run.err
        return sealed


@dataclass
class Opened:
    """An image as JSON; :meth:`save` writes it again, with every digest and size made to fit.

    ``rewrite`` changes the bytes of a document on the way: keys are ``index``, and ``manifest`` or
    ``config`` with a number.
    """

    layout: Layout
    keys: Path
    spec: Spec
    rewrite: dict[tuple[str, int], Callable[[bytes], bytes]] = field(default_factory=dict)
    after: list[Callable[[], object]] = field(default_factory=list)  # run when all is written

    def __post_init__(self) -> None:
        self.root = self.layout.root()
        document = self.layout.json(self.root["digest"])
        self.index: dict[str, Any] | None = document if "manifests" in document else None
        self.entries: list[dict[str, Any]] = (
            [self.root] if self.index is None else self.index["manifests"]
        )
        self.manifests: list[dict[str, Any]] = [
            self.layout.json(one["digest"]) for one in self.entries
        ]
        self.configs: list[dict[str, Any]] = [
            self.layout.json(one["config"]["digest"]) for one in self.manifests
        ]
        self.lies: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def lie(self, descriptor: dict[str, Any], **values: Any) -> None:
        """What a descriptor is to say although it does not fit."""
        self.lies.append((descriptor, values))

    def save(self) -> None:
        """Write everything from the leaves up."""
        for number, manifest in enumerate(self.manifests):
            self._put(manifest.get("config"), ("config", number), self.configs[number])
            self._put(self.entries[number], ("manifest", number), manifest)
        if self.index is not None:
            self._put(self.root, ("index", 0), self.index)
        path = self.layout.path / "index.json"
        document = json.loads(path.read_bytes())
        document["manifests"] = [self.root]
        path.write_bytes(compact(document))
        for step in self.after:
            step()

    def _put(self, descriptor: Any, place: tuple[str, int], document: Any) -> None:
        raw = self.rewrite.get(place, bytes)(compact(document))
        digest, size = self.layout.blob(raw)
        if isinstance(descriptor, dict):
            descriptor.update(digest=digest, size=size)
            for other, values in self.lies:
                if other is descriptor:
                    descriptor.update(values)

    def verify(self) -> Any:
        """Run the command with our key."""
        return boltseal("verify", self.layout.reference(), "-k", self.keys / "p256.pem")

    def places(self, *, encrypted: bool) -> list[tuple[int, int]]:
        """Manifest and layer, of those that are encrypted or readable."""
        return [
            (number, index)
            for number, manifest in enumerate(self.manifests)
            for index, layer in enumerate(manifest["layers"])
            if layer["mediaType"].endswith("+encrypted") == encrypted
        ]

    def layer(self, place: tuple[int, int]) -> dict[str, Any]:
        found: dict[str, Any] = self.manifests[place[0]]["layers"][place[1]]
        return found

    def tar(self, place: tuple[int, int]) -> bytes:
        """The content of a layer."""
        return content(self.spec.platforms[place[0]][place[1]][0])

    def blob(self, place: tuple[int, int]) -> bytes:
        """The bytes of a layer."""
        return self.layout.read(self.layer(place)["digest"])

    def set_blob(self, place: tuple[int, int], raw: bytes) -> None:
        """Other bytes, with digest and size made to fit."""
        digest, size = self.layout.blob(raw)
        self.layer(place).update(digest=digest, size=size)

    def secret(self, place: tuple[int, int]) -> bytes:
        """A layer's private options."""
        ring = parse_keyring([self.keys / "p256.pem"])
        return ring.unwrap(self.layer(place)["annotations"]).secret

    def wrap(self, secret: bytes, *people: str) -> str:
        """What anyone can write who has a secret, or makes one up."""
        who = [parse_recipient(f"jwe:{self.keys}/{one}.pub.pem") for one in people]
        (packets,) = keyring.wrap(who, secret).values()
        return ",".join(map(b64, packets))

    def annotations(self, place: tuple[int, int]) -> dict[str, str]:
        found: dict[str, str] = self.layer(place)["annotations"]
        return found

    def seal(self, place: tuple[int, int], plain: bytes, kind: str) -> None:
        """Encrypt other bytes for the same people in place of a layer, as anyone can."""
        source = Layout(self.layout.path.parent / f"{self.layout.path.name}-other")
        digest, size = source.blob(plain)
        config = source.blob(compact({"rootfs": {"diff_ids": [digest]}}))
        manifest = {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config[0],
                "size": config[1],
            },
            "layers": [{"mediaType": kind, "digest": digest, "size": size}],
        }
        source.tag("application/vnd.oci.image.manifest.v1+json", *source.blob(compact(manifest)))
        who = [f"jwe:{self.keys}/{one}.pub.pem" for one in self.spec.people]
        options = [part for one in who for part in ("-r", one)]
        if not self.spec.has_names:
            options.append("--no-kid")
        target = Layout.__new__(Layout)
        target.path = source.path.with_name(f"{source.path.name}-sealed")
        run = boltseal("encrypt", source.reference(), target.reference(), *options, "-q")
        assert run.code == 0, run.err
        layer = target.json(target.root()["digest"])["layers"][0]
        self.layout.blob(target.read(layer["digest"]))
        self.manifests[place[0]]["layers"][place[1]] = layer


def keys_of(annotations: Mapping[str, str]) -> list[str]:
    """The annotations that hold wrapped keys."""
    return [key for key in annotations if key.startswith(KEYS)]


__all__ = ["JWE", "PUBOPTS", "Images", "Opened", "Spec", "content", "keys_of", "specs"]
