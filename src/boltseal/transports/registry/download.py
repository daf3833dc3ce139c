"""Read a blob from a registry; a connection that breaks is taken up where it broke."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from boltseal._io.retry import ATTEMPTS, MAX_ASKED_SECONDS, pause
from boltseal.errors import SizeMismatchError, TransientError
from boltseal.transports.registry.http import whole_number

if TYPE_CHECKING:
    from boltseal.spec.descriptor import Descriptor
    from boltseal.transports.registry.client import Repository
    from boltseal.transports.registry.http import Response

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:[0-9]{1,19}|\*)")
_MAX_BREAKS = 100  # of one blob, however far it gets in between
_SKIP_BYTES = 1 << 20


class RegistryReader:
    """``BlobReader`` over HTTP. Nothing is asked for before the first byte is wanted."""

    def __init__(self, repository: Repository, path: str, descriptor: Descriptor) -> None:
        self.repository = repository
        self._path = path
        self._descriptor = descriptor
        self._response: Response | None = None
        self._position = 0
        self._got = 0  # bytes of the present response
        self._failures = 0  # without any byte in between
        self._breaks = 0

    def readinto(self, buffer: memoryview) -> int:
        while True:
            try:
                return self._read(buffer)
            except TransientError as error:
                self.close()
                self._failures += 1
                self._breaks += 1
                asked_too_much = (error.wait or 0) > MAX_ASKED_SECONDS
                if self._failures >= ATTEMPTS or self._breaks > _MAX_BREAKS or asked_too_much:
                    error.exhausted = True
                    raise
                time.sleep(pause(self._failures, error.wait))

    def _read(self, buffer: memoryview) -> int:
        if self._response is None:
            self._response = self._open()
            self._got = 0
        count = self._response.readinto(buffer)
        if count:
            self._position += count
            self._got += count
            self._failures = 0
            return count
        if self._position < self._descriptor.size:
            if not self._got:
                raise SizeMismatchError(
                    f"the registry has {self._position} bytes of blob {self._descriptor.digest}, "
                    f"its descriptor states {self._descriptor.size}"
                )
            raise TransientError(f"{self.repository.host} ended the blob too early")
        self._response.finish()
        return 0

    def _open(self) -> Response:
        start, size = self._position, self._descriptor.size
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        response = self.repository.send(
            "GET",
            self.repository.url(self._path),
            f"blob {self._descriptor.digest.short}",
            headers=headers,
            expect=(200, 206),
            attempts=1,
        )
        try:
            if response.status == 206:
                match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if match is None or int(match.group(1)) != start:
                    raise SizeMismatchError("the registry answered with another range than asked")
            else:
                start = 0
            self._check_length(response, size - start)
            if response.status == 200:
                self._skip(response)
        except BaseException:
            response.close()
            raise
        return response

    def _check_length(self, response: Response, expected: int) -> None:
        stated = whole_number(response.headers.get("content-length", ""))
        if stated is not None and stated != expected:
            raise SizeMismatchError(
                f"the registry announces {stated} bytes of blob {self._descriptor.digest}, "
                f"{expected} are due by its descriptor"
            )

    def _skip(self, response: Response) -> None:
        """A registry without ranges sends everything again."""
        left = self._position
        room = memoryview(bytearray(min(left, _SKIP_BYTES)))
        while left:
            count = response.readinto(room[: min(left, len(room))])
            if not count:
                raise TransientError(f"{self.repository.host} ended the blob too early")
            left -= count

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
