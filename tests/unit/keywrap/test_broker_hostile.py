"""Brokers and packets that are not what they say: nothing opens, nobody else is called."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from boltseal._io import b64
from boltseal.errors import KeyServiceError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.broker import client, keys, packet, protocol, sealing
from support.broker_fake import (
    ABOUT,
    IDENTIFIER,
    KEY,
    SCHEME,
    SECRET,
    TOKEN,
    FakeBroker,
    Handler,
    identity,
    serving,
    unused,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# Answers that do not count. What else would an honest broker, asked next, be for?
def _swapped(handler: Handler) -> bool:
    """The answer to another request of the same host."""
    request, _ = sealing.fresh(key=KEY, version=1, packet=handler.now.asked.packet, time=1)
    return handler.reply(*handler.honest(request.encode()))


def _rebound(handler: Handler) -> bool:
    """The same request, another image: to the same fresh key."""
    document = json.loads(handler.now.body)
    document["layer"] = "sha256:" + "3c" * 32
    return handler.reply(*handler.honest(json.dumps(document).encode()))


def _other_time(handler: Handler) -> bool:
    status, body = handler.honest()
    answer = json.loads(body)
    answer["time"] += 1
    return handler.reply(status, json.dumps(answer).encode())


def _garbled(handler: Handler) -> bool:
    status, body = handler.honest()
    answer = json.loads(body)
    sealed = bytearray(b64.decode(answer["sealed"], "it"))
    sealed[-1] ^= 1
    answer["sealed"] = b64.encode(bytes(sealed))
    return handler.reply(status, json.dumps(answer).encode())


def _weaker(handler: Handler) -> bool:
    status, body = handler.honest()
    answer = json.loads(body)
    answer["kem"], answer["sealed"] = "X25519", b64.encode(bytes(80))
    return handler.reply(status, json.dumps(answer).encode())


def _redirect(handler: Handler) -> bool:
    return handler.reply(307, b"{}", Location=handler.server.fake.address + "/elsewhere")


HOSTILE: dict[str, tuple[Callable[[Handler], bool], str]] = {
    "of another request": (_swapped, "does not open"),
    "re-bound": (_rebound, "does not open"),
    "at another time": (_other_time, "does not open"),
    "changed": (_garbled, "does not open"),
    "sealed more weakly": (_weaker, "sealed in another way"),
    "redirect": (_redirect, "sends elsewhere"),
    "oversized": (lambda one: one.reply(200, b" " * (protocol.MAX_ANSWER_BYTES + 1)), "over"),
    "truncated": (lambda one: one.reply(200, one.honest()[1][:90], length="900"), "in the middle"),
    "not JSON": (lambda one: one.reply(200, b"<html>", "text/html"), "not in JSON"),
    "JSON by its type alone": (lambda one: one.reply(200, b"<html>"), "JSON"),
    "an error with 200": (
        lambda one: one.reply(200, protocol.Refusal.of("forbidden", IDENTIFIER).encode()),
        "has no",
    ),
    "members more": (
        lambda one: one.reply(200, one.honest()[1].replace(b"{", b'{"x":1,', 1)),
        "members",
    ),
    "compressed": (lambda one: one.reply(200, b"{}", Content_Encoding="gzip"), "compressed"),
    "403 of something in between": (lambda one: one.reply(403, b"no", "text/plain"), "answers 403"),
    "204": (lambda one: one.reply(204, b""), "204"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_answers_that_do_not_count(what: str, broker: FakeBroker) -> None:
    answer, reason = HOSTILE[what]
    token = broker.folder / "token"
    token.write_text(TOKEN)
    mine, data = identity(broker.settings(token_file=str(token))), wrapped(broker)
    broker.script += [answer] * client.ROUNDS
    with pytest.raises(KeyServiceError) as caught:
        mine.unwrap_for(SCHEME, data, ABOUT)
    assert reason in str(caught.value)
    assert broker.address in str(caught.value)
    assert all(one not in str(caught.value) for one in (TOKEN, b64.encode(data)[:40], "symkey"))
    assert "/elsewhere" not in [one.path for one in broker.seen]


def test_one_bad_address_leaves_the_good_one(broker: FakeBroker) -> None:
    with serving(FakeBroker(broker.folder)) as other:
        other.script += [_garbled] * 9
        mine = identity(broker.settings(addresses=[other.address, broker.address]))
        assert (
            mine.unwrap(SCHEME, wrapped(broker, brokers=(other.address, broker.address))) == SECRET
        )
        assert (
            mine.unwrap(SCHEME, wrapped(broker, brokers=(other.address, broker.address))) == SECRET
        )
    assert (len(other.seen), len(broker.seen)) == (1, 2)  # the one that answered comes first then


@pytest.mark.parametrize("where", ["head", "body"])
def test_an_answer_that_drips_is_cut(where: str, broker: FakeBroker) -> None:
    ended = threading.Event()

    def drip(handler: Handler) -> bool:
        if where == "body":
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
            )
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not ended.wait(0.05):
            handler.wfile.write(b" ")
        return True

    broker.script += [drip] * 9
    try:
        with pytest.raises(KeyServiceError) as caught:
            identity(broker.settings(timeout=0.6)).unwrap(SCHEME, wrapped(broker))
    finally:
        ended.set()
        broker.script.clear()
    assert "does not answer in time" in caught.value.message


def test_a_certificate_of_another_authority_is_not_believed(broker: FakeBroker) -> None:
    mine = identity(broker.settings(ca_file=str(broker.folder / "host" / "ca.pem")))
    with pytest.raises(KeyServiceError) as caught:
        mine.unwrap(SCHEME, wrapped(broker))
    assert "its certificate is not trusted" in caught.value.message
    assert "ca-file" in str(caught.value.hint)
    assert not broker.seen


def test_a_certificate_of_another_name_is_not_believed(broker: FakeBroker) -> None:
    address = broker.address.replace("localhost", "127.0.0.1")
    mine = identity(broker.settings(addresses=[address]))
    with pytest.raises(KeyServiceError, match="certificate is not trusted"):
        mine.unwrap(SCHEME, wrapped(broker, brokers=(address,)))
    assert not broker.seen


def test_a_packet_makes_nobody_call_another_broker(broker: FakeBroker) -> None:
    with serving(FakeBroker(broker.folder)) as attacker:
        data = wrapped(broker, brokers=(attacker.address,))
        with pytest.raises(NotMyKeyError) as caught:
            identity(broker.settings()).unwrap(SCHEME, data)
        assert attacker.address.removeprefix("https://") in str(caught.value)
        both = wrapped(broker, brokers=(attacker.address, broker.address))
        broker.script += [lambda handler: handler.refuse("unavailable")] * 9
        with pytest.raises(KeyServiceError):
            identity(broker.settings()).unwrap(SCHEME, both)
    assert attacker.connections == 0
    assert len(broker.seen) == client.ROUNDS


def test_a_broker_that_moved_opens_what_names_its_former_address(broker: FakeBroker) -> None:
    old = unused()
    mine = identity(broker.settings(former_addresses=[old]))
    assert mine.unwrap(SCHEME, wrapped(broker, brokers=(old,))) == SECRET


def test_a_packet_that_names_a_key_it_was_not_wrapped_for(broker: FakeBroker) -> None:
    other = FakeBroker(broker.folder)
    found = packet.parse(keys.from_public(other.half(brokers=(broker.address,))).seal(SECRET))
    lie = packet.build(packet.Packet(found.brokers, KEY, 1, broker.pair.fingerprint, found.wrapped))
    with pytest.raises(NotMyKeyError, match=r"malformed, request "):
        identity(broker.settings()).unwrap(SCHEME, lie)
