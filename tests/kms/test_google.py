"""Google Cloud KMS against a double of its gRPC service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from boltseal.errors import KeyServiceError
from boltseal.keywrap.kms import keys, packet
from boltseal.keywrap.options import KeyOptions
from boltseal.spec.annotations import KEY_SERVICE

if TYPE_CHECKING:
    from pathlib import Path

    from support.kms_benches import GoogleBench


def test_a_version_in_the_uri_is_what_encrypts(google: GoogleBench) -> None:
    google.rotate()
    google.rotate()
    pinned = google.recipient(f"{google.uri}/cryptoKeyVersions/2").seal(b"secret")
    newest = google.recipient(google.uri).seal(b"secret")
    assert (packet.parse(pinned).version, packet.parse(newest).version) == ("2", "3")
    assert packet.parse(pinned).key == packet.parse(newest).key
    for text in (google.uri, f"{google.uri}/versions/1"):
        for data in (pinned, newest):
            assert google.identity(text).unwrap(KEY_SERVICE, data) == b"secret"


def test_a_pinned_version_that_is_disabled(google: GoogleBench) -> None:
    google.rotate()
    google.key.disabled = {1}
    google.recipient(google.uri).seal(b"secret")
    with pytest.raises(KeyServiceError, match=r"version 1 of .* is disabled"):
        google.recipient(f"{google.uri}/versions/1").seal(b"secret")
    with pytest.raises(KeyServiceError, match="has no key"):
        google.recipient(f"{google.uri}/versions/9").seal(b"secret")


def test_checksums_find_what_was_damaged_on_the_way(google: GoogleBench) -> None:
    data = google.recipient(google.uri).seal(b"secret")
    google.service.damage = True
    with pytest.raises(KeyServiceError, match="makes no sense"):
        google.recipient(google.uri).seal(b"secret")
    with pytest.raises(KeyServiceError, match="makes no sense"):
        google.identity(google.uri).unwrap(KEY_SERVICE, data)


def test_a_service_that_is_not_there(google: GoogleBench) -> None:
    google.service.stop()
    with pytest.raises(KeyServiceError, match="cannot be reached"):
        google.recipient(google.uri).seal(b"secret")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "ENCRYPT_DECRYPT"),
        (grpc.StatusCode.INTERNAL, "it answers InternalServerError"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "cannot be reached"),
        (grpc.StatusCode.PERMISSION_DENIED, "role Cloud KMS CryptoKey Encrypter"),
    ],
)
def test_what_google_may_say(google: GoogleBench, code: grpc.StatusCode, words: str) -> None:
    google.service.faults += [code] * 10
    with pytest.raises(KeyServiceError, match=words) as caught:
        google.recipient(google.uri).seal(b"secret")
    assert "8f3a" not in str(caught.value)


def test_no_credentials(
    google: GoogleBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = str(tmp_path / "none.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", missing)
    with pytest.raises(KeyServiceError, match="gcloud auth application-default login"):
        keys.recipient(google.uri, KeyOptions()).seal(b"secret")
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(KeyServiceError, match="no valid credentials"):
        keys.recipient(google.uri, KeyOptions()).seal(b"secret")
