"""Processes that decide: each core can open and seal, which the interpreter's lock keeps threads
from doing.

They have no connection but one to this process and one to the database, and write nothing down. The
first of them starts when requests have to wait for each other; until one is ready, and whenever
there is none, the threads of the crew decide. Of one that ends, all that it had under way is lost,
and refused: whatever made it end must not meet this process as well.
"""

from __future__ import annotations

import contextlib
import pickle
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.release.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boltseal.broker.release.jobs import Job

MAX_BODY: Final = 16 * 1024  # bytes of a request that goes to a process
WAITING: Final = 3  # requests under way that make it worth while to have one
_HELD = 24  # requests that one process has at a time
_AT_ONCE = 8  # of one message
_HUNG_SECONDS = 60.0
_AGAIN_SECONDS = 2.0  # before one that ended is replaced; twice as long after each that fails
_AGAIN_MOST = 60.0
_LOOK_SECONDS = 1.0
_END_SECONDS = 2.0  # that one may take to end
_SIZE: Final = struct.Struct(">I")
_PIECE = 256 * 1024


@dataclass(eq=False, slots=True)
class _Process:
    popen: subprocess.Popen[bytes]
    sock: socket.socket
    jobs: dict[int, Job] = field(default_factory=dict)
    seen: bytearray = field(default_factory=bytearray)
    since: float = 0.0  # when the last message came
    is_ready: bool = False
    open_keys: int = 0


class Pool:
    """``count`` processes that run ``module``, which gets ``hello()`` first.

    ``decided`` is called in the pool's thread with jobs and their verdicts (None: to be decided in
    this process), and jobs that were lost; it may neither block nor raise. ``event`` is told what
    happens to processes.
    """

    def __init__(
        self,
        count: int,
        module: str,
        hello: Callable[[], object],
        decided: Callable[[list[tuple[Job, Verdict | None]], list[Job]], None],
        event: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._count = count
        self._module = module
        self._hello = hello
        self._decided = decided
        self._event = event
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._processes: list[_Process] = []
        self._numbers = 0
        self._failed = 0
        self._not_before = 0.0
        self._thread: threading.Thread | None = None
        self._selector = selectors.DefaultSelector()
        self._is_closed = False
        self._closed_at = 0.0

    @property
    def open_keys(self) -> int:
        """Private keys that are opened in all of them."""
        return sum(one.open_keys for one in self._processes)

    @property
    def pids(self) -> list[int]:
        """Of those that are ready."""
        return [one.popen.pid for one in self._processes if one.is_ready]

    def hire(self) -> None:
        """Have the processes started, if they are not."""
        if self._thread is not None or not self._count:
            return
        with self._lock:
            if not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="boltseal-pool", daemon=True)
                self._thread.start()

    def put(self, jobs: Iterable[Job]) -> list[Job]:
        """Have them decided; those that are not for a process, or all of them without any."""
        if not any(one.is_ready for one in self._processes):
            return list(jobs)
        others: list[Job] = []
        with self._lock:
            if self._is_closed:
                return list(jobs)
            for one in jobs:
                fits = len(one.body) <= MAX_BODY and not one.presented.evidence
                (self._queue if fits else others).append(one)
            self._feed()
        return others

    def stop(self) -> None:
        """Nothing is under way any more: end them."""
        with self._lock:
            self._is_closed, self._closed_at = True, time.monotonic()
            for one in self._processes:
                with contextlib.suppress(OSError):
                    one.sock.shutdown(socket.SHUT_WR)
        if self._thread is not None:
            self._thread.join(_LOOK_SECONDS + 2 * _END_SECONDS)
        self._selector.close()

    def _feed(self) -> None:
        """Share out what waits, to whoever has the least; the lock is held."""
        while self._queue:
            free = [one for one in self._processes if one.is_ready and len(one.jobs) < _HELD]
            if not free:
                return
            least = min(free, key=lambda one: len(one.jobs))
            share = -(-len(self._queue) // len(free))
            count = min(_AT_ONCE, share, _HELD - len(least.jobs))
            self._send(least, [self._queue.popleft() for _ in range(count)])

    def _send(self, process: _Process, jobs: list[Job]) -> None:
        asked = []
        if not process.jobs:
            process.since = time.monotonic()
        for one in jobs:
            self._numbers += 1
            process.jobs[self._numbers] = one
            who = one.presented
            asked.append(
                (
                    *(self._numbers, one.body, who.chain, who.bearer, who.address),
                    *(one.now, one.identifier, one.started),
                )
            )
        try:
            send(process.sock, asked)
        except OSError:  # its end is noticed by the thread, with all that it had
            process.is_ready = False

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._is_closed and not self._processes:
                    return
            if not self._is_closed:
                self._replace()
            for key, _ in self._selector.select(_LOOK_SECONDS):
                self._read(key.data)
            self._watch()

    def _watch(self) -> None:
        """End those that hang, or do not end when they should."""
        now = time.monotonic()
        for one in self._processes:
            if self._is_closed:
                is_late = now > self._closed_at + _END_SECONDS
            else:
                is_late = (one.jobs or not one.is_ready) and now - one.since > _HUNG_SECONDS
            if is_late:
                one.popen.kill()

    def _replace(self) -> None:
        """As many as there should be."""
        if len(self._processes) >= self._count or time.monotonic() < self._not_before:
            return
        try:
            hello = pickle.dumps(self._hello())
            while len(self._processes) < self._count:
                self._start(hello)
        except Exception as error:  # noqa: BLE001  there are threads beside them
            self._ended(f"cannot be started: {type(error).__name__}")

    def _start(self, hello: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: no Python file of the current folder gets into it
            popen = subprocess.Popen(  # noqa: S603  this program's own module
                [sys.executable, "-P", "-m", self._module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        process = _Process(popen, ours, since=time.monotonic())
        with self._lock:
            self._processes.append(process)
        self._selector.register(ours, selectors.EVENT_READ, process)
        with contextlib.suppress(OSError):
            ours.sendall(_SIZE.pack(len(hello)) + hello)

    def _read(self, process: _Process) -> None:
        try:
            piece = process.sock.recv(_PIECE)
        except OSError:
            piece = b""
        if not piece:
            self._lose(process)
            return
        process.seen += piece
        for message in _messages(process.seen):
            self._take(process, message)

    def _take(self, process: _Process, message: Any) -> None:
        open_keys, answers = message
        process.open_keys = open_keys
        decided: list[tuple[Job, Verdict | None]] = []
        with self._lock:
            process.since = time.monotonic()
            if not process.is_ready and not answers:
                process.is_ready = True
                self._failed = 0
            for number, values in answers:
                job = process.jobs.pop(number)
                decided.append((job, None if values is None else Verdict(*values)))
            self._feed()
        if decided:
            self._decided(decided, [])

    def _lose(self, process: _Process) -> None:
        self._selector.unregister(process.sock)
        with self._lock:
            process.is_ready = False
            self._processes.remove(process)
            lost = list(process.jobs.values())
            left: list[tuple[Job, Verdict | None]] = []
            if not any(one.is_ready for one in self._processes):
                left = [(one, None) for one in self._queue]  # nobody may come who could take them
                self._queue.clear()
        process.sock.close()
        process.popen.kill()
        process.popen.wait()
        if not self._is_closed:
            self._ended("ended")
        if lost or left:
            self._decided(left, lost)

    def _ended(self, how: str) -> None:
        pause = min(_AGAIN_MOST, _AGAIN_SECONDS * 2**self._failed)
        self._failed = min(self._failed + 1, 10)
        self._not_before = time.monotonic() + pause
        self._event(how)


def send(sock: socket.socket, message: object) -> None:
    """One message to the other end. Raises OSError."""
    raw = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    sock.sendall(_SIZE.pack(len(raw)) + raw)


def receive(sock: socket.socket, seen: bytearray) -> list[Any]:
    """The messages that are here by now, at least one. Raises OSError, EOFError."""
    while True:
        piece = sock.recv(_PIECE)
        if not piece:
            raise EOFError
        seen += piece
        found = _messages(seen)
        if found:
            return found


def _messages(seen: bytearray) -> list[Any]:
    found: list[Any] = []
    at = 0
    while len(seen) - at >= _SIZE.size:
        (size,) = _SIZE.unpack_from(seen, at)
        end = at + _SIZE.size + size
        if len(seen) < end:
            break
        # both ends are this program, and nobody else has the socket
        found.append(pickle.loads(bytes(seen[at + _SIZE.size : end])))  # noqa: S301
        at = end
    if at:
        del seen[:at]
    return found
