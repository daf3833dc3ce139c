"""Try again what may go well the next time: how often, and after how long."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from boltseal.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ATTEMPTS = 7  # tries of one request
BASE_SECONDS = 0.25  # the first pause; each is twice the one before, less a random part
MAX_PAUSE_SECONDS = 15.0
MAX_ASKED_SECONDS = 120.0  # who asks to be left alone for longer is not waited for


def persistently(attempt: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """Run ``attempt`` until it succeeds, fails for good, or has failed ``attempts`` times.

    An error that another such loop inside has given up on is not tried again.
    """
    number = 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            number += 1
            if error.exhausted or (error.wait or 0) > MAX_ASKED_SECONDS:
                raise
            if number >= attempts:
                error.exhausted = attempts > 1
                raise
            time.sleep(pause(number, error.wait))


def pause(number: int, asked: float | None) -> float:
    """Seconds before try ``number`` + 1: jitter under a doubling bound, or what was asked."""
    bound = min(MAX_PAUSE_SECONDS, BASE_SECONDS * 2**number)
    jittered = random.uniform(bound / 2, bound)  # noqa: S311  not a secret
    return jittered if asked is None else asked + jittered / 4
