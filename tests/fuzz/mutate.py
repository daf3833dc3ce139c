"""Mutations that keep an input's outer form: JSON, base64 in it, DER in that, PEM around that.

Bytes changed at random rarely get past the first check. Here a document is taken apart as far as it
goes, one thing in it is changed, and it is put together again with right lengths and encodings.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Raw = Callable[[bytes], bytes]

_DEPTH = 6  # forms inside of forms
_PEM = re.compile(rb"(-----BEGIN [A-Z0-9 ]+-----)([^-]*)(-----END [A-Z0-9 ]+-----)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}")
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**64, 1e308, 0.5, "", " ", "\x00", "é", "\ud800", "=", ",",
    "none", "dir", "A" * 300, [], {}, [[]], [{}], [None], {"": ""}, [0] * 20,
)  # fmt: skip
_TAGS = (0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x10, 0x13, 0x30, 0x31, 0x80, 0x84, 0xA0, 0xA1, 0x1F)


class Mutator:
    """Changes inputs. ``raw`` changes plain bytes; ``donors`` are inputs to take pieces from."""

    def __init__(self, donors: list[bytes], words: tuple[bytes, ...] = ()) -> None:
        self._donors = donors
        self._words = words

    def __call__(self, data: bytes, limit: int, rng: random.Random, raw: Raw) -> bytes:
        """One to three changes to ``data``, which stays within ``limit`` bytes."""
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            changed = self._change(data, rng, raw, _DEPTH)
            if len(changed) > limit:
                break
            data = changed
        return data

    def _change(self, data: bytes, rng: random.Random, raw: Raw, depth: int) -> bytes:
        if depth == 0 or rng.random() < 0.2:
            return self._plain(data, rng, raw)
        if data[:1] in (b"{", b"["):
            try:
                return self._json(data, rng, raw, depth)
            except (ValueError, RecursionError):
                return self._plain(data, rng, raw)
        match = rng.choice(list(_PEM.finditer(data)) or [None])
        if match is not None:
            return self._pem(data, match, rng, raw, depth)
        if data[:1] and data[0] & 0x1F in (0x10, 0x11, 0x04, 0x00):
            tree = _der(data)
            if tree is not None:
                return _encode(self._tree(tree, rng, raw, depth))
        return self._plain(data, rng, raw)

    def _plain(self, data: bytes, rng: random.Random, raw: Raw) -> bytes:
        what = rng.randrange(8)
        at = rng.randint(0, len(data))
        if what == 0 and self._words:
            return data[:at] + rng.choice(self._words) + data[at:]
        if what == 1:
            return data[:at]
        if what == 2 and self._donors:
            other = rng.choice(self._donors)
            start = rng.randint(0, len(other))
            return data[:at] + other[start : start + rng.randint(0, 64)] + data[at:]
        if what == 3:
            end = min(len(data), at + rng.choice((1, 2, 8, 64)))
            return data[:end] + data[at:end] * rng.choice((1, 2, 50)) + data[end:]
        return raw(data)

    # JSON

    def _json(self, data: bytes, rng: random.Random, raw: Raw, depth: int) -> bytes:
        document = json.loads(data)
        if rng.random() < 0.05:
            return self._twice(data, document, rng)
        document = self._value(document, rng, raw, depth)
        return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )

    def _twice(self, data: bytes, document: Any, rng: random.Random) -> bytes:
        """One member two times, which no dictionary holds."""
        if not isinstance(document, dict) or not document:
            return data
        key, value = rng.choice(list(document.items()))
        return data.rstrip()[:-1] + f",{json.dumps(key)}:{json.dumps(value)}}}".encode()

    def _value(self, value: Any, rng: random.Random, raw: Raw, depth: int) -> Any:
        what = rng.random()
        if what < 0.06:
            return rng.choice(_ODD)
        if what < 0.10:
            return [value] if what < 0.08 else {"keys": value}
        if what < 0.14:
            return self._donated(rng)
        if isinstance(value, dict) and value:
            return self._members(dict(value), rng, raw, depth)
        if isinstance(value, list) and value:
            return self._items(list(value), rng, raw, depth)
        if isinstance(value, str):
            return self._text(value, rng, raw, depth)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return rng.choice((value + 1, -value, value * 2**16, str(value)))
        return rng.choice(_ODD)

    def _members(self, value: dict[str, Any], rng: random.Random, raw: Raw, depth: int) -> Any:
        key = rng.choice(list(value))
        what = rng.randrange(12)
        if what == 0:
            del value[key]
        elif what == 1:
            value[rng.choice((key.upper(), key.capitalize(), key + " ", "", "x"))] = value[key]
        elif what == 2:
            value[rng.choice(list(value))] = value[key]
        elif what == 3 and self._words:
            value[rng.choice(self._words).decode("utf-8", "replace")] = value[key]
        elif what == 4:
            value[rng.choice((key, "header", "recipients", "zip", "crit"))] = rng.choice(_ODD)
        else:
            value[key] = self._value(value[key], rng, raw, depth)
        return value

    def _items(self, value: list[Any], rng: random.Random, raw: Raw, depth: int) -> Any:
        at = rng.randrange(len(value))
        what = rng.randrange(8)
        if what == 0:
            del value[at]
        elif what == 1:
            value += [value[at]] * _times(len(json.dumps(value[at])), rng)
        elif what == 2:
            value.insert(at, rng.choice(_ODD))
        else:
            value[at] = self._value(value[at], rng, raw, depth)
        return value

    def _text(self, value: str, rng: random.Random, raw: Raw, depth: int) -> str:
        what = rng.random()
        if what < 0.1 and self._words:
            return rng.choice(self._words).decode("utf-8", "replace")
        if what < 0.2:
            return value + rng.choice(("=", ",", "\n", " ", "A", value[:500], "é"))
        parts = value.split(",")
        at = rng.randrange(len(parts))
        if len(parts) > 1 and what < 0.3:
            parts.insert(at, parts[at] if what < 0.25 else "")
            return ",".join(parts)
        inner = _unbase64(parts[at])
        if inner is None:
            changed = raw(value.encode("utf-8", "surrogatepass"))
            return changed.decode("utf-8", "replace")
        changed = self._change(inner, rng, raw, depth - 1)
        parts[at] = _base64(changed, url=_is_url(parts[at], rng))
        return ",".join(parts)

    def _donated(self, rng: random.Random) -> Any:
        """A value out of another input."""
        try:
            value = json.loads(rng.choice(self._donors or [b"0"]))
        except ValueError:
            return rng.choice(_ODD)
        for _ in range(rng.randint(1, 3)):
            inside = list(value.values() if isinstance(value, dict) else value) if isinstance(
                value, (dict, list)
            ) else []  # fmt: skip
            if inside:
                value = rng.choice(inside)
        return value

    # PEM and DER

    def _pem(
        self, data: bytes, match: re.Match[bytes], rng: random.Random, raw: Raw, depth: int
    ) -> bytes:
        if rng.random() < 0.1:
            return data + data[match.start() : match.end()] + b"\n"
        lines = match.group(2).split(b"\n\n")
        try:
            inner = binascii.a2b_base64(lines[-1])
        except binascii.Error:
            return self._plain(data, rng, raw)
        changed = base64.encodebytes(self._change(inner, rng, raw, depth - 1))
        body = b"\n\n".join((*lines[:-1], changed))
        if len(lines) == 1:
            body = b"\n" + body
        return data[: match.start(2)] + body + data[match.end(2) :]

    def _tree(self, tree: list[Any], rng: random.Random, raw: Raw, depth: int) -> list[Any]:
        """A changed list of elements, each ``[tag, bytes or list]``."""
        if not tree:
            return [[rng.choice(_TAGS), raw(b"")[:200]]]
        at = rng.randrange(len(tree))
        tag, value = tree[at]
        what = rng.randrange(14)
        if what == 0:
            del tree[at]
        elif what == 1:
            tree[at:at] = [tree[at]] * _times(len(_encode([tree[at]])), rng)
        elif what == 2:
            tree[at] = [rng.choice(_TAGS), value]
        elif what == 3:
            tree[at] = [rng.choice(_TAGS), [[tag, value]]]
        elif what == 4:
            tree.insert(at, [rng.choice(_TAGS), b""])
        elif what == 5 and len(tree) > 1:
            other = rng.randrange(len(tree))
            tree[at], tree[other] = tree[other], tree[at]
        elif isinstance(value, list):
            tree[at] = [tag, self._tree(value, rng, raw, depth)]
        else:
            tree[at] = [tag, self._change(value, rng, raw, depth - 1)]
        return tree


def _times(size: int, rng: random.Random) -> int:
    """How often something of this size is repeated: nobody's memory is to be filled here."""
    return rng.choice((1, 2, 300)) if size < 50 else 1


def _der(data: bytes) -> list[Any] | None:
    """The elements of DER that is whole, those inside of constructed ones, too; else None."""
    found: list[Any] = []
    position = 0
    while position < len(data):
        if len(found) > 500 or position + 2 > len(data):
            return None
        tag, length = data[position], data[position + 1]
        position += 2
        if length >= 0x80:
            count = length & 0x7F
            if not 1 <= count <= 3:
                return None
            length = int.from_bytes(data[position : position + count])
            position += count
        value = data[position : position + length]
        if len(value) < length:
            return None
        inside = _der(value) if value and (tag & 0x20 or tag == 0x10) else None
        found.append([tag, value if inside is None else inside])
        position += length
    return found


def _encode(tree: list[Any]) -> bytes:
    parts = []
    for tag, value in tree:
        content = _encode(value) if isinstance(value, list) else value
        size = len(content)
        head = bytes((size,)) if size < 0x80 else b"\x83" + min(size, 0xFFFFFF).to_bytes(3)
        if 0x80 <= size < 0x10000:
            head = b"\x82" + size.to_bytes(2) if size > 0xFF else bytes((0x81, size))
        parts.append(bytes((tag,)) + head + content)
    return b"".join(parts)


def _unbase64(text: str) -> bytes | None:
    if not _BASE64.fullmatch(text):
        return None
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return base64.urlsafe_b64decode(padded.translate(str.maketrans("+/", "-_")))
    except binascii.Error:
        return None


def _is_url(text: str, rng: random.Random) -> bool:
    """Which alphabet a text is in: JOSE's without padding, or the standard one with it."""
    if rng.random() < 0.02:
        return rng.random() < 0.5
    if set("+/=") & set(text):
        return False
    return bool(set("-_") & set(text)) or len(text) % 4 > 0 or rng.random() < 0.5


def _base64(data: bytes, *, url: bool) -> str:
    if url:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return base64.b64encode(data).decode()
