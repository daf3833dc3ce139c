"""What an operation did, as values: the command line and programs read the same."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boltseal.image.lint import Finding
    from boltseal.spec.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Progress:
    """Passed to a progress callback: bytes done of all bytes, and what is being done."""

    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class LayerOutcome:
    """What became of one layer.

    ``action`` is one of ``encrypted``, ``taken over`` (from another image), ``decrypted``,
    ``recipients added``, ``already encrypted``, ``clear`` and ``missing`` (a foreign layer that
    only its URL has).
    """

    platform: str
    layer: int
    action: str
    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The image that was written, layer by layer, and what the user should know about it."""

    image: str
    media_type: str
    digest: str
    size: int
    layers: tuple[LayerOutcome, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()  # what changes the meaning of the result
    findings: tuple[Finding, ...] = ()  # likely secrets that stay readable

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)

    def count(self, action: str) -> int:
        """How many layers had this done to them."""
        return sum(1 for layer in self.layers if layer.action == action)


@dataclass(slots=True)
class Journal:
    """Collects outcomes and notes while an operation runs."""

    layers: list[LayerOutcome] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def layer(self, platform: str, index: int, action: str, descriptor: Descriptor) -> None:
        """Record one layer, by the descriptor it has now."""
        self.layers.append(
            LayerOutcome(
                platform,
                index,
                action,
                descriptor.media_type,
                str(descriptor.digest),
                descriptor.size,
            )
        )

    def note(self, text: str) -> None:
        """Record something the user should know, once."""
        self.notes[text] = None

    def warn(self, text: str) -> None:
        """Record something that changes the meaning of the result, once."""
        self.warnings[text] = None

    def note_all(self, texts: Iterable[str]) -> None:
        """Record several things."""
        for text in texts:
            self.note(text)

    def outcome(self, image: str, root: Descriptor) -> Outcome:
        """The finished report."""
        return Outcome(
            image,
            root.media_type,
            str(root.digest),
            root.size,
            tuple(self.layers),
            tuple(self.notes),
            tuple(self.warnings),
            self.findings,
        )


class StoppedError(Exception):
    """Raised inside work that goes on while something else has failed already."""


class Meter:
    """Adds up the bytes of an operation for its progress callback; for several threads."""

    def __init__(self, total: int, callback: Callable[[Progress], None] | None) -> None:
        self._total = total
        self._callback = callback
        self._done = 0
        self._step = ""
        self._stopped = False
        self._lock = threading.Lock()

    def begin(self, step: str) -> None:
        """The next bytes belong to this step."""
        with self._lock:
            self._step = step
            self._report()

    def tick(self, count: int) -> None:
        """So many more bytes are done."""
        with self._lock:
            if self._stopped:
                raise StoppedError
            self._done += count
            self._report()

    def tally(self) -> Tally:
        """Counts bytes that may have to be taken back."""
        return Tally(self)

    def aside(self) -> Meter:
        """A meter of work that is not part of the total: it only tells when to stop."""
        return _Aside(self)

    def part(self) -> Part:
        """A meter of work that may turn out to be in vain."""
        return Part(self)

    def stop(self) -> None:
        """Whoever reports bytes from now on is stopped by that."""
        self._stopped = True

    def _report(self) -> None:
        if self._callback is not None:
            self._callback(Progress(self._step, self._done, self._total))


class _Aside(Meter):
    def __init__(self, meter: Meter) -> None:
        super().__init__(0, None)
        self._meter = meter

    def begin(self, step: str) -> None:
        self._meter.begin(step)

    def tick(self, count: int) -> None:
        self._meter.tick(0)


class Part(Meter):
    """Hands everything on, and can take the bytes back."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(0, None)
        self._meter = meter
        self._count = 0

    def begin(self, step: str) -> None:
        """The next bytes belong to this step."""
        self._meter.begin(step)

    def tick(self, count: int) -> None:
        """So many more bytes are done."""
        self._count += count
        self._meter.tick(count)

    def undo(self) -> None:
        """They were in vain."""
        self.tick(-self._count)


class Tally:
    """The bytes of one try."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._count = 0

    def tick(self, count: int) -> None:
        """So many more bytes are done."""
        self._count += count
        self._meter.tick(count)

    def undo(self) -> None:
        """They were in vain."""
        self._meter.tick(-self._count)
        self._count = 0
