"""A Dask cluster as the executor of a bulk run: one task an image.

A task whose worker dies goes to another worker; the image is then written again, under the same
name. What a scheduler and its workers see is in ``parcel``; whoever reaches a scheduler can run
code on its workers, so it has to be protected by TLS or a network of its own.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

from boltseal.errors import ClusterError, MissingExtraError
from boltseal.image.bulk import parcel
from boltseal.image.bulk.report import FAILED, Failure, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.image.bulk.task import Task

_IN_FLIGHT = 1000  # tasks that the scheduler has at a time
_CONNECT_SECONDS = 20
_WORKER_SECONDS = 30  # how long a cluster may take to have its first worker
_STOP_SECONDS = 10


class DaskExecutor:
    """``cluster`` is a scheduler's address (``tcp://HOST:PORT``) or a ``distributed.Client``.

    ``work`` is called on the workers with each task. The default knows nothing of their environment
    variables; ``boltseal.cli.bulk_worker.work`` follows them, as the command does.
    """

    def __init__(
        self, cluster: Any, *, work: Callable[[dict[str, Any]], dict[str, Any]] = parcel.work
    ) -> None:
        try:
            import distributed
        except ImportError:
            raise MissingExtraError("encrypting on a Dask cluster", "dask") from None
        self._distributed: Any = distributed
        self._address = cluster if isinstance(cluster, str) else None
        self._client: Any = None if isinstance(cluster, str) else cluster
        self._work = work
        self._todo: deque[dict[str, Any]] = deque()
        self._running: dict[Any, int] = {}
        self._run = os.urandom(8).hex()

    def _connect(self, address: str) -> Any:
        try:
            return self._distributed.Client(
                address, timeout=_CONNECT_SECONDS, set_as_default=False, name="boltseal"
            )
        except (OSError, ValueError, TypeError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address[:200]}: {type(error).__name__}",
                hint="write its address as tcp://HOST:PORT, as `dask scheduler` prints it",
            ) from None

    def submit(self, task: Task) -> None:
        self._todo.append(parcel.pack(task))

    def completed(self) -> Iterator[Result]:
        if not self._todo:
            return
        if self._address is not None:
            self._client = self._connect(self._address)
        try:
            self._client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except (OSError, TimeoutError):
            raise ClusterError(
                "the Dask cluster has no worker", hint="start some: dask worker ADDRESS"
            ) from None
        coming = self._distributed.as_completed(loop=self._client.loop)
        self._fill(coming)
        for future in coming:
            yield self._result(future)
            del self._running[future]  # whoever asks for the next one has kept it
            future.release()
            self._fill(coming)

    def stop(self) -> Iterator[Result]:
        self._todo.clear()
        if self._client is None:
            return
        try:
            for future in list(self._running):
                if future.status == "finished":
                    yield self._result(future)
            # what a worker is in the middle of it finishes, and nobody asks for it
            self._client.cancel(list(self._running), asynchronous=False, force=True)
        finally:
            self._running.clear()
            if self._address is not None:
                self._client.close(timeout=_STOP_SECONDS)

    def _fill(self, coming: Any) -> None:
        while self._todo and len(self._running) < _IN_FLIGHT:
            sent = self._todo.popleft()
            number = sent["number"]
            key = f"boltseal-encrypt-{self._run}-{number}"
            future = self._client.submit(self._work, sent, key=key, pure=False)
            self._running[future] = number
            coming.add(future)

    def _result(self, future: Any) -> Result:
        number = self._running[future]
        try:
            found = Result.from_json(future.result())
        except Exception as error:  # noqa: BLE001  whatever a cluster fails with
            return Result(number, FAILED, failure=Failure.of(_explained(error)))
        if found.number != number:
            return Result(number, FAILED, failure=Failure.of(ClusterError("it sent nonsense")))
        return found


def _explained(error: Exception) -> ClusterError:
    kind = type(error).__name__
    if kind == "KilledWorker":
        return ClusterError(
            "every worker that began it died", hint="look at the workers' logs, and their memory"
        )
    if isinstance(error, ImportError):
        missing = (error.name or "").partition(".")[0] or "a package"
        return ClusterError(f"the workers do not have {missing}", hint="install it there")
    return ClusterError(f"the cluster lost it: {kind}")
