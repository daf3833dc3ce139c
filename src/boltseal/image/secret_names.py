"""Names that say that their value is a secret, and values that cannot be one.

``DB_PASSWORD=hunter2`` holds a secret, ``DB_PASSWORD_FILE=/run/secrets/db`` does not, nor does
``GPG_KEY=`` with the fingerprint of a public key, which many official images have.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

_MAX_NAME = 200  # characters of a name that are looked at
_MAX_VALUE = 4_000  # characters of a value whose randomness is measured
_WORDS = re.compile(r"[A-Z]{1,200}(?![a-z])|[A-Z]?[a-z]{1,200}|[0-9]{1,200}")

# Words that make a name a secret's, alone or two together.
_SECRET = re.compile(
    r"[A-Z]*(?:PASS(?:WORD|WD|PHRASE|CODE)S?|SECRETS?|TOKEN|CREDENTIALS?)|PSK"  # PGPASSWORD, too
    r"|(?:API|SECRET|ACCESS|PRIVATE)KEY"
)
_SECRET_LAST = re.compile(r"PASS|PWD|PW")  # at the end of a longer name alone
_KEY_OF = re.compile(
    r"API|ACCESS|SECRET|PRIVATE|AUTH|ENCRYPTION|SIGNING|MASTER|ADMIN|ACCOUNT|LICENSE|APP|SERVICE"
    r"|SESSION|JWT|CRYPTO|SHARED"
)
# The last words of names that are about a secret and do not hold it.
_ABOUT = re.compile(
    r"FILES?|PATHS?|DIR|DIRECTORY|UR[IL]S?|ENDPOINT|HOST|PORT|NAMES?|IDS?|TYPE|KIND|TTL|EXPIR[A-Z]+"
    r"|LIFETIME|AGE|TIMEOUT|LENGTH|LIMIT|SIZE|COUNT|MAX|MIN|VERSION|ENABLED?|DISABLED?|REQUIRED"
    r"|ALGORITHM|ALG|FORMAT|HEADER|PREFIX|SUFFIX|POLICY|ISSUER|AUDIENCE|USER|USERNAME|STORE|MANAGER"
    r"|PROVIDER|BACKEND|ENGINE|PARALLELISM|FINGERPRINT|SCOPES?|REF|REFERENCE|ARN|MOUNT|LOCATION"
    r"|COMMAND|CMD|HELPER|SERVICE|VALIDATION|CHECKER|METHOD|MODE"
)
_PUBLIC = re.compile(r"GPG|PGP|PUBLIC|PUB|PUBKEY|KEYSERVER|HOSTKEY|SIGNED|RELEASE|FINGERPRINT")

_PLAIN = re.compile(
    r"(?i:x{3,}|\*+|\.+|-+|_+|true|false|yes|no|on|off|enabled|disabled|none|null|nil|undefined|unset|empty|default"
    r"|dummy|fake|sample|test|testing|placeholder|redacted|masked|hidden|todo|tbd|secret|token"
    r"|pass|passwd|password|passphrase|changeme|change[_-]?me|change[_-]?it|replace[_-]?me"
    r"|your.{0,60}|my[_-]?(?:password|secret|token|key)|insert.{0,60}|example.{0,60}|\[.{0,60}\])"
)
_REFERENCE = re.compile(
    r"\$|%[A-Za-z_]|\{\{|<|`|(?i:arn:|op://|vault:|secret://|file:|env:|ref\+|projects/|https?://)"
)
_PATH = re.compile(r"(?:~|\.{1,2})?/[\w.@+/-]{0,4000}")
_FINGERPRINT = re.compile(r"(?:0x)?(?:[0-9A-F]{8}|[0-9A-F]{16}|[0-9A-Fa-f]{40})")
_RANDOM_BITS = 3.0  # of a character, on average, in what is taken for random
_SHORTEST_KEY = 16  # characters of a value that only its name's last word speaks for


def is_secret(name: str, value: str) -> bool:
    """Whether a value is likely a secret that its name announces."""
    words = [word.upper() for word in _WORDS.findall(name[:_MAX_NAME])]
    while words and words[-1].isdigit():
        words.pop()
    if not words or _ABOUT.fullmatch(words[-1]) or is_placeholder(value) or _is_path(value):
        return False
    if _names_secret(words):
        return True
    if words[-1] not in ("KEY", "KEYS", "SALT") or any(map(_PUBLIC.fullmatch, words)):
        return False
    return len(words) > 1 and _is_random(value)


def is_placeholder(value: str) -> bool:
    """Whether a value stands for a secret that is somewhere else, or for none."""
    bare = value.strip().strip("\"'")
    if len(bare) < 4 or _REFERENCE.match(bare) or "${" in bare:
        return True
    return bool(_PLAIN.fullmatch(bare)) or len(set(bare)) == 1


def _names_secret(words: list[str]) -> bool:
    if any(map(_SECRET.fullmatch, words)):
        return True
    if len(words) > 1 and _SECRET_LAST.fullmatch(words[-1]):
        return True
    return any(
        after in ("KEY", "KEYS") and _KEY_OF.fullmatch(before) for before, after in pairwise(words)
    )


def _is_path(value: str) -> bool:
    if not _PATH.fullmatch(value):
        return False
    # base64 may begin with a slash, too
    return len(value) < 20 or value.count("/") > 1 or "." in value or not _is_random(value)


def _is_random(value: str) -> bool:
    """Whether a value looks like a random key, and not like words or a fingerprint."""
    text = value[:_MAX_VALUE]
    if len(text) < _SHORTEST_KEY or any(char.isspace() for char in text):
        return False
    if _FINGERPRINT.fullmatch(text) or not any(char.isdigit() for char in text):
        return False
    total = len(text)
    bits = -sum(n / total * math.log2(n / total) for n in Counter(text).values())
    return bits >= _RANDOM_BITS
