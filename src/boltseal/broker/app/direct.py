"""The way of a release past the framework: its body is bytes, and its answer is.

A task, messages, routing, validation and responses cost more than all of a policies' verdict. So a
request that is plainly a release is handed to the release room by the connection itself, and what
comes back is written at once. What is not plainly one goes to the application, which answers it as
it does everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from boltseal.broker.app import answers
from boltseal.broker.app.tls_protocol import RELEASE, Edge, Protocol
from boltseal.broker.model import Presented, new_identifier
from boltseal.broker.release.jobs import Reply
from boltseal.keywrap.broker import protocol as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.app.replica import Replica

_JSON: Final = b"application/json"
_CLOSE: Final = b"connection: close\r\n\r\n"
# of browsers, and of clients that wait to be asked for the body: the application sees to them
_UNUSUAL: Final = frozenset((b"origin", b"sec-fetch-site", b"expect", b"upgrade"))


class Answers:
    """An answer's bytes, with the headers that ``answers.Outermost`` has; and the count of them."""

    def __init__(self, replica: Replica) -> None:
        self._metrics = replica.metrics
        self._counted: dict[int, Callable[[], None]] = {}
        safety = answers.headers(tls=replica.settings.tls is not None)
        self._tail = b"".join(b"%b: %b\r\n" % one for one in safety)

    def count(self, status: int) -> None:
        """One more with this status."""
        count = self._counted.get(status)
        if count is None:
            count = self._metrics.requests.labels(wire.PATH, str(status)).inc
            self._counted[status] = count
        count()

    def encode(self, reply: Reply, *, last: bool) -> bytes:
        """Head and body; ``last`` says that the connection ends behind them."""
        body = reply.body
        return b"%bcontent-length: %d\r\ncontent-type: application/json\r\n%b%b%b%b" % (
            STATUS_LINE[reply.status],
            len(body),
            b"retry-after: %d\r\n" % reply.wait if reply.wait else b"",
            self._tail,
            _CLOSE if last else b"\r\n",
            body,
        )


class _Event:
    """Nobody waits for what comes in of a release."""

    def set(self) -> None:
        """Called by uvicorn."""


class Release:
    """A release from its head to its answer. uvicorn takes it for one of its own cycles.

    So it knows whether the connection is at work, for keep-alive, pipelining and its own end.
    """

    __slots__ = (
        *("connection", "disconnected", "is_next", "keep_alive", "more_body", "pieces"),
        *("presented", "response_complete", "response_started"),
    )
    message_event: Final = _Event()

    def __init__(self, connection: Connection, presented: Presented, *, keep_alive: bool) -> None:
        self.connection = connection
        self.presented = presented
        self.keep_alive = keep_alive
        self.pieces: list[bytes] = []
        self.more_body = True
        self.is_next = False  # all requests before it are answered
        self.disconnected = self.response_started = self.response_complete = False

    def done(self, reply: Reply) -> None:
        """The answer, in the event loop's thread; raises nothing."""
        self.connection.done(self, reply)


class Connection(Protocol):
    """One connection, with releases that pass by the framework. ``of`` makes a server's class."""

    noted = Protocol.noted | _UNUSUAL | {b"content-type"}
    replica: Replica
    answers: Answers
    _release: Release | None = None  # what is being read
    # an answer for which the client makes no room, and since when
    _waiting: tuple[Release, Reply, float] | None = None
    _nobody: Presented | None = None  # what comes with a request without a token
    _idle: float | None = None  # since when nothing is asked

    def on_message_begin(self) -> None:
        """A request starts."""
        super().on_message_begin()
        self._release = self._idle = None

    def begin(self) -> None:
        """Its head is here, and is in order."""
        self._idle = None  # the last answer may have gone out since it began
        if self.url != RELEASE or (presented := self._presented()) is None:
            super().begin()
            return
        parser = self.parser
        keep = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        release = self._release = Release(self, presented, keep_alive=keep)
        before: Any = self.cycle  # None before the first request
        self.cycle = release  # type: ignore[assignment]
        if before is None or before.response_complete:
            release.is_next = True
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((release, self.app))  # type: ignore[arg-type]

    def piece(self, body: bytes) -> None:
        """Some of its body, within the bounds."""
        if self._release is None:
            super().piece(body)
        else:
            self._release.pieces.append(body)

    def end(self) -> None:
        """All of its body is here."""
        release = self._release
        if release is None:
            super().end()
            return
        release.more_body = False
        if release.is_next:
            self._hand_over(release)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """All requests before this one are answered."""
        if not isinstance(cycle, Release):
            super()._start_asgi_task(cycle, app)
            return
        self.flow.resume_reading()
        cycle.is_next = True
        if not cycle.more_body:  # not at once: of many in a row each would start the next one
            self.loop.call_soon(self._hand_over, cycle)

    def _hand_over(self, release: Release) -> None:
        if self._is_over:
            return
        body = b"".join(release.pieces)
        release.pieces.clear()
        try:
            self.replica.releases.submit(body, release.presented, release.done, self.loop)
        except Exception as error:  # noqa: BLE001  nobody is told of a mistake of ours
            self.replica.log.problem("request", error)
            refusal = wire.Refusal.of("unavailable", new_identifier())
            self.done(release, Reply(500, refusal.encode()))

    def done(self, release: Release, reply: Reply) -> None:
        """Answer."""
        self.answers.count(reply.status)
        if self._is_over or release.response_complete:
            return
        if self.flow.write_paused:
            self._waiting = release, reply, self.loop.time()
        else:
            self._write(release, reply)

    def _write(self, release: Release, reply: Reply) -> None:
        release.response_started = release.response_complete = True
        transport = self.transport
        if transport.is_closing():
            return
        is_last = not release.keep_alive
        transport.write(self.answers.encode(reply, last=is_last))
        if is_last:
            self._is_over = True  # what was sent behind it is not read
            transport.close()
        self.let_go()
        self.server_state.total_requests += 1
        if is_last:
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self.flow.resume_reading()
        # ``look`` ends it: a timer for each answer costs more than an attribute
        self._idle = self.loop.time()

    def on_response_complete(self) -> None:
        """The application has answered. uvicorn's own timer is off with the next byte, which need
        not be of a request.
        """
        super().on_response_complete()
        if self.cycle.response_complete:  # no other request is here already
            self._idle = self.loop.time()

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not self._is_over:
            self._write(*waiting[:2])

    def look(self, now: float) -> None:
        """Called about once a second."""
        super().look(now)
        most = self.timeout_keep_alive
        if self._waiting is not None and now - self._waiting[2] > most:
            self.transport.abort()  # to close it, what was written before would have to be read
        elif self._idle is not None and now - self._idle > most:
            self.timeout_keep_alive_handler()

    def _presented(self) -> Presented | None:
        """Who asks, if the request is plainly a release."""
        first = self.first
        if not _UNUSUAL.isdisjoint(first) or self.parser.get_method() != b"POST":
            return None
        kind = first.get(b"content-type", _JSON)  # none is as good
        if kind != _JSON and kind.partition(b";")[0].strip() != _JSON:
            return None
        token = first.get(b"authorization")
        if token is not None:
            bearer = answers.bearer(token)
            if bearer is None:
                return None
            return Presented(self.peer.chain, bearer, address=self.peer.address)
        if self._nobody is None:
            self._nobody = Presented(self.peer.chain, address=self.peer.address)
        return self._nobody


def of(edge: Edge, replica: Replica) -> type[Connection]:
    """The class of one server's connections."""
    own = {"edge": edge, "replica": replica, "answers": Answers(replica)}
    return type("BrokerConnection", (Connection,), own)
