"""Which answers of a registry may be others the next time."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING

from boltseal.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.transports.registry.http import Response

_MAX_SECONDS = 1e6  # what a header can mean at the most
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds a number or a date (RFC 9110 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _MAX_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return min(max(0.0, moment.timestamp() - time.time()), _MAX_SECONDS)
    except (TypeError, ValueError, OverflowError):
        return None


def transient_answer(response: Response, what: str) -> TransientError:
    """The error for an answer that may be another one the next time."""
    response.finish()
    busy = " (too many requests)" if response.status == 429 else ""
    error = TransientError(f"{what} answered {response.status}{busy}", status=response.status)
    error.wait = retry_after(response.headers)
    return error
