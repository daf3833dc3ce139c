"""Take over layers that were encrypted before, in other images, when they hold the same plaintext.

What an image says about its layers proves nothing, nor does a wrapped key: anyone can encrypt for
a public key. A layer is taken over when it was opened with one of our keys and holds, byte for
byte or decompressed, what was to be encrypted. Whoever made it had that plaintext already, so that
even a key of his choice tells him nothing. See docs/threat-model.md.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from boltseal.errors import IntegrityError, NotFoundError, UsageError, located
from boltseal.image import transfer, tree
from boltseal.image.arguments import as_reference, several
from boltseal.image.parallel import Once, attempt_layer
from boltseal.image.unlock import Unlocker
from boltseal.keywrap import packets
from boltseal.keywrap.keyring import check_addition
from boltseal.layer.encrypt import check_encrypted, encryptable
from boltseal.layer.same import is_made_of, take_over
from boltseal.layer.verify import Verdict, verify_layer
from boltseal.spec import mediatypes
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from boltseal.image.report import Meter, Part
    from boltseal.image.session import Session
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import Recipient, WrappedKey
    from boltseal.keywrap.keyring import Keyring
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource

MAX_TRIED = 4  # encrypted layers of one image that are looked at for one diff id
_MAX_NAMED = 5  # recipients, in a message


@dataclass(frozen=True, slots=True)
class Earlier:
    """A layer that was encrypted before, and opened."""

    image: _Image
    layer: Descriptor
    unlocked: UnlockedLayer


class Reuse:
    """Encrypted layers of ``images``, by diff id. A context manager that keeps the images open.

    ``keyring`` has the keys that open them. First :meth:`find` is asked about every layer that is
    to be encrypted, then comes :meth:`check`; no layer is read before :meth:`take`.
    """

    def __init__(
        self,
        images: Sequence[str | Reference],
        session: Session,
        recipients: Sequence[Recipient],
        keyring: Keyring,
        allow_classical: bool,
    ) -> None:
        self._names = [as_reference(one) for one in several(images)]
        if self._names and not keyring.identities:
            raise UsageError(
                f"layers of {self._names[0]} are taken over when a key opens them, "
                "and no key was given",
                hint="name a private key with --key FILE",
            )
        self._session = session
        self._recipients = recipients
        self._keyring = keyring
        self._allow_classical = allow_classical
        self._images: list[_Image] = []
        self._stack = ExitStack()
        self._found: dict[tuple[Digest, int], tuple[Earlier, ...]] = {}
        self._taken: Once[DescriptorEdit | None] = Once()
        self._lock = threading.Lock()
        self._shut_out: dict[WrappedKey, None] = {}
        self._blobs: dict[bytes, Digest] = {}  # by the key that opens it

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in self._names:
                with located(str(name)):
                    source = open_source(name, self._session.access_to(name))
                    self._images.append(
                        _Image(str(name), stack.enter_context(source), self._keyring)
                    )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def expect(self, places: Iterable[tuple[ManifestNode, int, Descriptor]]) -> None:
        """Tell of the layers that are chosen, before :meth:`find` looks for each plain one."""
        wanted = [
            node.config.diff_ids[index]
            for node, index, layer in places
            if node.config is not None
            and layer.data is None  # as find() does
            and not mediatypes.is_encrypted(layer.media_type)
        ]
        for image in self._images:
            image.keys.expect(one for diff_id in wanted for one in image.layers.get(diff_id, ()))

    def find(self, node: ManifestNode, index: int, layer: Descriptor) -> None:
        """Look for layers that may be taken over in place of a plain one.

        Raises UsageError for one whose recipients do not go with the new ones, and what unwrapping
        its key raises.
        """
        if node.config is None or layer.data is not None:  # that is in the manifest, and small
            return
        found: list[Earlier] = []
        for image in self._images:
            with located(image.name):
                for old_node, old_index, old in image.layers.get(node.config.diff_ids[index], ()):
                    with located(old_node.label), located(f"layer {old_index}"):
                        found += self._opened(image, old_node, old_index, old)
        # those of the same size may be the very same bytes
        found.sort(key=lambda one: one.layer.size != layer.size)
        self._found[node.descriptor.digest, index] = tuple(found)

    def _opened(
        self, image: _Image, node: ManifestNode, index: int, old: Descriptor
    ) -> list[Earlier]:
        check_encrypted(old)
        if not self._allow_classical:
            check_addition(old.annotations, self._recipients)
        unlocked = image.keys.unlock(node, index, old)
        if unlocked is None:
            image.closed += 1
            return []
        image.opened += 1
        return [Earlier(image, old, unlocked)]

    def check(self) -> None:
        """To be called when everything was looked for.

        Raises NoMatchingKeyError for an image of which no key opens anything that is wanted.
        """
        for image in self._images:
            if image.closed and not image.opened:
                with located(image.name):
                    image.keys.raise_first()
            if image.closed:
                self._session.journal.note(
                    f"no key given opens some layers of {image.name}: these were not taken over"
                )
            elif not image.opened:
                self._session.journal.note(f"{image.name} has no layer that could be taken over")

    def take(
        self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter
    ) -> DescriptorEdit | None:
        """Take over the first layer that is proven to be the same; None when there is none.

        The descriptor then has the blob of that layer, wrapped for the recipients of now. Raises
        IntegrityError when a layer is not what its image says.
        """
        found = self._found.get((node.descriptor.digest, index))
        if not found or node.config is None:
            return None
        diff_id = node.config.diff_ids[index]
        meter.begin(f"compare layer {index} of {node.label}")
        same = (layer.digest, layer.size, layer.media_type, diff_id)
        edit, mine = self._taken.get(same, lambda: self._first(found, layer, diff_id, meter))
        if edit is not None and not mine:
            meter.tick(layer.size)
        return edit

    def _first(
        self, found: Sequence[Earlier], layer: Descriptor, diff_id: Digest, meter: Meter
    ) -> DescriptorEdit | None:
        for one in found:
            if not self._is_only_one(one):
                continue
            part = meter.part()
            try:
                media_type = self._prove(one, layer, diff_id, part)
                if media_type is not None and self._move(one, meter):
                    edit = take_over(one.layer, one.unlocked, self._recipients, media_type)
                    self._compare(one.layer, edit)
                    return edit
            except NotFoundError as error:
                self._session.journal.note(f"{one.image.name}: {error.message}")
            part.undo()
        return None

    def _is_only_one(self, one: Earlier) -> bool:
        """Whether its key opens no other layer here: two under one key tell each other."""
        with self._lock:
            known = self._blobs.setdefault(one.unlocked.private.symkey, one.layer.digest)
        if known == one.layer.digest:
            return True
        self._session.journal.warn(
            f"layers of {one.image.name} share a key, so that they tell each other to everybody: "
            "one of them was taken over, and the others were not"
        )
        return False

    def _prove(self, one: Earlier, layer: Descriptor, diff_id: Digest, meter: Part) -> str | None:
        """The media type that the layer has then, if it holds the same; its size is reported."""

        def is_made(tick: Callable[[int], None]) -> bool:
            reader = self._session.source.open(layer)
            try:
                return is_made_of(one.layer, one.unlocked, layer, reader, tick)
            finally:
                reader.close()

        kind = encryptable(layer)
        if one.layer.size == layer.size:
            if attempt_layer(is_made, meter):
                return kind.encrypted_type
            meter.undo()
        old = mediatypes.layer_type(one.layer.media_type)
        if old is None or not (old.is_tar and kind.is_tar):
            return None
        if mediatypes.is_foreign(old.plain) != mediatypes.is_foreign(kind.plain):
            return None
        if not self._is_its_own(layer, diff_id, meter):
            return None
        self._open(one, diff_id, meter)
        self._session.journal.note(
            f"some layers are taken over as {one.image.name} has them, compressed otherwise than "
            "here: they hold the same, but decrypting gives a manifest of another digest"
        )
        return old.encrypted_type

    def _is_its_own(self, layer: Descriptor, diff_id: Digest, meter: Part) -> bool:
        """Whether the plain layer has the diff id that its config gives it: nothing else of it is
        compared when the other one is compressed otherwise.
        """

        def verdict(tick: Callable[[int], None]) -> Verdict:
            reader = self._session.source.open(layer)
            try:
                return verify_layer(layer, None, reader, diff_id=diff_id, tick=tick)
            finally:
                reader.close()

        found = attempt_layer(verdict, meter)
        if found.problems:
            self._session.journal.warn(
                f"a layer is not what its own config says, so no other was taken over for it: "
                f"{found.problems[0]}"
            )
        return not found.problems

    def _open(self, one: Earlier, diff_id: Digest, meter: Meter) -> None:
        """Read it all: digest, HMAC, and what it decompresses to."""

        def verdict(tick: Callable[[int], None]) -> Verdict:
            reader = one.image.source.open(one.layer)
            try:
                return verify_layer(one.layer, one.unlocked, reader, diff_id=diff_id, tick=tick)
            finally:
                reader.close()

        found = attempt_layer(verdict, meter.aside())
        problems = [*found.problems, *filter(None, [found.mistyped])]
        if problems:
            raise IntegrityError(
                f"layer {one.layer.digest.short} of {one.image.name} is not what it says, so it "
                f"is not taken over: {problems[0]}",
                hint="leave that image out",
            )

    def _move(self, one: Earlier, meter: Meter) -> bool:
        """Have the blob at the destination; it is copied only where it cannot be mounted."""
        with located(one.image.name):
            return attempt_layer(
                lambda tick: transfer.copy_blob(
                    one.image.source, self._session.destination, one.layer, tick
                ),
                meter.aside(),
            )

    def _compare(self, old: Descriptor, edit: DescriptorEdit) -> None:
        before = Counter(packets.describe(old.annotations)[0])
        now = Counter(packets.describe(edit.set_annotations)[0])
        with self._lock:
            self._shut_out.update(dict.fromkeys(before - now))

    def warn(self) -> None:
        """To be called at the end: who can open what was taken over, and is no recipient."""
        if not self._shut_out:
            return
        named = [f"{one.scheme} {one.recipient or '(not named)'}" for one in self._shut_out]
        more = len(named) - _MAX_NAMED
        who = ", ".join(named[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        self._session.journal.warn(
            f"recipients of before who are none now ({who}) can open the layers that were taken "
            "over, if they kept the layers' keys; without --reuse every layer gets a new key"
        )


class _Image:
    """One image to take layers from."""

    def __init__(self, name: str, source: ImageSource, keyring: Keyring) -> None:
        self.name = name
        self.source = source
        self.keys = Unlocker(keyring, name)
        self.opened = 0
        self.closed = 0
        self.layers: dict[Digest, list[tuple[ManifestNode, int, Descriptor]]] = {}
        seen: set[tuple[Digest, Digest]] = set()
        for node in tree.manifests(tree.load(source, source.root().descriptor)):
            if node.config is None or node.is_attestation:
                continue
            for index, layer in enumerate(node.manifest.layers):
                place = (node.config.diff_ids[index], layer.digest)
                if mediatypes.is_encrypted(layer.media_type) and place not in seen:
                    seen.add(place)
                    same = self.layers.setdefault(place[0], [])
                    if len(same) < MAX_TRIED:
                        same.append((node, index, layer))
