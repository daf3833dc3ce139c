"""AWS KMS against moto's server over HTTP."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.errors import KeyServiceError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import keys, packet, uri
from boltseal.keywrap.kms.aws import AwsKms
from boltseal.keywrap.kms.service import Lazily
from boltseal.keywrap.options import KeyOptions
from boltseal.spec.annotations import KEY_SERVICE
from support import kms_aws

if TYPE_CHECKING:
    from support.kms_benches import AwsBench

OPTIONS = KeyOptions(environment=kms_aws.ENVIRONMENT)


def test_one_key_by_each_of_its_names(aws: AwsBench) -> None:
    data = aws.recipient(aws.uri).seal(b"secret")
    key = kms_aws.client(aws.front).describe_key(KeyId="alias/bench")["KeyMetadata"]
    assert packet.parse(data).key.key == key["Arn"]
    alias = key["Arn"].replace(f"key/{key['KeyId']}", "alias/bench")
    for name in (key["Arn"], key["KeyId"], "alias/bench", alias):
        assert aws.identity(f"awskms:///{name}").unwrap(KEY_SERVICE, data) == b"secret"
    for name in ("alias/other", key["KeyId"].translate(str.maketrans("0123456789", "1234567890"))):
        with pytest.raises((NotMyKeyError, KeyServiceError)):
            aws.identity(f"awskms:///{name}").unwrap(KEY_SERVICE, data)


def test_an_endpoint_in_the_uri(aws: AwsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    text = f"awskms://localhost:{aws.front.port}/alias/bench"
    data = keys.recipient(text, OPTIONS).seal(b"secret")
    assert b"localhost" not in data
    assert keys.identity(text, OPTIONS).unwrap(KEY_SERVICE, data) == b"secret"
    by_address = f"awskms://127.0.0.1:{aws.front.port}/alias/bench"
    assert keys.identity(by_address, OPTIONS).unwrap(KEY_SERVICE, data) == b"secret"


def test_an_endpoint_elsewhere_is_spoken_to_by_tls() -> None:
    for host, scheme in (
        ("kms.example", "https"),
        ("localhost.example:4566", "https"),
        ("127.1.example", "https"),
        ("10.0.0.1:4566", "https"),
        ("[::1]:4566", "http"),
        ("127.0.0.2", "http"),
    ):
        found = keys.recipient(f"awskms://{host}/alias/app", OPTIONS).service
        assert isinstance(found, AwsKms)
        assert found.client.get().meta.endpoint_url == f"{scheme}://{host}"


@pytest.mark.parametrize("url", ["http://192.0.2.2:4566", "http://kms.example"])
def test_plain_http_is_for_this_machine_alone(
    aws: AwsBench, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """An endpoint that the environment names is held to the same."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(KeyServiceError, match="by plain HTTP"):
        aws.recipient(aws.uri).seal(b"secret")
    with pytest.raises(KeyServiceError, match="by plain HTTP"):
        keys.identity(aws.uri, OPTIONS).service.client.get()  # type: ignore[attr-defined]


def test_plain_http_goes_to_no_proxy(aws: AwsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    data = aws.recipient(aws.uri).seal(b"secret")
    assert aws.identity(aws.uri).unwrap(KEY_SERVICE, data) == b"secret"


def test_an_arn_brings_its_region() -> None:
    arn = "arn:aws:kms:ap-south-1:111122223333:alias/app"
    found = keys.recipient(f"awskms:///{arn}", OPTIONS).service
    assert isinstance(found, AwsKms)
    assert found.client.get().meta.region_name == "ap-south-1"


def test_the_ciphertext_is_bound_to_its_purpose(aws: AwsBench) -> None:
    found = packet.parse(aws.recipient(aws.uri).seal(b"secret"))
    admin = kms_aws.client(aws.front)
    with pytest.raises(admin.exceptions.InvalidCiphertextException):
        admin.decrypt(CiphertextBlob=found.ciphertext)
    opened = admin.decrypt(CiphertextBlob=found.ciphertext, EncryptionContext={"boltseal": "kms/1"})
    assert len(opened["Plaintext"]) == 32


def test_permissions_that_iam_really_refuses(aws: AwsBench) -> None:
    """moto looks at policies, once it is told to."""
    iam = kms_aws.client(aws.front, "iam")
    iam.create_user(UserName="nobody")
    made = iam.create_access_key(UserName="nobody")["AccessKey"]
    recipient = aws.recipient(aws.uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
        with _authorization(aws.front.moto_port):
            with pytest.raises(KeyServiceError, match=r"does not permit.*kms:Encrypt"):
                recipient.seal(b"secret")


class _authorization:  # noqa: N801
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/moto-api/reset-auth"

    def __enter__(self) -> None:
        self._set(b"0")

    def __exit__(self, *error: object) -> None:
        self._set(b"inf")

    def _set(self, count: bytes) -> None:
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(self.url, data=count, headers=plain)
        with urllib.request.urlopen(request, timeout=10):
            pass


def test_no_credentials_at_all(aws: AwsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(KeyServiceError, match=r"no valid credentials.*aws configure"):
        aws.recipient(aws.uri).seal(b"secret")
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(KeyServiceError, match="AWS_PROFILE"):
        aws.recipient(aws.uri).seal(b"secret")


def test_no_region(aws: AwsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(KeyServiceError, match=r"no region is set.*AWS_REGION"):
        keys.recipient(aws.uri, KeyOptions()).seal(b"secret")


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("KMSInvalidStateException", 400, "disabled or destroyed"),
        ("InvalidKeyUsageException", 400, "no symmetric encryption key"),
        ("ExpiredTokenException", 400, "no valid credentials"),
        ("KMSInternalException", 500, "too busy"),
        ("Odd\x1b[2J" + "x" * 900, 400, "it answers Odd"),
    ],
)
def test_what_aws_may_say(aws: AwsBench, code: str, status: int, words: str) -> None:
    aws.front.fail(10, code, status)
    with pytest.raises(KeyServiceError, match=words) as caught:
        aws.recipient(aws.uri).seal(b"secret")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 450


class Client:
    """A client whose service has its own idea of which key it used."""

    def __init__(self, key: str, **answer: Any) -> None:
        self.answer = {"KeyId": key, **answer}

    def encrypt(self, **_: Any) -> dict[str, Any]:
        return self.answer

    decrypt = encrypt


ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def identity_with(client: Client) -> keys.ServiceIdentity:
    found = uri.parse("awskms:///alias/app")
    return keys.ServiceIdentity(found, AwsKms(found, Lazily(lambda: client)))


def test_a_key_that_aws_did_not_use_is_not_believed(aws: AwsBench) -> None:
    data = aws.recipient(aws.uri).seal(b"secret")
    with pytest.raises(NotMyKeyError, match="another key"):
        identity_with(Client(ARN, Plaintext=bytes(32))).unwrap(KEY_SERVICE, data)


@pytest.mark.parametrize(
    "client", [Client("alias/app", Plaintext=b""), Client(""), Client(ARN + "?")]
)
def test_an_answer_without_sense(aws: AwsBench, client: Client) -> None:
    data = aws.recipient(aws.uri).seal(b"secret")
    with pytest.raises(KeyServiceError, match="makes no sense"):
        identity_with(client).unwrap(KEY_SERVICE, data)
