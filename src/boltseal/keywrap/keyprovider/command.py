"""A key provider that is a program: the question on its standard input, the answer on its output.

It runs without a shell, in a session of its own that is killed when no answer comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal._io import program
from boltseal.errors import KeyServiceError
from boltseal.keywrap.keyprovider import words
from boltseal.keywrap.keyprovider.protocol import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.keywrap.keyprovider.config import Command

MAX_COMPLAINT_BYTES = 8 * 1024  # kept of what a program says on standard error


def ask(
    name: str, command: Command, question: bytes, timeout: float, environment: Mapping[str, str]
) -> bytes:
    """Run the program of the provider ``name`` and take what it answers.

    Raises KeyServiceError for one that cannot be started, fails, floods, or takes too long.
    """
    try:
        ended = program.run(
            [command.path, *command.args],
            question,
            environment=environment,
            seconds=timeout,
            output=program.Bound(MAX_MESSAGE_BYTES),
            errors=program.Bound(MAX_COMPLAINT_BYTES, is_cut=True),
        )
    except program.NotStartedError as error:
        raise KeyServiceError(
            f"key provider {name}: {command.path} cannot be started: {error.reason}"
        ) from None
    except program.TooSlowError:
        raise KeyServiceError(
            f"key provider {name} did not answer within {timeout:g} seconds",
            hint="allow it more with --provider-timeout",
        ) from None
    except program.TooMuchError as error:
        raise KeyServiceError(
            f"key provider {name} answered with over {error.limit} bytes"
        ) from None
    if ended.code != 0:
        raise KeyServiceError(f"key provider {name} failed: {_how(ended)}")
    return ended.output


def _how(ended: program.Ended) -> str:
    how = f"signal {-ended.code} ended it" if ended.code < 0 else f"exit status {ended.code}"
    said = words.shown(ended.errors.decode("utf-8", "replace"))
    return f"{how}: {said}" if said else how
