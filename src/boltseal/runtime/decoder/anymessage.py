"""The one protobuf message that containerd sends: ``google.protobuf.Any``.

Two fields are read by hand, since a protobuf library would take longer to start than all of the
rest: ``type_url``, number 1, and ``value``, number 2. Encoding: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from boltseal.errors import LimitExceededError, MalformedError

_TYPE_URL, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups, 3 and 4, are long gone
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_MAX_NUMBER = (1 << 29) - 1
MAX_FIELDS = 1_000  # of one message, which has two today
_WHAT = "the payload on descriptor 3"


def read(raw: bytes) -> tuple[str, bytes]:
    """Type URL and value. Raises MalformedError or LimitExceededError.

    Fields that a later version may add are passed over. One that comes twice is refused: readers
    differ in which one they take.
    """
    found: dict[int, bytes] = {}
    at = count = 0
    while at < len(raw):
        count += 1
        if count > MAX_FIELDS:
            raise LimitExceededError(f"{_WHAT} has more than the limit of {MAX_FIELDS} fields")
        tag, at = _varint(raw, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_NUMBER:
            raise _malformed("has a field with an impossible number")
        content, at = _field(raw, at, kind)
        if number not in (_TYPE_URL, _VALUE):
            continue
        if kind != _BYTES:
            raise _malformed(f"has a number where field {number} should be")
        if number in found:
            raise _malformed(f"has field {number} twice")
        found[number] = content
    if _TYPE_URL not in found:
        raise _malformed("does not say what it is")
    try:
        return found[_TYPE_URL].decode("utf-8"), found.get(_VALUE, b"")
    except UnicodeDecodeError:
        raise _malformed("has a type that is not UTF-8 text") from None


def _field(raw: bytes, at: int, kind: int) -> tuple[bytes, int]:
    if kind == _VARINT:
        _, end = _varint(raw, at)
        return b"", end
    if kind == _BYTES:
        length, at = _varint(raw, at)
    elif kind in _FIXED:
        length = _FIXED[kind]
    else:
        raise _malformed(f"has a field of the unknown kind {kind}")
    if length > len(raw) - at:
        raise _malformed("ends in the middle of a field")
    return raw[at : at + length], at + length


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(raw[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + place + 1
    else:
        if len(raw) - at < _MAX_VARINT_BYTES:
            raise _malformed("ends in the middle of a number")
    raise _malformed("has a number of more than 64 bits")


def _malformed(problem: str) -> MalformedError:
    return MalformedError(
        f"{_WHAT} {problem}", hint="it is not what containerd sends to a stream processor"
    )
