"""Processes that decide: each core can open and seal, which the interpreter's lock keeps threads
from doing.

They have no connection but one to this process and one to the database, and write nothing down. The
first of them starts when requests have to wait for each other; until one is ready, and whenever
there is none, the threads of the crew decide. Of one that ends, all that it had under way is lost,
and refused: whatever made it end should not meet this process as well.
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

from boltseal.broker.model import Action
from boltseal.broker.release.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boltseal.broker.release.jobs import Job

MAX_BODY: Final = 16 * 1024  # bytes of a request that goes to a process
WAITING: Final = 3  # requests under way that make it worth while to have one
_AT_ONCE = 8  # requests of one message
_HELD = 2 * _AT_ONCE  # that one process has at a time
_SIZE: Final = struct.Struct(">I")
_PIECE = 256 * 1024
_GOING = 0.1  # seconds between a process's last word and its end
_MAX_MESSAGE = 64 * 1024 * 1024  # bytes
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds."""

    start: float = 60.0  # until a process is ready
    hung: float = 20.0  # without a word from one that has something to decide
    again: float = 2.0  # before one that ended is replaced; twice as long after each that fails
    again_most: float = 60.0
    look: float = 1.0
    end: float = 2.0  # that one may take to end


@dataclass(eq=False, slots=True)
class _Process:
    popen: subprocess.Popen[bytes]
    sock: socket.socket
    jobs: dict[int, Job] = field(default_factory=dict)
    told: bytes = field(default=b"", repr=False)  # by hello
    seen: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    since: float = 0.0  # when the last message came
    is_ready: bool = False
    open_keys: int = 0


class Pool:
    """``count`` processes that run ``module``, which gets ``hello()`` first, and again when that
    has changed; while it is None none is started.

    ``decided`` is called in the pool's thread with jobs and their verdicts (None: to be decided in
    this process), and jobs that were lost; it may neither block nor raise. ``event`` is told what
    happens to processes.
    """

    def __init__(
        self,
        count: int,
        module: str,
        hello: Callable[[], object | None],
        decided: Callable[[list[tuple[Job, Verdict | None]], list[Job]], None],
        event: Callable[[str], None] = lambda _: None,
        *,
        patience: Patience | None = None,
    ) -> None:
        self._count = count
        self._module = module
        self._hello = hello
        self._decided = decided
        self._event = event
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._processes: list[_Process] = []
        self._numbers = 0
        self._failed = 0
        self._not_before = 0.0
        self._told_at = 0.0
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
        with self._lock:
            if self._thread is None and self._count and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="boltseal-pool", daemon=True)
                self._thread.start()

    def put(self, jobs: Iterable[Job]) -> list[Job]:
        """Have them decided; those that are not for a process, or all of them without any."""
        if not any(one.is_ready for one in self._processes):
            return list(jobs)
        others: list[Job] = []
        with self._lock:
            # one that has ended since may have been the last
            if self._is_closed or not any(one.is_ready for one in self._processes):
                return list(jobs)
            for one in jobs:
                (self._queue if _fits(one) else others).append(one)
            self._feed()
        return others

    def stop(self) -> None:
        """Nothing is under way any more, or it is too late for it: end them."""
        with self._lock:
            self._is_closed, self._closed_at = True, time.monotonic()
            for one in self._processes:
                with contextlib.suppress(OSError):
                    one.sock.shutdown(socket.SHUT_WR)
        if self._thread is None:
            self._selector.close()
        else:
            self._thread.join(self._patience.look + 2 * self._patience.end)

    def _feed(self) -> None:
        """Share out what waits, to whoever has the least; the lock is held.

        One that is at work gets more when a whole message is there for it, and has one in store:
        a message for each request would cost as much as half of the deciding.
        """
        while self._queue:
            free = [
                one
                for one in self._processes
                if one.is_ready
                and not one.unsent
                and (
                    not one.jobs
                    or (len(one.jobs) <= _HELD - _AT_ONCE and len(self._queue) >= _AT_ONCE)
                )
            ]
            if not free:
                return
            least = min(free, key=lambda one: len(one.jobs))
            count = min(_AT_ONCE, -(-len(self._queue) // len(free)))
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
        process.unsent += _message(asked)
        self._flush(process)

    def _flush(self, process: _Process) -> None:
        """Send what it takes now: neither an event loop nor the thread that reads may wait for a
        process, which may itself wait to be read. The lock is held.
        """
        try:
            del process.unsent[: process.sock.send(process.unsent)]
        except BlockingIOError:
            pass
        except OSError:  # its end is noticed by the thread, with all that it had
            process.is_ready = False
            process.unsent.clear()
        self._selector.modify(process.sock, _READ | _WRITE if process.unsent else _READ, process)

    def _run(self) -> None:
        with self._selector:
            while True:
                with self._lock:
                    if self._is_closed and not self._processes:
                        return
                if not self._is_closed:
                    self._tell()
                for key, ready in self._selector.select(self._patience.look):
                    self._serve(key.data, ready)
                self._watch()

    def _serve(self, process: _Process, ready: int) -> None:
        try:
            if ready & _WRITE:
                with self._lock:
                    self._flush(process)
                    self._feed()
            if ready & _READ:
                self._read(process)
        except Exception as error:  # noqa: BLE001  what it says cannot be understood
            self._lose(process, f"said what is no verdict: {type(error).__name__}")

    def _watch(self) -> None:
        """End those that hang, or do not end when they should."""
        now = time.monotonic()
        for one in self._processes:
            if self._is_closed:
                is_late = now > self._closed_at + self._patience.end
            elif one.is_ready:
                is_late = bool(one.jobs) and now - one.since > self._patience.hung
            else:
                is_late = now - one.since > self._patience.start
            if is_late:
                one.popen.kill()

    def _tell(self) -> None:
        """Have as many as there should be, and all of them know what there is to know."""
        now = time.monotonic()
        is_short = len(self._processes) < self._count and now >= self._not_before
        if not is_short and now < self._told_at + self._patience.look:
            return
        self._told_at = now
        try:
            hello = self._hello()
            if hello is None:
                return
            told = _message(hello)
            with self._lock:
                for one in self._processes:
                    if one.is_ready and one.told != told:
                        one.told = told
                        one.unsent += told
                        self._flush(one)
            while is_short and len(self._processes) < self._count:
                self._start(told)
        except Exception as error:  # noqa: BLE001  there are threads beside them
            self._ended(f"cannot be started: {type(error).__name__}")

    def _start(self, hello: bytes) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            # -P: no Python file of the current folder gets into it
            popen = subprocess.Popen(  # noqa: S603  this program's own module
                [sys.executable, "-P", "-m", self._module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        process = _Process(popen, ours, told=hello, since=time.monotonic())
        process.unsent += hello
        with self._lock:
            self._processes.append(process)
            self._selector.register(ours, _READ, process)
            self._flush(process)

    def _read(self, process: _Process) -> None:
        try:
            piece = process.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._lose(process, "ended")
            return
        process.seen += piece
        for message in _messages(process.seen):
            self._take(process, message)

    def _take(self, process: _Process, message: Any) -> None:
        process.open_keys, answers = message
        verdicts = {
            number: None if values is None else Verdict(*values) for number, values in answers
        }
        with self._lock:
            process.since = time.monotonic()
            if not process.is_ready and not answers:
                process.is_ready = True
                self._failed = 0
            decided = [(process.jobs[number], one) for number, one in verdicts.items()]
            for number in verdicts:
                del process.jobs[number]
            self._feed()
        if decided:
            self._decided(decided, [])

    def _lose(self, process: _Process, how: str) -> None:
        with self._lock:
            if process not in self._processes:
                return
            self._selector.unregister(process.sock)
            process.is_ready = False
            self._processes.remove(process)
            lost = list(process.jobs.values())
            left: list[tuple[Job, Verdict | None]] = []
            if not any(one.is_ready for one in self._processes):
                left = [(one, None) for one in self._queue]  # nobody may come who could take them
                self._queue.clear()
        process.sock.close()
        try:
            code = process.popen.wait(_GOING)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            code = process.popen.wait()
        if not self._is_closed:
            self._ended(f"{process.popen.pid} {how} ({code})")
        if lost or left:
            self._decided(left, lost)

    def _ended(self, how: str) -> None:
        pause = min(self._patience.again_most, self._patience.again * 2**self._failed)
        self._failed = min(self._failed + 1, 10)
        self._not_before = time.monotonic() + pause
        self._event(how)


def _fits(job: Job) -> bool:
    is_small = len(job.body) <= MAX_BODY and not job.presented.evidence
    return is_small and job.action is Action.UNWRAP


def send(sock: socket.socket, message: object) -> None:
    """One message to the other end. Raises OSError."""
    sock.sendall(_message(message))


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


def _message(what: object) -> bytes:
    raw = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    return _SIZE.pack(len(raw)) + raw


def _messages(seen: bytearray) -> list[Any]:
    found: list[Any] = []
    at = 0
    while len(seen) - at >= _SIZE.size:
        (size,) = _SIZE.unpack_from(seen, at)
        end = at + _SIZE.size + size
        if size > _MAX_MESSAGE:
            raise ValueError("this is no message")
        if len(seen) < end:
            break
        # both ends are this program, and nobody else has the socket
        found.append(pickle.loads(bytes(seen[at + _SIZE.size : end])))  # noqa: S301
        at = end
    if at:
        del seen[:at]
    return found
