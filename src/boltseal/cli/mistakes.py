"""What to tell somebody whose command line makes no sense; imported only then."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_CLOSE = 0.7  # how much alike two words are (difflib's ratio)
_CHOICE = re.compile(
    r"argument (COMMAND|ACTION): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL
)
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z-]*")
_IMAGE = re.compile(r"(?:docker|oci|oci-archive|docker-archive|dir):|docker-daemon:|containers-")
# what other programs call it
_COMMANDS = {
    "config": "manifest --config",
    "cp": "copy",
    "list": "tags, or recipients list",
    "list-tags": "tags",
    "pull": "copy, or decrypt",
    "push": "copy, or encrypt",
    "rotate": "recipients set --rotate",
    "show": "inspect",
    "validate": "verify",
}
_ACTIONS = {
    "delete": "remove",
    "grant": "add",
    "ls": "list",
    "revoke": "remove",
    "rm": "remove",
    "rotate": "set --rotate",
    "show": "list",
}
_OPTIONS = {
    "--all": "all platforms are taken without any option",
    "--dry-run": "boltseal plan shows what encrypt would do",
    "--insecure": "write --tls-verify=false",
    "--multi-arch": "all platforms are taken without any option; --platform keeps some",
    "--output": "write --json",
    "--override-arch": "write --platform OS/ARCH",
    "--override-os": "write --platform OS/ARCH",
    "--raw": "boltseal manifest IMAGE prints it byte for byte",
    "--src-no-creds": "give no credentials",
    "--dest-no-creds": "give no credentials",
}
# of boltseal run, as runc, podman and docker have it
_RUN = {
    **dict.fromkeys(
        ("-i", "-t", "-it", "-ti", "--interactive", "--tty", "--terminal"),
        "standard streams and a terminal are the container's without any option",
    ),
    "--rm": "the container is removed in every case",
    **dict.fromkeys(
        ("-v", "--volume", "--mount", "--tmpfs", "--device", "--cap-add", "--privileged"),
        "edit the config.json that boltseal unpack makes, and give the bundle to runc",
    ),
    **dict.fromkeys(("-p", "--publish", "--net"), "write --network host"),
    **dict.fromkeys(
        ("-d", "--detach", "--name", "--restart"),
        "boltseal unpack makes a bundle, and runc run --detach --bundle BUNDLE NAME starts it",
    ),
    "--env-file": "write -e NAME=VALUE for each variable",
}


# of the actions of boltseal broker key, which name a key whole
_BROKER_KEY = dict.fromkeys(("--tenant", "--project"), "write TENANT/PROJECT/NAME")


def explain(message: str, prog: str, options: Sequence[argparse.Action]) -> UsageError:
    """A UsageError in place of argparse's ``message``: which word, and which one was meant."""
    see = f"see {prog} --help"
    choice = _CHOICE.match(message)
    if choice:
        return _unknown(prog, choice[1], choice[2], re.findall(r"[a-z-]+", choice[3]))
    if message.startswith("unrecognized arguments:"):
        words = message.partition(":")[2].split()
        meant = _meant(words, prog, options)
        return UsageError(
            f"unrecognized arguments: {' '.join(map(_shown, words))}",
            hint=f"{meant} {see}" if meant else see,
        )
    return UsageError(message, hint=see)


def _shown(word: str) -> str:
    """A value may be a password in a wrong place; the name of a file that is there is none."""
    name, equals, _ = word.partition("=")
    if _OPTION.fullmatch(name):
        return f"{name}=…" if equals else name
    return word if os.path.exists(word) else "…"


def _unknown(prog: str, kind: str, word: str, known: Sequence[str]) -> UsageError:
    what, synonyms = ("command", _COMMANDS) if kind == "COMMAND" else ("action", _ACTIONS)
    meant = synonyms.get(word, "")
    if kind == "ACTION" and meant.split(" ")[0] not in known:
        meant = ""
    if kind == "ACTION" and _IMAGE.match(word) and "list" in known:
        meant = "list IMAGE"
    if not meant:
        meant = next(iter(get_close_matches(word, known, 1, _CLOSE)), "")
    hint = f"see {prog} --help"
    if meant:
        hint = f"did you mean {prog} {meant}? {hint}"
    elif kind == "ACTION" and prog.endswith(" broker") and "/" in word:
        hint = f"options stand behind the action: {prog} ACTION --config {word[:80]}; {hint}"
    elif kind == "ACTION":
        hint = f"{hint}: there are {', '.join(known)}"
    return UsageError(f"{word[:80]!r} is no {what} of {prog}", hint=hint)


def _meant(words: Sequence[str], prog: str, options: Sequence[argparse.Action]) -> str:
    if " " not in prog:
        return "options stand behind the command;"
    names = [name for one in options for name in one.option_strings]
    unknown = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
    if unknown is not None:
        told = {**_OPTIONS, **_RUN} if prog.endswith(" run") else _OPTIONS
        if " broker key " in prog:
            told = {**told, **_BROKER_KEY}
        if unknown in told:
            return f"{told[unknown]};"
        bare = {name.lstrip("-"): name for name in names if name.startswith("--")}
        close = get_close_matches(unknown.lstrip("-"), bare, 1, _CLOSE)
        return f"did you mean {bare[close[0]]}?" if close else ""
    if prog.endswith(" run"):
        return "what runs in the container stands behind --: IMAGE -k KEY -- PROGRAM;"
    named = [one for one in ("-r", "-k") if one in names]
    if named and any(os.path.isfile(word) for word in words):
        return f"keys are named with {' and '.join(named)};"
    return ""
