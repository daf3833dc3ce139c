"""Which audit key may sign which part of the chain.

A record names the next audit key, and the one before signs that record as its last. So whoever has
the first public key finds all later ones in the chain; and whoever has stolen one that was replaced
can sign nothing of what came after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.broker.audit import checkpoint, signing_keys
from boltseal.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from boltseal.broker.model import AuditEntry


@dataclass(slots=True)
class Succession:
    """What the chain has named so far: (number of the record, fingerprint, key) each."""

    named: list[tuple[int, str, Ed25519PublicKey]] = field(default_factory=list)

    def note(self, seq: int, entry: AuditEntry) -> None:
        """A record that was followed, and that nobody may have signed yet.

        One that names something else than a key names none; nor does one after MAX_KEYS others.
        """
        pem = signing_keys.named(entry)
        if not pem or len(self.named) >= checkpoint.MAX_KEYS:
            return
        try:
            found = checkpoint.load_keys(pem.encode("utf-8", "replace"))
        except KeyFileError:
            return
        if len(found) == 1:
            ((fingerprint, key),) = found.items()
            self.named.append((seq, fingerprint, key))

    def known(
        self, keys: Mapping[str, Ed25519PublicKey], seq: int
    ) -> Mapping[str, Ed25519PublicKey]:
        """``keys``, and those that records up to ``seq`` name, which one of ``keys`` has signed."""
        found = {name: key for at, name, key in self.named if at <= seq}
        return keys if found.keys() <= keys.keys() else {**keys, **found}

    def replaced(self, key: str, seq: int) -> int | None:
        """The number of the record that had replaced ``key`` when it signed ``seq``, if one had.

        The record itself is signed by the key before; the first one names itself.
        """
        before = [one for one in self.named if one[0] < seq]
        if not before or before[-1][1] == key or (seq, key) in {one[:2] for one in self.named}:
            return None
        return before[-1][0]
