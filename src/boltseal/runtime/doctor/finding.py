"""What a check found: one line of the table that ``boltseal doctor`` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boltseal.errors import BoltsealError


class State(StrEnum):
    """How a check went; what is not installed is no failure."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    ABSENT = "not there"


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` of a ``subject``: its state, what was found, and what to do about it."""

    subject: str
    check: str
    state: State
    message: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """Makes the findings of one subject."""

    name: str

    def ok(self, check: str, message: str) -> Finding:
        """It is as it should be."""
        return Finding(self.name, check, State.OK, message)

    def warn(self, check: str, message: str, fix: str) -> Finding:
        """It works, and not as it should."""
        return Finding(self.name, check, State.WARN, message, fix)

    def fail(self, check: str, message: str, fix: str) -> Finding:
        """It does not work, or it is not safe."""
        return Finding(self.name, check, State.FAIL, message, fix)

    def absent(self, check: str, message: str, fix: str | None = None) -> Finding:
        """It is not installed or not configured."""
        return Finding(self.name, check, State.ABSENT, message, fix)

    def failed(self, check: str, error: BoltsealError, fix: str) -> Finding:
        """An error is what was found; its own advice goes before ``fix``."""
        place = "".join(f"{one}: " for one in error.where)
        return self.fail(check, place + error.message, error.hint or fix)
