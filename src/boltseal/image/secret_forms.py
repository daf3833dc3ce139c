"""Secrets that are known by their form: tokens of services, private keys, passwords in URLs.

Every pattern begins where a word begins and repeats one class of characters up to a bound, so that
what a text costs grows with its length alone, whoever wrote it.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache
from typing import TYPE_CHECKING

from boltseal.image.secret_names import is_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = r"(?<![A-Za-z0-9_-])"  # of a word

# Kind of secret to pattern; where one has a group, that is the secret part.
_FORMS = {
    "AWS access key": _START + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])",
    "GitHub token": _START + r"(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50})",
    "GitLab token": _START
    + r"gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|oas|imt|ffct)-[A-Za-z0-9_-]{20}",
    "Slack token": _START + r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{12}",
    "Slack webhook": r"hooks\.slack\.com/(?:services|workflows)/([A-Za-z0-9/]{20})",
    "Stripe key": _START + r"(?:(?:sk|rk)_(?:live|test)_|whsec_)[A-Za-z0-9+/]{16}",
    "npm token": _START + r"npm_[A-Za-z0-9]{36}",
    "PyPI token": _START + r"pypi-AgE[A-Za-z0-9_-]{40}",
    "Google API key": _START + r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
    "Google OAuth secret": _START + r"(?:GOCSPX-[A-Za-z0-9_-]{24}|ya29\.[A-Za-z0-9_-]{20})",
    "Docker Hub token": _START + r"dckr_[po]at_[A-Za-z0-9_-]{20}",
    "Hugging Face token": _START + r"hf_[A-Za-z0-9]{34}(?![A-Za-z0-9])",
    "AI service key": _START
    + r"(?:sk-(?:proj|ant|svcacct|or)-[A-Za-z0-9_-]{20}|sk-[A-Za-z0-9]{48}(?![A-Za-z0-9]))",
    "DigitalOcean token": _START + r"do[opr]_v1_[a-f0-9]{64}",
    "SendGrid key": _START + r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "Shopify token": _START + r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    "Grafana token": _START + r"(?:glsa_[A-Za-z0-9]{32}_|glc_[A-Za-z0-9+/]{32})",
    "Databricks token": _START + r"dapi[a-f0-9]{32}(?![A-Za-z0-9])",
    "Vault token": _START + r"hv[sb]\.[A-Za-z0-9_-]{24}",
    "age secret key": _START + r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
    "JSON web token": _START
    + r"eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{16}",
    "private key": r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
    "storage account key": r"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{40,90}={0,2})",
    "password in a URL": r"://[^\s/?#@:\"'<>]{0,200}:([^\s/?#@:\"'<>]{3,200})@[A-Za-z0-9\[_$-]",
    "authorization header": r"(?i:authorization[\"']?\s?[:=]\s?[\"']?"
    r"(?:basic|bearer|token|bot)\s)([A-Za-z0-9+/=._~-]{8,200})",
}
# What every one of them has in it, so that most texts cost one look and not one for each kind.
_HINT = (
    r"A[KSBC](?:IA|CA)|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox|xapp|hooks\.slack|_live_|_test_"
    r"|whsec_|npm_|pypi-|AIza|GOCSPX|ya29|dckr_|hf_|sk-|_v1_|SG\.|shp|glsa_|glc_|dapi|hv[sb]\."
    r"|AGE-|eyJ|-----BEGIN|AccountKey|AccessKey|://|(?i:authorization)|\"auth\""
)
_DOCUMENTED = re.compile(r"EXAMPLE|(?i:example[_-]?key)")  # the keys of vendors' manuals
_LOGIN = re.compile(r'"auth"\s{0,4}:\s{0,4}"([A-Za-z0-9+/]{4,2000}={0,2})"')


@cache
def _hint() -> re.Pattern[str]:
    return re.compile(_HINT)


@cache
def _compiled() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Compiled on first use: most commands need none."""
    return tuple((kind, re.compile(pattern)) for kind, pattern in _FORMS.items())


def known_forms(text: str) -> Iterator[str]:
    """The kinds of secret that a text holds, each once."""
    if not _hint().search(text):
        return
    for kind, pattern in _compiled():
        if any(_is_real(match) for match in pattern.finditer(text)):
            yield kind
    if any(_is_login(match.group(1)) for match in _LOGIN.finditer(text)):
        yield "registry login"


def _is_real(match: re.Match[str]) -> bool:
    found = match.group(match.lastindex or 0)
    if _DOCUMENTED.search(found):
        return False
    return match.lastindex is None or not is_placeholder(found)


def _is_login(text: str) -> bool:
    """Whether a text is base64 of ``user:password``, as the files of docker and podman have it."""
    try:
        user, colon, password = base64.b64decode(text, validate=True).partition(b":")
    except binascii.Error:
        return False
    return bool(colon and user.isascii() and not is_placeholder(password.decode("latin-1")))
