"""What a fuzzing child leaves where its parent can see it, even when it hangs or is killed."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_INPUT = 4 * 1024 * 1024  # bytes of one input
_HEAD = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class Seen:
    """Inputs begun, and those refused as they should be; KiB of memory over the baseline."""

    begun: int
    refused: int
    growth: int
    data: bytes


class State:
    """A file in memory that both processes share."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(_HEAD.size + MAX_INPUT))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._begun = self.refused = self.growth = 0

    def begin(self, data: bytes) -> None:
        """An input is about to be read."""
        self._begun += 1
        self._map[_HEAD.size : _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._map, 0, self._begun, self.refused, self.growth, len(data))

    def read(self) -> Seen:
        """How far the child is."""
        begun, refused, growth, size = _HEAD.unpack_from(self._map, 0)
        return Seen(begun, refused, growth, bytes(self._map[_HEAD.size : _HEAD.size + size]))
