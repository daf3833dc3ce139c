"""Pages of others in a browser that has a client's certificate, which it shows to whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker_attack import send

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World

ROLL_BACK = "/v1/admin/tenants/default/policies/rollback"  # needs no body, so no preflight
FOREIGN = [
    (("Origin", "https://evil.example"),),
    (("Origin", "null"),),
    (("Sec-Fetch-Site", "cross-site"),),
    (("Sec-Fetch-Site", "same-site"),),
    (("Origin", "https://evil.example"), ("Sec-Fetch-Site", "none")),
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_does_not_act_with_the_certificate(
    world: World, host: Host, headers: tuple[tuple[str, str], ...]
) -> None:
    assert send(world, "POST", ROLL_BACK, host=host).code == "forbidden"  # by the policies
    assert send(world, "POST", ROLL_BACK, host=host, headers=headers).code == "malformed"
    # a token is given by hand: no page has it
    token = world.broker.admin_token
    answer = send(world, "GET", "/v1/admin/tenants", host=None, token=token, headers=headers)
    assert answer.status == 200


def test_a_page_has_nothing_released(world: World, host: Host, key: KeyVersion) -> None:
    body, _ = broker_world.ask(key)
    page = [("Sec-Fetch-Site", "cross-site")]
    answer = send(world, "POST", protocol.PATH, body, host=host, headers=page)
    assert answer.code == "malformed"
    assert send(world, "POST", protocol.PATH, body, host=host).status == 200


def test_a_link_of_another_site_signs_nobody_out(world: World) -> None:
    """Browsers do not send the session's cookie along, and would take it away if told so."""
    assert "set-cookie" not in send(world, "GET", "/console/").headers
    old = [("Cookie", "__Host-boltseal-session=" + "A" * 43)]
    assert "Max-Age=0" in send(world, "GET", "/console/", headers=old).headers["set-cookie"]
