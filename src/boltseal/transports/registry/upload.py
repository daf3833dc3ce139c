"""Write a blob to a registry while it is still being made.

OCI Distribution Specification, "Pushing a blob in chunks": a session, its bytes, and at last the
digest. Without that last request the registry keeps nothing, so what is sent before every check was
right is never named.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from boltseal.errors import (
    BoltsealError,
    IntegrityError,
    NotFoundError,
    RegistryError,
    SizeMismatchError,
    TransientError,
)
from boltseal.transports.registry.http import joined, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.transports.registry.client import Repository

SMALL = 256 * 1024  # bytes up to which a blob is kept in memory and sent in one request
PIECE = 64 << 20  # bytes of one request, once a registry has refused a whole blob as too large
_JOIN_SECONDS = 2.0  # how long an abandoned upload is waited for
_OCTETS = {"Content-Type": "application/octet-stream"}


class AbandonedError(Exception):
    """Ends the request of an upload that was given up."""


class Feed:
    """Hands one buffer at a time from the thread that makes them to the one that sends them.

    Nothing is copied: :meth:`put` returns when the buffer has been sent.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._buffer: memoryview | None = None
        self._error: BaseException | None = None
        self.taken = 0  # bytes that have been sent

    def put(self, data: memoryview) -> None:
        """Raises what made sending impossible."""
        with self._turn:
            self._raise()
            self._buffer = data
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._buffer is None or self._error is not None)
            self._raise()

    def take(self, count: int) -> Iterator[memoryview]:
        """The next ``count`` bytes, as they come."""
        while count:
            with self._turn:
                self._turn.wait_for(lambda: self._buffer is not None or self._error is not None)
                self._raise()
                assert self._buffer is not None
                piece, rest = self._buffer[:count], self._buffer[count:]
            yield piece
            count -= len(piece)
            with self._turn:
                self.taken += len(piece)
                self._buffer = rest if len(rest) else None
                self._turn.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing more is sent: both sides raise this."""
        with self._turn:
            self._error = self._error or error
            self._turn.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


class RegistryUploads:
    """Begins uploads to one repository, and remembers what its registry does not take."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.piece: int | None = None  # bytes of one request; None sends a blob in one

    def begin(self, headers: Mapping[str, str] | None = None, query: str = "") -> tuple[str, int]:
        """Open a session: its location, and the least a request may send but the last."""
        repository = self.repository
        url = repository.url(f"blobs/uploads/{query}")
        response = repository.send(
            "POST",
            url,
            "an upload",
            headers={"Content-Length": "0", **(headers or {})},
            body=b"",
            expect=(202,),
        )
        response.finish()
        least = whole_number(response.headers.get("oci-chunk-min-length", ""))
        return self.location(response.headers, url), least or 0

    def location(self, headers: Mapping[str, str], url: str) -> str:
        """Where an upload goes on (relative or absolute, with a query that is kept)."""
        value = headers.get("location")
        if not value:
            raise RegistryError(f"{self.repository.host} does not say where to upload to")
        return joined(url, value)

    def finish(self, location: str, digest: Digest, body: bytes = b"") -> None:
        """Name the blob; a name that the registry took without our hearing of it is found."""
        repository = self.repository
        joint = "&" if "?" in location else "?"
        url = f"{location}{joint}digest={quote(str(digest), safe='')}"
        headers = {**_OCTETS, "Content-Length": str(len(body))}
        try:
            response = repository.send(
                "PUT", url, f"blob {digest.short}", headers=headers, body=body, expect=(201, 204)
            )
        except (NotFoundError, TransientError) as error:
            if self.exists(digest):
                return
            if isinstance(error, NotFoundError):
                raise self.forgotten() from None
            raise
        response.finish()
        stated = response.headers.get("docker-content-digest")
        if stated is not None and stated != str(digest):
            raise IntegrityError(f"{repository.host} stored blob {digest.short} as something else")

    def exists(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the registry has a blob (and says it has this size)."""
        try:
            response = self.repository.send(
                "HEAD", self.repository.url(f"blobs/{digest}"), f"blob {digest.short}"
            )
        except NotFoundError:
            return False
        response.finish()
        stated = whole_number(response.headers.get("content-length", ""))
        return size is None or stated is None or stated == size

    def forgotten(self) -> TransientError:
        """A session that the registry lost, as it may when it is started again."""
        return TransientError(f"{self.repository.host} has forgotten an upload")

    def cancel(self, location: str) -> None:
        """Tell the registry that nothing will come; it may as well find out by itself."""
        with suppress(BoltsealError):
            # some want to be told how much they have got ("Pushing a blob in chunks")
            status = self.repository.send(
                "GET", location, "an upload", expect=range(100, 600), attempts=1
            )
            status.finish()
            if status.status == 204 and "location" in status.headers:
                location = self.location(status.headers, location)
            self.repository.send(
                "DELETE", location, "an upload", expect=range(100, 600), attempts=1
            ).finish()


def mount(repository: Repository, other: str, blob: Descriptor) -> bool:
    """Take a blob over from another repository of the registry ("Mounting a blob")."""
    repository.also_pull(other)
    response = repository.send(
        "POST",
        repository.url(f"blobs/uploads/?mount={blob.digest}&from={other}"),
        f"blob {blob.digest.short}",
        headers={"Content-Length": "0"},
        body=b"",
        expect=(201, 202, 400, 401, 403, 404, 405),
    )
    response.finish()
    if response.status == 202 and "location" in response.headers:
        # not mounted: a session was opened that nobody needs
        uploads = RegistryUploads(repository)
        uploads.cancel(uploads.location(response.headers, response.url))
    return response.status == 201


class SmallUpload:
    """A blob that is sent when it is complete."""

    def __init__(self, uploads: RegistryUploads, size: int) -> None:
        self._uploads = uploads
        self._size = size
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        if len(self._data) + len(data) > self._size:
            raise SizeMismatchError(f"a blob is longer than the {self._size} bytes announced")
        self._data += data

    def commit(self, digest: Digest) -> None:
        location, _ = self._uploads.begin()
        self._uploads.finish(location, digest, bytes(self._data))

    def abort(self) -> None:
        self._data.clear()


class StreamedUpload:
    """A blob that is sent while it is made, by a thread of its own."""

    def __init__(self, uploads: RegistryUploads, size: int) -> None:
        self._uploads = uploads
        self._size = size
        self._count = 0
        self._location, self._least = uploads.begin()
        self._open = True
        self._feed = Feed()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._send, name="boltseal-upload", daemon=True)
        self._thread.start()

    def write(self, data: memoryview) -> None:
        self._count += len(data)
        if self._count > self._size:
            raise SizeMismatchError(f"a blob is longer than the {self._size} bytes announced")
        self._feed.put(data)

    def interrupt(self) -> None:
        """Whoever waits in :meth:`write` for the registry is told that nobody wants it any more."""
        self._feed.fail(AbandonedError())

    def commit(self, digest: Digest) -> None:
        if self._count != self._size:
            raise SizeMismatchError(f"a blob has {self._count} bytes, {self._size} were announced")
        self._thread.join()
        if self._failed is not None:
            raise self._failed
        self._uploads.finish(self._location, digest)
        self._open = False

    def abort(self) -> None:
        if not self._open:
            return
        self._open = False
        self.interrupt()
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive() and self._failed is None:
            self._uploads.cancel(self._location)

    def _send(self) -> None:
        try:
            sent = 0
            while sent < self._size:
                count = self._size - sent
                if self._uploads.piece is not None:
                    count = min(count, max(self._uploads.piece, self._least))
                self._patch(sent, count)
                sent += count
        except AbandonedError:
            pass
        except BaseException as error:  # noqa: BLE001  raised again by whoever writes or commits
            self._failed = error
            self._feed.fail(error)

    def _patch(self, start: int, count: int) -> None:
        uploads, repository = self._uploads, self._uploads.repository
        headers = {**_OCTETS, "Content-Length": str(count)}
        if count != self._size:
            headers["Content-Range"] = f"{start}-{start + count - 1}"
        response = repository.send(
            "PATCH",
            self._location,
            "an upload",
            headers=headers,
            body=self._feed.take(count),
            expect=(202, 204, 404, 413),
        )
        response.finish()
        if response.status == 404:
            raise uploads.forgotten()
        if response.status == 413:
            if uploads.piece is not None:
                raise RegistryError(f"{repository.host} takes no request of {count} bytes")
            uploads.piece = PIECE
            raise TransientError(f"{repository.host} does not take a blob in one request")
        if self._feed.taken != start + count:
            raise TransientError(f"{repository.host} answered before everything was sent")
        self._location = uploads.location(response.headers, self._location)
        stored = response.headers.get("range", "").removeprefix("bytes=").partition("-")[2]
        if whole_number(stored) not in (None, start + count - 1):
            raise TransientError(f"{repository.host} has not kept all that was sent")
