"""Let the next layers arrive while one is being unpacked."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

from boltseal._io.handoff import CancelledError
from boltseal._io.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.descriptor import Descriptor
    from boltseal.transports.base import ImageSource

_PIECE = 256 << 10  # bytes of one read
_STOP_SECONDS = 3.0  # how long threads are waited for that were told to stop


class Fetch:
    """The blobs of an image's layers, to be read in order. Use it as a context manager.

    Where it pays, ``jobs`` of them arrive at a time, as they are: encrypted, and not verified.
    """

    def __init__(
        self,
        source: ImageSource,
        layers: Sequence[Descriptor],
        jobs: int,
        open_file: Callable[[], int],
    ) -> None:
        self._source = source
        self._layers = layers
        self._todo: SimpleQueue[int] = SimpleQueue()
        self._turns: SimpleQueue[bool] = SimpleQueue()
        self._spools: list[Spool] = []
        self._threads: list[threading.Thread] = []
        self._stopped = False
        jobs = min(jobs, len(layers))
        if source.concurrent and jobs > 1:
            self._spools = [Spool(open_file) for _ in layers]
            for index in range(len(layers)):
                self._todo.put(index)
            for _ in range(jobs):
                self._turns.put(True)
            self._threads = [
                # one that hangs on a connection must not keep the process alive
                threading.Thread(target=self._work, name=f"boltseal-fetch-{n}", daemon=True)
                for n in range(jobs)
            ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._stopped = True
        for spool in self._spools:
            spool.close()
        for _ in self._threads:
            self._turns.put(True)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def open(self, index: int) -> BlobReader:
        """The blob of one layer."""
        return self._spools[index] if self._spools else self._source.open(self._layers[index])

    def done(self) -> None:
        """One layer has been unpacked: another one may arrive."""
        self._turns.put(True)

    def _work(self) -> None:
        while True:
            self._turns.get()
            try:
                index = self._todo.get_nowait()
            except Empty:
                return
            if self._stopped:
                return
            spool = self._spools[index]
            try:
                self._fetch(self._layers[index], spool)
            except CancelledError:
                return
            except BaseException as error:  # noqa: BLE001  raised by whoever reads the spool
                spool.finish(error)

    def _fetch(self, layer: Descriptor, spool: Spool) -> None:
        reader = self._source.open(layer)
        try:
            room = memoryview(bytearray(_PIECE))
            left = layer.size + 1  # one more than stated, so that it shows
            while left > 0 and (count := reader.readinto(room[: min(left, _PIECE)])):
                spool.write(room[:count])
                left -= count
        finally:
            reader.close()
        spool.finish()
