"""What may be tried again, how often, and after how long."""

from __future__ import annotations

import email.utils
import random
import time
from typing import TYPE_CHECKING, TypeVar

from boltseal.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.transports.registry.http import Response

T = TypeVar("T")

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
ATTEMPTS = 7  # tries of one request
BASE_SECONDS = 0.25  # the first pause; each is twice the one before, less a random part
MAX_PAUSE_SECONDS = 15.0
MAX_RETRY_AFTER_SECONDS = 120.0  # a registry that asks for longer is not waited for


def persistently(attempt: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """Run ``attempt`` until it succeeds, fails for good, or has failed ``attempts`` times."""
    number = 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            number += 1
            if number >= attempts or (error.wait or 0) > MAX_RETRY_AFTER_SECONDS:
                raise
            time.sleep(pause(number, error.wait))


def pause(number: int, asked: float | None) -> float:
    """Seconds before try ``number`` + 1: full jitter over a doubling bound, or what was asked."""
    bound = min(MAX_PAUSE_SECONDS, BASE_SECONDS * 2**number)
    jittered = random.uniform(bound / 2, bound)  # noqa: S311  not a secret
    return jittered if asked is None else asked + jittered / 4


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds a number or a date (RFC 9110 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def transient_answer(response: Response, what: str) -> TransientError:
    """The error for an answer that may be another one the next time."""
    response.finish()
    busy = " (too many requests)" if response.status == 429 else ""
    error = TransientError(f"{what} answered {response.status}{busy}", status=response.status)
    error.wait = retry_after(response.headers)
    return error
