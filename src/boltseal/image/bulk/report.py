"""What became of many images, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from boltseal.errors import BoltsealError
from boltseal.spec.digest import Digest

DONE, SKIPPED, FAILED, STOPPED = "encrypted", "skipped", "failed", "not done"
_MAX_TEXT = 2_000  # characters of one message that are kept
_MAX_TEXTS = 100  # notes of one image


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of one image, as plain data."""

    kind: str
    message: str
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, error: Exception, source: str = "") -> Failure:
        """From what was raised; ``source`` is not named again."""
        if isinstance(error, BoltsealError):
            where = [one for one in error.where if not (source and one.startswith(source))]
            text = ", ".join(where) + ": " if where else ""
            message, hint = f"{text}{error.message}", error.hint
        elif isinstance(error, MemoryError):
            message, hint = "not enough memory", None
        else:
            message = f"unexpected {type(error).__name__}; this is a bug in Boltseal"
            hint = "encrypt it alone with BOLTSEAL_DEBUG=1 and report what that prints"
        code = error.exit_code if isinstance(error, BoltsealError) else 1
        return cls(type(error).__name__, message[:_MAX_TEXT], hint and hint[:_MAX_TEXT], code)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the image of one task.

    ``state`` is ``encrypted``, ``skipped`` (it was encrypted by an earlier run) or ``failed``;
    ``why`` says why it was encrypted again.
    """

    number: int
    state: str
    source_digest: str | None = None
    digest: str | None = None
    layers: int = 0
    why: str = ""
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Read :meth:`to_json` again; raises TypeError, ValueError or KeyError for anything else.

        A failure that ends with 0, or a digest that is none, would be believed later on.
        """
        failure = data["failure"]
        given = {**data, "failure": failure and Failure(**failure)}
        if data["state"] not in (DONE, SKIPPED, FAILED) or (data["state"] == FAILED) != bool(
            failure
        ):
            raise ValueError("state")
        if failure and (type(failure["exit_code"]) is not int or failure["exit_code"] < 1):
            raise ValueError("exit_code")
        for name in ("source_digest", "digest"):
            if data["state"] != FAILED or data[name] is not None:
                Digest.parse(data[name], name)
        given["notes"] = tuple(map(str, data["notes"][:_MAX_TEXTS]))
        given["warnings"] = tuple(map(str, data["warnings"][:_MAX_TEXTS]))
        return cls(**given)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image of a bulk run. ``layers`` is how many were encrypted now."""

    source: str
    destination: str
    state: str
    source_digest: str | None = None
    digest: str | None = None
    layers: int = 0
    why: str = ""
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BulkReport:
    """All images of a bulk run, in the order in which they were given."""

    images: tuple[ImageResult, ...]
    journal: str | None = None
    notes: tuple[str, ...] = ()

    def count(self, state: str) -> int:
        """How many images ended like this."""
        return sum(1 for one in self.images if one.state == state)

    @property
    def exit_code(self) -> int:
        """0; that of the failures, where all have the same; 1 otherwise."""
        codes = {one.failure.exit_code for one in self.images if one.failure is not None}
        if not codes:
            return 1 if self.count(STOPPED) else 0
        return codes.pop() if len(codes) == 1 else 1

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        counts = {
            name.replace(" ", "_"): self.count(name) for name in (DONE, SKIPPED, FAILED, STOPPED)
        }
        return {**counts, **asdict(self)}
