"""The key provider as a gRPC service, ``keyprovider.KeyProviderService``.

Calls wait for one of a bounded number of threads rather than being turned away. What is answered in
case of failure tells the client no more than it needs: the log has the rest.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from boltseal._io.files import read_user_file
from boltseal.errors import (
    BoltsealError,
    IntegrityError,
    KeyFileError,
    KeyServiceError,
    MalformedError,
    NoMatchingKeyError,
    StorageError,
    UsageError,
)
from boltseal.keyprovider_server import question, sockets
from boltseal.keyprovider_server.provider import Event
from boltseal.keywrap.keyprovider import protocol, service
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.keyprovider_server.provider import Provider
    from boltseal.keywrap.keyprovider.address import Address

THREADS = 16  # calls that are worked on at the same time
MAX_CALLS = 4096  # calls that wait or are worked on; more are turned away
GRACE_SECONDS = 10.0  # for calls that are worked on when the service is to stop
_LOG_SAYS = "the key provider failed; its log says why"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Certificate and key in PEM; with ``client_ca`` clients need a certificate of that root."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None

    @classmethod
    def read(cls, certificate: str, key: str, client_ca: str | None) -> ServerTls:
        """Read the files. Raises NotFoundError, StorageError or KeyFileError."""
        return cls(
            _pem(certificate, b"CERTIFICATE-----"),
            _pem(key, b"PRIVATE KEY-----"),
            None if client_ca is None else _pem(client_ca, b"CERTIFICATE-----"),
        )


@contextmanager
def serving(
    provider: Provider,
    address: Address,
    tls: ServerTls | None,
    record: Callable[[Event], None],
) -> Iterator[str]:
    """Serve until the block ends; yields the address, with the port that was chosen for port 0.

    Calls that are worked on then get GRACE_SECONDS to end. ``record`` is called by several threads.
    Raises StorageError when the address cannot be used.
    """
    grpc = service.grpc_library()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="keyprovider")
    server = grpc.server(
        threads,
        handlers=[_Calls(grpc, provider, record).handlers()],
        options=[
            ("grpc.max_receive_message_length", protocol.MAX_MESSAGE_BYTES + service.FRAME_BYTES),
            ("grpc.max_send_message_length", protocol.MAX_MESSAGE_BYTES + service.FRAME_BYTES),
            ("grpc.so_reuseport", 0),  # two servers must not share a port unnoticed
        ],
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    with ExitStack() as stack:
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        stack.callback(lambda: server.stop(GRACE_SECONDS).wait())
        if address.path is not None:
            stack.enter_context(
                sockets.listening(address.path, partial(_bind, grpc, server, address, tls))
            )
            place = str(address)
        else:
            port = _bind(grpc, server, address, tls)
            place = str(type(address)(host=address.host, port=port))
        server.start()
        yield place


def _bind(grpc: Any, server: Any, address: Address, tls: ServerTls | None) -> int:
    target = f"unix:{address.path}" if address.path is not None else str(address)
    try:
        if tls is None:
            return int(server.add_insecure_port(target))
        credentials = grpc.ssl_server_credentials(
            [(tls.key, tls.certificate)],
            root_certificates=tls.client_ca,
            require_client_auth=tls.client_ca is not None,
        )
        return int(server.add_secure_port(target, credentials))
    except RuntimeError:
        raise StorageError(
            f"cannot listen on {address}",
            hint="is the address in use? Do certificate and key belong together?"
            if tls
            else "is the address in use?",
        ) from None


class _Calls:
    """What the methods of the service do."""

    def __init__(self, grpc: Any, provider: Provider, record: Callable[[Event], None]) -> None:
        self._grpc = grpc
        self._provider = provider
        self._record = record

    def handlers(self) -> Any:
        """For the server. Bytes in, bytes out: it would print a traceback for a bad message."""
        make = self._grpc.unary_unary_rpc_method_handler
        methods = {
            method: make(partial(self._behave, operation))
            for operation, method in service.METHODS.items()
        }
        return self._grpc.method_handlers_generic_handler(service.SERVICE, methods)

    def _behave(self, operation: str, message: bytes, context: Any) -> bytes:
        code = self._grpc.StatusCode
        why: BoltsealError
        try:
            if not context.is_active():  # it waited for a thread, and the client went away
                raise KeyServiceError("the client did not wait")
            answer, event = self._answer(operation, message)
        except NoMatchingKeyError as error:
            status, text, why = code.PERMISSION_DENIED, "no key of this provider opens it", error
        except (IntegrityError, UsageError) as error:
            status, text, why = code.INVALID_ARGUMENT, error.message, error
        except BoltsealError as error:
            status, text, why = code.INTERNAL, _LOG_SAYS, error
        except Exception as error:  # noqa: BLE001  the service goes on
            why = BoltsealError(f"unexpected {type(error).__name__}; this is a bug in Boltseal")
            status, text = code.INTERNAL, _LOG_SAYS
        else:
            self._record(event)
            return service.frame(answer)
        self._record(Event(operation, error=why))
        context.abort(status, text)
        raise AssertionError  # abort does not return

    def _answer(self, operation: str, message: bytes) -> tuple[bytes, Event]:
        raw = service.unframe(message)
        if raw is None:
            raise MalformedError("the message is not one of this service")
        asked = question.parse(raw)
        if asked.operation != operation:
            raise MalformedError("the request's op is not that of the method that was called")
        return self._provider.answer(asked)


def _pem(path: str, mark: bytes) -> bytes:
    raw = read_user_file(path, "file", max_bytes=8 * MAX_KEY_FILE_BYTES)
    if mark not in raw:
        raise KeyFileError(f"{path} holds no PEM of the kind that is needed")
    return raw
