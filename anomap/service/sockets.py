"""What a peer may do to a socket: bounded sizes, bounded silence, TLS.

pynetdicom reads a PDU of any stated length and waits for its rest for ever, so that two half-sent PDUs block every
association slot. `guard` replaces the reading of one association's socket; it reaches into pynetdicom for that, and
``tests/service/test_sockets.py`` holds on to the pinned version.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anomap.errors import AnomapError
from anomap.service.settings import Tls

MAX_PDU = 131072  # what we tell peers
_MAX_RECEIVED_PDU = 2**22  # association requests with every SOP class there is stay far below
_CHUNK = 2**16


def guard(association: Any, silence_s: float, max_message: int) -> Callable[[], None]:
    """Bound what an association can make us wait for and keep in memory; beyond it the connection closes.

    Args:
        association: pynetdicom's, when its connection has just opened.
        silence_s: Longest time for one PDU, once it has begun.
        max_message: Most bytes of one DIMSE message.

    Returns:
        To be called whenever a message is complete.
    """
    connection = association.dul.socket
    received = 0

    def receive(size: int) -> bytearray:
        nonlocal received
        received += size
        if size > _MAX_RECEIVED_PDU or received > max_message:
            raise OSError("the peer sends more than is allowed")
        data, deadline = bytearray(), time.monotonic() + silence_s
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
    return None if tls is None else _context(tls, _PatientContext(ssl.PROTOCOL_TLS_SERVER))


def client_context(tls: Tls | None) -> ssl.SSLContext | None:
    """TLS towards an archive, whose certificate must name its host.

    Raises:
        AnomapError: E200 when a file of it can't be used.
    """
    return None if tls is None else _context(tls, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


class _PatientContext(ssl.SSLContext):
    """Leaves the handshake to the first read, which is the association's own.

    pynetdicom shakes hands where it accepts connections: one peer that says nothing would keep all others out.
    """

    def wrap_socket(self, *words: Any, **named: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*words, **{**named, "do_handshake_on_connect": False})


def _context(tls: Tls, context: ssl.SSLContext) -> ssl.SSLContext:
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
