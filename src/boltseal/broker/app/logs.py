"""Structured logs: one JSON object a line, of fields that are listed here and of no others.

There is no way to log a value without giving it one of these names, and none of them is for a
secret: no header, body, token, address of a database or text of an unknown exception gets in.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from boltseal.broker.model import RefusedError
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boltseal.broker.release.jobs import Observed

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_VALUE: Final = 500  # characters
_DUMP: Final = json.JSONEncoder(separators=(",", ":")).encode
_quote: Final = json.encoder.encode_basestring_ascii
FIELDS: Final = frozenset(
    (
        *("actor", "address", "authorities", "code", "connections", "detail", "epoch", "kind"),
        *("listen", "method", "path", "place", "recorded", "request", "route", "seconds"),
        *("signal", "status", "subject", "tenant", "type", "version", "written"),
    )
)


class Log:
    """``write`` gets whole lines, from any thread."""

    def __init__(self, write: Callable[[str], None], level: str = "info") -> None:
        self._write = write
        self._least = LEVELS[level]
        self._lock = threading.Lock()
        self._second = (0, "1970-01-01T00:00:00")  # the last one that was written out

    def event(self, name: str, level: str = "info", **fields: str | float | bool | None) -> None:
        """One line. Raises TypeError for a field that is not listed: a mistake of ours."""
        self._put(self._line(name, level, fields))

    def _put(self, text: str) -> None:
        if text:
            with self._lock:
                self._write(text)

    def _line(self, name: str, level: str, fields: Mapping[str, str | float | bool | None]) -> str:
        unknown = fields.keys() - FIELDS
        if unknown:
            raise TypeError(f"{min(unknown)} is no field of the log")
        if LEVELS[level] < self._least:
            return ""
        line: dict[str, object] = {"time": self._stamp(), "level": level, "event": name}
        line.update((key, _bounded(one)) for key, one in fields.items() if one not in (None, ""))
        return _DUMP(line) + "\n"

    def releases(self, seen: Iterable[Observed]) -> None:
        """Requests that were decided, a line each; their details are for operators alone."""
        stamp = self._stamp()
        self._put("".join([self._release(one, stamp) for one in seen]))

    def _release(self, seen: Observed, stamp: str) -> str:
        """What :meth:`_line` would make of it, in a fifth of the time: there are many of them."""
        level = "info" if not seen.code or seen.recorded else "warning"
        if LEVELS[level] < self._least:
            return ""
        line = f'{{"time":"{stamp}","level":"{level}","event":{_quote(seen.kind)}'
        for name, text in (
            ("code", seen.code or "allowed"),
            ("detail", seen.detail),
            ("request", seen.request),
            ("tenant", seen.tenant),
            ("actor", seen.actor),
            ("subject", seen.subject),
        ):
            if text:
                line += f',"{name}":{_quote(text[:MAX_VALUE])}'
        recorded = "true" if seen.recorded else "false"
        return f'{line},"seconds":{round(seen.seconds, 6)!r},"recorded":{recorded}}}\n'

    def _stamp(self) -> str:
        """Now, in UTC and to the millisecond."""
        now = time.time()
        second, text = self._second
        if second != int(now):
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)  # at once, for other threads
        return f"{text}.{int(now % 1 * 1000):03}Z"

    def problem(self, place: str, error: BaseException) -> None:
        """Something failed. Only errors of our own say what in their text."""
        detail = ""
        if isinstance(error, RefusedError):
            detail = error.detail
        elif isinstance(error, BoltsealError):
            detail = error.message
        self.event("problem", "error", place=place, type=where(error), detail=detail)


def where(error: BaseException) -> str:
    """An exception's kind and place, without its text, which may hold anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


class Foreign(logging.Handler):
    """What libraries log: their name and their message as it is in their source, not its values."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        kind = record.exc_info[1] if record.exc_info else None
        said = record.msg if isinstance(record.msg, str) and record.args else ""
        self._log.event(
            "library", level, place=record.name, detail=said, type=where(kind) if kind else ""
        )


def attach(log: Log) -> Foreign:
    """Have the libraries of the server log here, and nowhere else."""
    handler = Foreign(log)
    for name in ("uvicorn", "uvicorn.error", "asyncio", "sqlalchemy", "fastapi"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.propagate = name == "uvicorn.error"
    return handler


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return value[:MAX_VALUE]
    return value
