"""One run of GnuPG: its bounds, its status lines, and what is said when it does not end well."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal._io import program as runner
from boltseal.errors import KeyServiceError, LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOTES = runner.Bound(64 * 1024, is_cut=True)  # of what it says for people


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, what it put out, its status lines and what it said for people."""

    code: int
    output: bytes = field(repr=False)
    status: bytes
    notes: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds that a program may take, and bytes that it may write, of output and of status."""

    seconds: float
    output: int
    status: int = 256 * 1024


def run(
    program: str,
    arguments: Sequence[str],
    given: bytes,
    *,
    environment: Mapping[str, str],
    bounds: Bounds,
    pipes: Sequence[tuple[str, bytes]] = (),
) -> Ended:
    """Run ``gpg`` with ``given`` as standard input.

    ``pipes`` are options with ``{}`` for the number of a descriptor, and what is read from it: a
    passphrase is never an argument. Raises KeyServiceError when the program cannot be started or
    takes too long, LimitExceededError when it writes too much.
    """
    name = os.path.basename(program)
    try:
        ended = runner.run(
            [program, *arguments],
            given,
            environment=environment,
            seconds=bounds.seconds,
            output=runner.Bound(bounds.output),
            errors=_NOTES,
            more_given=pipes,
            more_outputs=[("--status-fd={}", runner.Bound(bounds.status))],
            own_session=False,  # what is called gpg may be a script that asks on the terminal
        )
    except runner.NotStartedError as error:
        raise KeyServiceError(f"{program} cannot be run: {error.reason}") from None
    except runner.TooSlowError:
        raise KeyServiceError(
            f"{name} did not end within {bounds.seconds:.0f} seconds",
            hint="it may be waiting for a passphrase or for a card",
        ) from None
    except runner.TooMuchError as error:
        raise LimitExceededError(
            f"{name} put out more than the limit of {error.limit} bytes for what was asked"
        ) from None
    return Ended(ended.code, ended.output, ended.more[0], ended.errors)
