"""The URIs that name keys of key services, as sigstore spells them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boltseal.errors import UsageError

AWS, GOOGLE, AZURE, VAULT = "awskms", "gcpkms", "azurekms", "hashivault"
NAMES = {
    AWS: "AWS KMS",
    GOOGLE: "Google Cloud KMS",
    AZURE: "Azure Key Vault",
    VAULT: "Vault Transit",
}
MAX_URI_CHARACTERS = 1024

_HOST = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
# AWS KMS Developer Guide, "Key identifiers": an mrk- key has copies in several regions
_AWS_ID = r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})"
_AWS_ALIAS = r"alias/[A-Za-z0-9/_-]{1,250}"
_AWS_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-[a-z]{1,16}){0,3}):kms:(?P<region>[a-z0-9-]{1,32})"
    rf":(?P<account>[0-9]{{12}}):(?:key/(?P<id>{_AWS_ID})|{_AWS_ALIAS})"
)
_AWS_URI = re.compile(
    rf"awskms://(?P<host>{_HOST})?/(?P<key>{_AWS_ARN.pattern}|{_AWS_ID}|{_AWS_ALIAS})"
)
_GOOGLE_URI = re.compile(
    r"gcpkms://(?P<key>projects/[a-z0-9.:-]{1,100}/locations/[a-z0-9-]{1,63}"
    r"/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63})"
    r"(?:/(?:cryptoKeyVersions|versions)/(?P<version>[0-9]{1,10}))?"
)
_AZURE_URI = re.compile(
    rf"azurekms://(?P<host>{_HOST})/(?P<key>[A-Za-z0-9-]{{1,127}})"
    r"(?:/(?P<version>[0-9a-f]{32}))?"
)
_VAULT_URI = re.compile(r"hashivault://(?P<key>[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?)")

_GRAMMARS = {
    AWS: (_AWS_URI, "awskms://[ENDPOINT]/KEY-ID, …/alias/NAME or …/ARN"),
    GOOGLE: (
        _GOOGLE_URI,
        "gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
    ),
    AZURE: (_AZURE_URI, "azurekms://VAULT.vault.azure.net/KEY[/VERSION]"),
    VAULT: (_VAULT_URI, "hashivault://KEY"),
}


@dataclass(frozen=True, slots=True)
class KeyUri:
    """One key of a key service. ``host`` is AWS's endpoint or Azure's vault, with its port."""

    service: str
    key: str
    host: str = ""
    version: str = ""

    @property
    def canonical(self) -> str:
        """What a packet calls the key: without its version and without AWS's endpoint."""
        if self.service == AZURE:
            return f"azurekms://{self.host}/{self.key}"
        return f"{self.service}:///{self.key}" if self.service == AWS else self._plain

    @property
    def name(self) -> str:
        """The service's name, for people."""
        return NAMES[self.service]

    @property
    def region(self) -> str:
        """The region of an AWS ARN; empty for other spellings."""
        arn = _AWS_ARN.fullmatch(self.key)
        return arn["region"] if arn else ""

    @property
    def is_settled(self) -> bool:
        """Whether this names a key by itself, as a packet has to; an alias can be moved."""
        arn = _AWS_ARN.fullmatch(self.key)
        return self.service != AWS or bool(arn and arn["id"])

    def may_be(self, other: KeyUri) -> bool:
        """Whether this can be the key that a packet calls ``other``, of whatever version.

        Only AWS can tell what an alias stands for.
        """
        if self.service != other.service:
            return False
        if self.service != AWS:
            return self.canonical == other.canonical
        mine, theirs = _AWS_ARN.fullmatch(self.key), _AWS_ARN.fullmatch(other.key)
        if theirs is None or not theirs["id"]:
            return False
        if mine is None:
            return self.key.startswith("alias/") or self.key == theirs["id"]
        copied = theirs["id"].startswith("mrk-")
        same = ("partition", "account") if copied else ("partition", "account", "region")
        return all(mine[part] == theirs[part] for part in same) and mine["id"] in (
            None,
            theirs["id"],
        )

    @property
    def _plain(self) -> str:
        return f"{self.service}://{self.key}"

    def __str__(self) -> str:
        if self.service == AWS:
            return f"awskms://{self.host}/{self.key}"
        at = {GOOGLE: "/cryptoKeyVersions/"}.get(self.service, "/")
        return self.canonical + (at + self.version if self.version else "")


def parse(text: str) -> KeyUri:
    """A URI as a user writes it. Raises UsageError."""
    service = text.partition(":")[0]
    _, form = _GRAMMARS.get(service, (None, " or ".join(f"{one}://…" for one in _GRAMMARS)))
    found = read(text)
    if found is None:
        shown = ascii(text[:200])
        if service == AWS and not text.startswith("awskms:///"):
            form += "; without an endpoint that makes three slashes: awskms:///…"
        raise UsageError(f"{shown} does not name a key of a key service", hint=f"write {form}")
    return found


def read(text: str) -> KeyUri | None:
    """The same for text from an image; None for anything else."""
    grammar, _ = _GRAMMARS.get(text.partition(":")[0], (None, ""))
    if grammar is None or len(text) > MAX_URI_CHARACTERS:
        return None
    found = grammar.fullmatch(text)
    if found is None:
        return None
    parts = found.groupdict()
    return KeyUri(
        text.partition(":")[0],
        found["key"],
        (parts.get("host") or "").lower(),
        parts.get("version") or "",
    )
