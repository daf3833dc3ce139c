"""The packet of a key broker, which comes with an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz import seeds

if TYPE_CHECKING:
    from fuzz.readers import Read


def packet() -> Read:
    """A packet for a key that a broker holds; whatever is read can be written again."""
    from boltseal.keywrap.broker import packet

    def read(data: bytes) -> None:
        packet.describe_packet(data)
        found = packet.parse(data)
        assert packet.parse(packet.build(found)) == found
        assert all(packet.address(one) == one for one in found.brokers)

    for data in seeds.broker_packets():  # what is loaded late is loaded before memory is watched
        read(data)
    return read
