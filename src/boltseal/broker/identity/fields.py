"""Reading a trust's configuration: no unknown member, and an error says what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.broker.identity import labels
from boltseal.broker.model import PrincipalKind
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_TEXT = 1024  # characters of one member
MAX_ITEMS = 100  # of one list


class Fields:
    """The members of one configuration; ``what`` is how errors call it."""

    def __init__(self, config: Mapping[str, Any], what: str, known: Collection[str]) -> None:
        self._config = config
        self.what = what
        unknown = sorted(str(one)[:70] for one in config.keys() - set(known))
        if unknown:
            raise UsageError(
                f"{what} has {', '.join(unknown)}, which mean nothing",
                hint=f"it may have {', '.join(sorted(known))}",
            )

    def error(self, name: str, wanted: str) -> UsageError:
        """What to raise for a member; ``wanted`` completes "it has to be"."""
        return UsageError(f"{self.what}: {name} is not as it should be", hint=f"write {wanted}")

    def text(
        self, name: str, wanted: str, *, default: str | None = None, limit: int = MAX_TEXT
    ) -> str:
        """A text that is not empty, needed unless there is a default."""
        value = self._config.get(name, default)
        if not isinstance(value, str) or not (value or default == "") or len(value) > limit:
            raise self.error(name, wanted)
        return value

    def texts(self, name: str, wanted: str) -> tuple[str, ...]:
        """A list of texts, empty when it is not there."""
        value = self._config.get(name, [])
        if not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
            raise self.error(name, wanted)
        for one in value:
            if not isinstance(one, str) or not 0 < len(one) <= MAX_TEXT:
                raise self.error(name, wanted)
        return tuple(dict.fromkeys(value))

    def patterns(self, name: str) -> tuple[str, ...]:
        """A list of texts with at most one ``*``, at an end."""
        wanted = "a list of texts; each may have one * at its beginning or its end"
        found = self.texts(name, wanted)
        for one in found:
            if one.count("*") > 1 or "*" in one[1:-1] or one == "*":
                raise self.error(name, wanted)
        return found

    def mapping(self, name: str, wanted: str) -> dict[str, Any]:
        """An object, empty when it is not there."""
        value = self._config.get(name, {})
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise self.error(name, wanted)
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(name, f"a whole number from {low} to {high}")
        return value

    def one_of(self, name: str, choices: Collection[str], default: str) -> str:
        """One of several words."""
        value = self._config.get(name, default)
        if value not in choices:
            raise self.error(name, f"one of {', '.join(choices)}")
        return str(value)

    def labels(self) -> dict[str, str]:
        """The labels that everybody gets whom this trust vouches for."""
        wanted = 'an object of label names and values, as {"env": "prod"}'
        return labels.check(self.mapping("labels", wanted), self.what)

    def principal_kind(self, default: PrincipalKind) -> PrincipalKind:
        """Whom this trust vouches for."""
        return PrincipalKind(self.one_of("kind", [str(one) for one in PrincipalKind], default))

    def cluster(self) -> str | None:
        """The cluster that they belong to."""
        value = self._config.get("cluster")
        if value is None:
            return None
        if not labels.is_value(value):
            raise self.error("cluster", "a name of A-Z, a-z, 0-9 and . _ : / @ + -")
        return str(value)

    def has(self, name: str) -> bool:
        """Whether the member is there."""
        return name in self._config

    def value(self, name: str) -> Any:
        """The member as it is, or None."""
        return self._config.get(name)
