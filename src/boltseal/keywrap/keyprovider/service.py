"""A key provider that is a gRPC service: one unary call for each question.

The messages have one field of bytes each, number 1: on the wire that is protobuf's ``BytesValue``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.errors import KeyServiceError, MissingExtraError
from boltseal.keywrap.keyprovider import sockets, words
from boltseal.keywrap.keyprovider.protocol import MAX_MESSAGE_BYTES, WRAP

if TYPE_CHECKING:
    from boltseal.keywrap.keyprovider.config import Service

SERVICE = "keyprovider.KeyProviderService"
METHODS = {"keywrap": "WrapKey", "keyunwrap": "UnWrapKey"}
FRAME_BYTES = 64  # around a document: the field's tag and length

_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED: "
_REASONS = {
    "UNAVAILABLE": "cannot be reached",
    "PERMISSION_DENIED": "refused",
    "UNAUTHENTICATED": "does not know us",
    "INVALID_ARGUMENT": "did not accept the question",
    "UNIMPLEMENTED": "answers, but is no key provider",
    "RESOURCE_EXHAUSTED": "is too busy, or its answer is too long",
}
_HINTS = {
    "UNAVAILABLE": "see that it runs, and that its address and grpc-tls are right",
    "UNAUTHENTICATED": "give it a client certificate: cert-file and key-file of grpc-tls",
}


def grpc_library() -> Any:
    """The gRPC library. Raises MissingExtraError."""
    try:
        import google.protobuf.wrappers_pb2  # noqa: F401  it comes with the same extra
        import grpc
    except ImportError:
        raise MissingExtraError("a gRPC key provider", "grpc") from None
    return grpc


def ask(name: str, service: Service, operation: str, question: bytes, timeout: float) -> bytes:
    """Send a question to the provider ``name``, over a connection of its own.

    Raises KeyServiceError for one that cannot be reached, refuses, or takes too long, and for a
    socket that somebody else may listen at.
    """
    grpc = grpc_library()
    where = f"key provider {name} at {service.address}"
    if service.address.path is not None:
        sockets.check(service.address.path, where)
    with _channel(grpc, service, where, timeout) as channel:
        # bytes in, bytes out: what cannot be parsed is for us to report
        call = channel.unary_unary(
            f"/{SERVICE}/{METHODS[operation]}", request_serializer=None, response_deserializer=None
        )
        try:
            answer = call(frame(question), timeout=timeout)
        except grpc.RpcError as error:
            raise _refusal(error, where, timeout, operation) from None
    found = unframe(answer)
    if found is None:
        raise KeyServiceError(f"{where} answered with something that is no message")
    return found


def frame(document: bytes) -> bytes:
    """A document as a protobuf message."""
    from google.protobuf.wrappers_pb2 import BytesValue

    return BytesValue(value=document).SerializeToString()


def unframe(message: bytes) -> bytes | None:
    """The document in a message; None for what is none."""
    from google.protobuf.message import DecodeError
    from google.protobuf.wrappers_pb2 import BytesValue

    try:
        return BytesValue.FromString(message).value
    except DecodeError:
        return None


def _channel(grpc: Any, service: Service, where: str, timeout: float) -> Any:
    options: list[tuple[str, object]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + FRAME_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + FRAME_BYTES),
        ("grpc.enable_http_proxy", 0),  # keys go to the provider and to nobody in between
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),  # another call's failures are not ours
    ]
    if service.tls is None:
        return grpc.insecure_channel(service.address.target, options)
    from boltseal.keywrap.keyprovider import tls

    found = tls.load(service.address, service.tls, where, timeout)
    if found.server_name:
        options.append(("grpc.ssl_target_name_override", found.server_name))
    credentials = grpc.ssl_channel_credentials(found.roots, found.key, found.certificate)
    return grpc.secure_channel(service.address.target, credentials, options)


def _refusal(error: Any, where: str, timeout: float, operation: str) -> KeyServiceError:
    code = error.code().name
    if code == "DEADLINE_EXCEEDED":
        return KeyServiceError(
            f"{where} did not answer within {timeout:g} seconds",
            hint="allow it more with --provider-timeout",
        )
    details = (error.details() or "").rpartition("last error: ")[2]
    doing = "to wrap the key" if operation == WRAP else "to unwrap the key"
    reason = _REASONS.get(code, f"failed {doing} ({code})")
    if code == "UNAVAILABLE" and _UNTRUSTED in details:
        reason, details = (
            "shows a certificate that is not trusted",
            details.partition(_UNTRUSTED)[2],
        )
    said = words.shown(details)
    return KeyServiceError(f"{where} {reason}{f': {said}' if said else ''}", hint=_HINTS.get(code))
