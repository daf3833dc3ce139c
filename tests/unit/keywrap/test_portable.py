"""Recipients that travel: every kind comes back the same, and no private key has that form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import boltseal
from boltseal.errors import BoltsealError, KeyFileError, MalformedError, UsageError
from boltseal.keywrap import portable
from boltseal.keywrap.generate import generate_key
from boltseal.keywrap.jwe import JweRecipient
from boltseal.keywrap.keyring import Keyring, wrap
from boltseal.keywrap.options import KeyOptions

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.keywrap.base import Recipient

SECRET = b'{"symkey":"' + b"A" * 150 + b'"}'


def travelled(recipient: Recipient, options: KeyOptions | None = None) -> Recipient:
    """There and back again, through text as a network has it."""
    sent = json.loads(json.dumps(portable.to_plain(recipient)))
    return portable.from_plain(sent, options or KeyOptions())


@pytest.mark.parametrize("name", ["rsa2048", "p256", "p384", "p521"])
@pytest.mark.parametrize("with_kid", [True, False])
def test_jwe(keys: Path, name: str, with_kid: bool) -> None:
    options = KeyOptions(with_kid=with_kid)
    given = boltseal.parse_recipient(f"jwe:{keys}/{name}.pub.pem", options)
    found = travelled(given)
    assert found.describe() == given.describe()
    assert isinstance(found, JweRecipient)
    assert found.with_kid == with_kid
    ((scheme, (packet,)),) = wrap([found], SECRET).items()
    identity = boltseal.parse_identity(f"{keys}/{name}.pem")
    assert identity.unwrap(scheme, packet) == SECRET


def test_a_jwk_keeps_its_algorithm(keys: Path, tmp_path: Path) -> None:
    given = boltseal.parse_recipient(f"jwe:{keys}/p256.pub.pem")
    assert isinstance(given, JweRecipient)
    document = {**json.loads(given.key.jwk.export_public()), "alg": "ECDH-ES+A128KW"}
    (tmp_path / "jwk").write_text(json.dumps(document))
    found = travelled(boltseal.parse_recipient(f"jwe:{tmp_path}/jwk"))
    assert isinstance(found, JweRecipient)
    assert found.key.algorithm == "ECDH-ES+A128KW"


def test_pq_pkcs7_and_pkcs11(tmp_path: Path) -> None:
    generate_key(str(tmp_path / "x.pem"), "xwing", None)
    generate_key(str(tmp_path / "r.pem"), "rsa2048", None, certificate="Alice")
    for text, key in (
        (f"pq:{tmp_path}/x.pub.pem", f"{tmp_path}/x.pem"),
        (f"pkcs7:{tmp_path}/r.crt.pem", f"{tmp_path}/r.pem"),
    ):
        given = boltseal.parse_recipient(text)
        found = travelled(given)
        assert found.describe() == given.describe()
        ((scheme, (packet,)),) = wrap([found], SECRET).items()
        assert Keyring((boltseal.parse_identity(key),)).identities[0].unwrap(scheme, packet) == (
            SECRET
        )
    given = boltseal.parse_recipient(f"pkcs11:{tmp_path}/r.pub.pem", KeyOptions(oaep_hash="sha1"))
    assert travelled(given, KeyOptions(oaep_hash="sha256")) == given  # what was chosen stays


def test_what_is_only_named_is_found_over_there(tmp_path: Path) -> None:
    config = tmp_path / "providers.json"
    config.write_text('{"key-providers":{"box":{"cmd":{"path":"/bin/false"}}}}')
    options = KeyOptions(provider_files=(str(config),))
    given = boltseal.parse_recipient("provider:box:for me", options)
    assert portable.to_plain(given)["text"] == "provider:box:for me"
    assert travelled(given, options).describe() == given.describe()
    with pytest.raises(BoltsealError, match="box"):
        travelled(given)


def test_another_key_under_the_same_name_is_refused(keys: Path) -> None:
    sent = portable.to_plain(boltseal.parse_recipient(f"jwe:{keys}/p256.pub.pem"))
    other = portable.to_plain(boltseal.parse_recipient(f"jwe:{keys}/p384.pub.pem"))
    with pytest.raises(KeyFileError, match="another key here"):
        portable.from_plain({**sent, "key": other["key"]}, KeyOptions())
    with pytest.raises(MalformedError, match="not known here"):
        portable.from_plain({**sent, "kind": "new"}, KeyOptions())


@dataclass(frozen=True)
class Own:
    """A recipient that Boltseal does not know."""

    inner: Any
    wrapper: Any = None

    def describe(self) -> str:
        return "my own"


def test_recipients_of_ones_own_travel_as_they_are_if_they_can(keys: Path) -> None:
    sent = portable.to_plain(Own("plain"))
    assert portable.from_plain(sent, KeyOptions()) == Own("plain")
    with pytest.raises(UsageError, match="cannot be pickled"):
        portable.to_plain(Own(lambda: None))
