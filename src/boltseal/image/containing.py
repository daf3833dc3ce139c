"""Which layers hold a path that matches a glob: every distinct layer is read once, and verified.

A choice that rested on content other than what the image promises would leave a secret readable,
so a layer's size and digest, its HMAC and its diff id have to be right before it is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from boltseal.errors import NotFoundError, UnsupportedError, UsageError, located
from boltseal.image import parallel, tree
from boltseal.image.report import Meter
from boltseal.image.unlock import about
from boltseal.layer.decrypt import unlock_layer
from boltseal.layer.globs import Glob
from boltseal.layer.look import find_paths
from boltseal.spec import mediatypes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.image.choice import Eyes, Place
    from boltseal.image.report import Journal
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest

    IsChosen = Callable[[ManifestNode, int], bool]
    _Seen = tuple[frozenset[int], set[int]]  # globs that match, and those that match links alone


@dataclass(slots=True)
class _Task:
    """One distinct layer, and where it occurs; the first place is what messages name."""

    layer: Descriptor
    unlocked: UnlockedLayer | None
    diff_id: Digest | None
    where: tuple[str, str]
    places: list[Place] = field(default_factory=list)


def find(
    globs: Sequence[str], node: Node, eyes: Eyes, journal: Journal, is_chosen: IsChosen
) -> Mapping[Digest, Mapping[int, Sequence[str]]]:
    """By manifest and layer, for layers with a matching path: the globs that match something.

    ``is_chosen`` says which layers are chosen already, so that they may be ones that cannot be
    looked into. Every glob has to match on every platform, or a secret that lies elsewhere there
    would stay readable: raises UsageError. Raises UnsupportedError for a layer that is no archive
    of files, NoMatchingKeyError for an encrypted one that no key opens, where keys were given, and
    IntegrityError for one that is not what the image says.
    """
    wanted = tuple(Glob.parse(text) for text in dict.fromkeys(globs))
    tasks = _Tasks(eyes, journal, is_chosen)
    nodes = [one for one in tree.manifests(node) if not one.is_attestation]
    for one in nodes:
        for index, layer in enumerate(one.manifest.layers):
            with located(one.label), located(f"layer {index}"):
                tasks.add(one, index, layer)
    found: dict[Digest, dict[int, tuple[str, ...]]] = {}
    for (digest, index), texts in tasks.run(wanted).items():
        if texts:
            found.setdefault(digest, {})[index] = texts
    for one in nodes:
        matched = found.get(one.descriptor.digest, {})
        with located(one.label):
            _check_all_match(wanted, matched, one, tasks)
        for glob in _only_links(wanted, matched, one, tasks):
            journal.warn(
                f"{glob!r} matches nothing but symbolic links in {one.label}, which are not "
                "followed: what they lead to may be in a layer that stays readable"
            )
    return found


class _Tasks:
    """The layers to look into, each once."""

    def __init__(self, eyes: Eyes, journal: Journal, is_chosen: IsChosen) -> None:
        self._eyes = eyes
        self._journal = journal
        self._is_chosen = is_chosen
        self._tasks: dict[object, _Task] = {}
        self.closed: set[Place] = set()  # encrypted, and no key was given
        self.links: set[tuple[Place, str]] = set()  # globs that match symbolic links alone there

    def add(self, node: ManifestNode, index: int, layer: Descriptor) -> None:
        """Get ready to look into one layer, if that is possible."""
        place = (node.descriptor.digest, index)
        kind = mediatypes.layer_type(layer.media_type)
        if kind is None or not kind.is_tar:
            if self._is_chosen(node, index):
                return
            raise UnsupportedError(
                f"a layer of type {layer.media_type} cannot be searched for paths",
                hint="choose the layers to encrypt with --layer",
            )
        unlocked = None
        if kind.encrypted:
            if not self._eyes.keyring.identities:
                self.closed.add(place)
                self._journal.note(
                    "layers that are encrypted already were not searched for paths; "
                    "give a key that opens them to do so"
                )
                return
            unlocked = unlock_layer(layer, self._eyes.keyring, about("", node))
        diff_id = node.config.diff_ids[index] if node.config is not None else None
        same = (layer.digest, layer.size, layer.data, unlocked, diff_id)
        if same not in self._tasks:
            where = (node.label, f"layer {index}")
            self._tasks[same] = _Task(layer, unlocked, diff_id, where)
        self._tasks[same].places.append(place)

    def run(self, globs: tuple[Glob, ...]) -> dict[Place, tuple[str, ...]]:
        """Look into all of them; what matched, by place."""
        tasks = list(self._tasks.values())
        meter = Meter(sum(task.layer.size for task in tasks), self._eyes.progress)
        results = parallel.run(
            [partial(self._look, task, globs, meter) for task in tasks],
            self._eyes.access.jobs if self._eyes.source.concurrent else 1,
            meter,
        )
        self.links = {
            (place, globs[number].text)
            for task, (_, links) in zip(tasks, results, strict=True)
            for place in task.places
            for number in links
        }
        return {
            place: tuple(globs[number].text for number in sorted(result))
            for task, (result, _) in zip(tasks, results, strict=True)
            for place in task.places
        }

    def _look(self, task: _Task, globs: tuple[Glob, ...], meter: Meter) -> _Seen:
        label, layer = task.where
        meter.begin(f"search {layer} of {label}")

        def look(tick: Callable[[int], None]) -> _Seen:
            reader = self._eyes.source.open(task.layer)
            links: set[int] = set()
            try:
                found = find_paths(
                    task.layer,
                    task.unlocked,
                    reader,
                    globs,
                    diff_id=task.diff_id,
                    tick=tick,
                    links=links,
                )
                return found, links
            finally:
                reader.close()

        with located(label), located(layer):
            try:
                return parallel.attempt_layer(look, meter)
            except NotFoundError:
                if not (task.layer.urls and mediatypes.is_foreign(task.layer.media_type)):
                    raise
        self._journal.note(
            f"{layer} of {label} is not in the source but only behind its URLs, "
            "and was not searched for paths"
        )
        return frozenset(), set()


def _only_links(
    globs: Sequence[Glob],
    found: Mapping[int, Sequence[str]],
    node: ManifestNode,
    tasks: _Tasks,
) -> list[str]:
    """Globs that no file or folder of an image matches."""
    digest = node.descriptor.digest
    real = {
        text
        for index, texts in found.items()
        for text in texts
        if ((digest, index), text) not in tasks.links
    }
    return [glob.text for glob in globs if glob.text not in real]


def _check_all_match(
    globs: Sequence[Glob],
    found: Mapping[int, Sequence[str]],
    node: ManifestNode,
    tasks: _Tasks,
) -> None:
    """What matches nothing is a mistake that would leave something readable."""
    met = {text for texts in found.values() for text in texts}
    for glob in globs:
        if glob.text in met:
            continue
        closed = sum(digest == node.descriptor.digest for digest, _ in tasks.closed)
        if closed:
            raise UsageError(
                f"no layer that can be read holds a path that matches {glob.text!r}, and {closed} "
                "encrypted before cannot be searched",
                hint="give a key that opens them with -k",
            )
        raise UsageError(
            f"no layer holds a path that matches {glob.text!r}: nothing would be encrypted for it",
            hint="a glob has to match on every platform: */x stays in one folder, **/x does not; "
            "--platform keeps some platforms",
        )
