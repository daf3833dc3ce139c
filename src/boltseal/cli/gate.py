"""What ``boltseal hook`` and ``boltseal-image-verifier`` share: one verdict within its time."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.runtime.gate.policy import Policy
    from boltseal.runtime.gate.verdict import Verdict

_INPUT_SECONDS = 5.0  # that a runtime may take to say what it is about


class _TimeIsUpError(BaseException):
    """Nothing on the way may take it for a failure of its own."""


def verdict(name: str, digests: Sequence[str], policy: Policy) -> Verdict:
    """Decide with the environment's settings and the policy's; its time is kept in any case."""
    from boltseal.keywrap.options import KeyOptions
    from boltseal.runtime.gate import verdict as verdicts
    from boltseal.transports.registry.options import RegistryOptions

    environment = dict(os.environ)
    # runtimes start hooks with nothing, and files are looked for in the home
    environment.setdefault("HOME", "/root")
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = policy.keyprovider_config
    keys = KeyOptions.from_environ(
        environment,
        provider_files=(given,) if given else None,
        provider_timeout=policy.seconds,
    )
    registry = RegistryOptions.from_environ(
        environment,
        auth_file=policy.authfile,
        cert_dir=policy.cert_dir,
        tls_verify=policy.tls_verify,
    )
    try:
        with _Alarm(policy.seconds):
            return verdicts.decide(name, digests, policy, keys, registry)
    except _TimeIsUpError:
        return verdicts.too_slow(name, policy)


def read_input(what: str, max_bytes: int, hint: str = "runtimes start this program") -> bytes:
    """Standard input, whole. Raises UsageError when it does not come, LimitExceededError."""
    from boltseal._io.files import read_bounded, storage_errors

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{what} comes on standard input", hint=hint)
    try:
        with _Alarm(_INPUT_SECONDS), storage_errors(f"reading {what}"):
            return read_bounded(sys.stdin.fileno(), what, max_bytes=max_bytes)
    except _TimeIsUpError:
        raise UsageError(f"{what} did not come within {_INPUT_SECONDS:g} seconds") from None


class _Alarm:
    """Raises _TimeIsUpError in what it surrounds, when the time is up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def _ring(number: int, frame: Any) -> NoReturn:
    raise _TimeIsUpError
