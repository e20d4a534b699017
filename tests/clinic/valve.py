"""A wire between two programs that can be closed after so many bytes: the middle of a transfer, every time."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

from tests.service.clinic import free_port


class Valve:
    """Passes on everything to a port of this machine, until it is told to hold back.

    Args:
        target: The port.
        hold_after: What comes after so many bytes is held back; None: nothing is.

    Attributes:
        port: Where it listens.
        held: Set once something is held back.
    """

    def __init__(self, target: int, hold_after: int | None = None) -> None:
        self.port, self.held = free_port(), threading.Event()
        self._target, self._left = target, hold_after
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []

    def __enter__(self) -> Valve:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections, and hold nothing back from now on."""
        self._left = None
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads; closing alone doesn't
            end.close()
        self._open = []

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # closed, or nobody is there
                if self._listener.fileno() == -1:
                    return
                near.close()
                continue
            self._open += [near, far]
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(4096):
                if counted and self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data[: self._left])
                    if not self._left:
                        sink.sendall(data)
                        self.held.set()
                        return  # open, and silent
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
