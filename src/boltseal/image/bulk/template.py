"""Where each of many images goes: a reference with names of its source to be filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boltseal.errors import UsageError, located
from boltseal.spec.reference import Reference, split_repository
from boltseal.transports.parse import parse_reference

FIELDS = ("repository", "name", "tag")
_FIELD = re.compile(r"\{([^{}]*)\}|[{}]")
_HOW = "there are {repository}, {name} and {tag}"


@dataclass(frozen=True, slots=True)
class Template:
    """``docker://HOST/sealed/{repository}:{tag}``.

    ``{repository}`` is the source's name in its registry without the host, ``{name}`` the last part
    of it; of a path both are its last part. Raises UsageError for any other field.
    """

    text: str

    def __post_init__(self) -> None:
        for match in _FIELD.finditer(self.text):
            if match.group(1) not in FIELDS:
                raise UsageError(f"{match.group()[:40]!r} is no field of a template", hint=_HOW)

    def fill(self, source: Reference) -> Reference:
        """The destination of one image."""
        if source.transport == "docker":
            repository = split_repository(source.location)[1]
        else:
            repository = source.location.rstrip("/").rpartition("/")[2]
        values = {"repository": repository, "name": repository.rpartition("/")[2]}
        if source.tag is not None:
            values["tag"] = source.tag

        def value(match: re.Match[str]) -> str:
            text = values.get(match.group(1))
            if text is None:
                raise UsageError("it has no tag to fill in for {tag}")
            # names come from a registry or an index: none may lead to another place
            if set(":@") & set(text) or {"", ".", ".."} & set(text.split("/")):
                raise UsageError(
                    f"{text[:80]!r} cannot be filled into a template",
                    hint="write a list with its destination instead",
                )
            return text

        with located(str(source)):
            return parse_reference(_FIELD.sub(value, self.text))
