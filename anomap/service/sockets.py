"""What a peer may do to a socket: bounded sizes, bounded silence, TLS.

pynetdicom reads a PDU of any stated length and waits for its rest for ever, so that two half-sent PDUs block every
association slot. `guard` replaces the reading of one association's socket, and `Listener` what comes before there is
an association. Both reach into pynetdicom for that; tests hold on to the pinned version.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

from anomap.errors import AnomapError
from anomap.service.settings import Tls

MAX_PDU = 131072  # what we tell peers
_MAX_RECEIVED_PDU = 2**22  # association requests with every SOP class there is stay far below
_CHUNK = 2**16
_SLOWEST = 4096  # bytes a second; a peer below it for longer than the silence only holds the place
_POLL_S = 0.005


class Listener(ThreadedAssociationServer):  # type: ignore[misc]
    """Takes connections: a TLS handshake holds up nobody else, and there is an end to connections without association.

    pynetdicom shakes hands where it accepts, so that a peer that connects and says nothing would block all others;
    and it starts two threads for every connection, however many there are.
    """

    daemon_threads = True
    request_queue_size = 128  # with the usual 5, a burst of peers waits for seconds until TCP tries again
    turned_away: Callable[[str], None] = staticmethod(lambda how: None)  # told why a connection came to nothing
    most = 2**10  # connections at a time
    crowded: Callable[[], None] = staticmethod(lambda: None)  # told that there was no room for one

    def __init__(self, *words: Any, **named: Any) -> None:
        self._greeting, self._count = 0, threading.Lock()
        super().__init__(*words, **named)

    def get_request(self) -> Any:
        """Accept, and leave the handshake to the connection's own thread."""
        client, address = self.socket.accept()
        client.settimeout(self.ae.network_timeout)
        if self.ssl_context is not None:
            client = self.ssl_context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for another connection; beyond the association limit, so that peers get an answer."""
        with self._count:
            room: bool = self._greeting + len(self.active_associations) < self.most
            self._greeting += room
        if not room:
            self.crowded()
        return room

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands and start the association."""
        try:
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        finally:
            with self._count:
                self._greeting -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count it; the library would print a traceback with the peer's address."""
        self.turned_away("tls" if isinstance(sys.exc_info()[1], OSError) else "failed")


def guard(association: Any, silence_s: float, max_message: int) -> Callable[[], None]:
    """Bound what an association can make us wait for and keep in memory; beyond it the connection closes.

    A peer that doesn't wait for answers isn't read before the last message has been taken up: else its messages would
    queue up in memory.

    Args:
        association: pynetdicom's, when its connection has just opened.
        silence_s: Longest time for one PDU, once it has begun.
        max_message: Most bytes of one DIMSE message.

    Returns:
        To be called whenever a message is complete.
    """
    connection = association.dul.socket
    received, began = 0, time.monotonic()

    def receive(size: int) -> bytearray:
        nonlocal received, began
        data, deadline = bytearray(), time.monotonic() + silence_s
        while association.dimse.msg_queue.qsize() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if not received:
            began = time.monotonic()
        received += size
        if size > _MAX_RECEIVED_PDU or received > max_message:
            raise OSError("the peer sends more than is allowed")
        if time.monotonic() - began > silence_s + received / _SLOWEST:
            raise OSError("the peer is too slow")
        deadline = time.monotonic() + silence_s
        while len(data) < size:
            connection.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.socket.recv(min(size - len(data), _CHUNK))
            if not part:
                break
            data += part
        connection.socket.settimeout(silence_s)  # for what is sent
        return data

    def complete() -> None:
        nonlocal received
        received = 0

    connection.recv = receive
    connection.socket.settimeout(silence_s)
    return complete


def server_context(tls: Tls | None) -> ssl.SSLContext | None:
    """TLS of a listener: peers must show a certificate.

    Raises:
        AnomapError: E200 when a file of it can't be used.
    """
    return None if tls is None else _context(tls, ssl.PROTOCOL_TLS_SERVER)


def client_context(tls: Tls | None) -> ssl.SSLContext | None:
    """TLS towards an archive, whose certificate must name its host.

    Raises:
        AnomapError: E200 when a file of it can't be used.
    """
    return None if tls is None else _context(tls, ssl.PROTOCOL_TLS_CLIENT)


def _context(tls: Tls, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # BCP 195, PS3.15 B.9
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        raise AnomapError("E200", f"tls: certificate, key or authority can't be used ({_reason(error)})") from error
    return context


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def secret(path: Path) -> str:
    """The content of a file that holds a password or a token, without its line end.

    Raises:
        AnomapError: E200 when it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise AnomapError("E200", f"the file {path.name} can't be read") from error
