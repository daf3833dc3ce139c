"""Look into a layer for paths, in one pass; what is seen counts once the layer was right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal._io.pipeline import CHUNK_SIZE, Chunk, fill
from boltseal._io.tarstream import TarStream
from boltseal.blockcipher.aes_ctr_hmac import Decryptor
from boltseal.errors import DigestMismatchError, IntegrityError, LimitExceededError
from boltseal.layer.decompress import Decompressor
from boltseal.layer.globs import Path, Search
from boltseal.layer.stream import CheckedReader
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_BLOB_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.layer.globs import Glob
    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.descriptor import Descriptor

MAX_NAMES_BYTES = 128 << 20  # characters of all names of one layer that are compared with globs


def find_paths(
    layer: Descriptor,
    unlocked: UnlockedLayer | None,
    reader: BlobReader,
    globs: Sequence[Glob],
    *,
    diff_id: Digest | None = None,
    tick: Callable[[int], None] | None = None,
    links: set[int] | None = None,
) -> frozenset[int]:
    """The places of those ``globs`` that match a path in what ``reader`` holds.

    To ``links`` go those of them that match symbolic links alone: what these mean lies elsewhere.

    1. Size and digest of the blob are what the descriptor states.
    2. With ``unlocked``: the HMAC over the ciphertext is right.
    3. It is a tar archive, of plain content or compressed with gzip or zstd.
    4. With ``diff_id``: the decompressed content has that digest.

    Raises IntegrityError for the first of them that is not so. Nothing is kept of the content.
    """
    content = _Content(CheckedReader(layer, reader, tick), unlocked, diff_id)
    search, linked = Search(globs), Search(globs)
    problem: IntegrityError | None = None
    try:
        _search(TarStream(content.chunks()), search, linked)
    except IntegrityError as error:
        problem = error
    content.finish()  # 1, 2: what is wrong with the blob says more than what is wrong inside
    if problem is not None:
        raise problem  # 3
    content.compare()  # 4
    if links is not None:
        links |= linked.found - search.found
    return frozenset(search.found | linked.found)


def _search(archive: TarStream, search: Search, linked: Search) -> None:
    count = 0
    for entry in archive:
        count += len(entry.name)
        if count > MAX_NAMES_BYTES:
            raise LimitExceededError(
                f"the layer has names of more than the limit of {MAX_NAMES_BYTES} characters"
            )
        path = Path.of_entry(entry.name, entry.kind == "directory")
        if path is not None:
            (linked if entry.kind == "symlink" else search).add(path)
    archive.drain()


class _Content:
    """What is in a layer, decrypted and decompressed, piece by piece."""

    def __init__(
        self, source: CheckedReader, unlocked: UnlockedLayer | None, diff_id: Digest | None
    ) -> None:
        self._source = source
        self._opener = Decryptor(unlocked.public, unlocked.private) if unlocked else None
        self._diff_id = diff_id
        self._hasher = diff_id.hasher() if diff_id is not None else None
        self._count = 0
        self._chunk = Chunk(CHUNK_SIZE)

    def _read(self) -> memoryview | None:
        """The next piece of the layer as it was before encryption, None at its end."""
        chunk = self._chunk
        chunk.length = fill(self._source.read_into, chunk.room)
        if chunk.length == 0:
            return None
        if self._opener is None:
            return chunk.data
        self._opener.authenticate(chunk)
        self._opener.update(chunk)
        return chunk.out

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The decompressed content; each piece is valid until the next."""
        decompressor = Decompressor()
        while (data := self._read()) is not None:
            for piece in decompressor.feed(data):
                self._take(piece)
                yield piece
        rest = decompressor.finish()
        self._take(rest)
        yield rest

    def _take(self, data: bytes | memoryview) -> None:
        self._count += len(data)
        if self._count > MAX_BLOB_BYTES:
            raise LimitExceededError(
                f"the layer decompresses to more than the limit of {MAX_BLOB_BYTES} bytes"
            )
        if self._hasher is not None:
            self._hasher.update(data)

    def finish(self) -> None:
        """Read the blob to its end, and check it."""
        while self._read() is not None:
            pass
        self._source.finish()
        if self._opener is not None:
            self._opener.verify()

    def compare(self) -> None:
        """Raises DigestMismatchError for content that is not the image's."""
        if self._hasher is None:
            return
        found = Digest.finish(self._hasher)
        if found != self._diff_id:
            raise DigestMismatchError(
                f"the decompressed layer has the diff id {found}, its image's config says "
                f"{self._diff_id}: what it holds is not believed"
            )
