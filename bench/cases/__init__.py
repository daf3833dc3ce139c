"""Every case, in the order in which they are run: those that share an input are neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases import broker, layouts, programs, registries, sink

if TYPE_CHECKING:
    from bench.case import Case


def everything() -> list[Case]:
    """All cases; their names are unique."""
    found = [*programs.CASES, *sink.CASES, *layouts.CASES, *registries.CASES, *broker.CASES]
    order = {"startup": 0, "sink": 1, "memory": 2, "disk": 3, "registry": 4, "recipients": 5}
    order |= {"decoder": 6, "unpack": 7, "size": 8, "many": 9, "peak": 10, "broker": 11}
    return sorted(found, key=lambda case: order[case.group])
