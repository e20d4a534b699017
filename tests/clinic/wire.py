"""A DICOM peer that writes its own bytes: it can be as rude as the wire allows, and sends data sets unchanged.

PS3.8 9.3 (PDUs) and PS3.7 9.3.1 (C-STORE), little of each.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

VERIFICATION = "1.2.840.10008.1.1"
ACCEPT, REJECT, RELEASED, ABORT, DATA = 0x02, 0x03, 0x06, 0x07, 0x04
CALLED, CALLING = "ANOMAP", "MODALITY"
Context = tuple[str, str]  # SOP class, transfer syntax
CT = (str(CTImageStorage), str(ExplicitVRLittleEndian))
ECHO = (VERIFICATION, str(ImplicitVRLittleEndian))


class Gone(Exception):  # noqa: N818 (what peers do, no error of ours)
    """The node has closed or aborted the association, or gave none."""


@dataclass(frozen=True)
class Part10:
    """A DICOM file taken apart: what of it goes over the wire."""

    sop_class: str
    uid: str
    syntax: str
    data: bytes

    @property
    def context(self) -> Context:
        return self.sop_class, self.syntax


def part10(path: Path) -> Part10:
    """The data set of a file byte by byte, however damaged it is."""
    meta = read_file_meta_info(path)
    content = path.read_bytes()
    start = 128 + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    syntax = str(meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))
    uid = str(meta.MediaStorageSOPInstanceUID)
    with suppress(Exception):  # senders name what the data set says, where it can be read
        uid = str(dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
    return Part10(str(meta.MediaStorageSOPClassUID), uid, syntax, content[start:])


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU of some kind."""
    return struct.pack(">BBL", kind, 0, len(body)) + body


def associate_request(contexts: Sequence[Context], calling: str = CALLING, called: str = CALLED) -> bytes:
    """An A-ASSOCIATE-RQ; context IDs are 1, 3, 5, ..."""

    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(body)) + body

    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (sop_class, syntax) in enumerate(contexts):
        inside = item(0x30, sop_class.encode()) + item(0x40, syntax.encode())
        items += item(0x20, bytes((2 * number + 1, 0, 0, 0)) + inside)
    items += item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4"))
    return pdu(0x01, struct.pack(">HH", 1, 0) + titles + bytes(32) + items)


def store_command(sop_class: str, uid: str, message: int = 1) -> bytes:
    """The command set of a C-STORE-RQ, with any text as UIDs."""
    return _command({0x0002: sop_class, 0x0100: 1, 0x0110: message, 0x0700: 0, 0x0800: 1, 0x1000: uid})


def _command(elements: dict[int, str | int]) -> bytes:
    """Elements of group 0000, with the group's length."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = b"".join(
        element(number, value.encode() if isinstance(value, str) else struct.pack("<H", value))
        for number, value in elements.items()
    )
    return element(0x0000, struct.pack("<L", len(body))) + body


def data_pdus(context: int, command: bytes, data: bytes, size: int = 16000) -> bytes:
    """P-DATA-TF PDUs of a message."""

    def fragment(control: int, part: bytes) -> bytes:
        return pdu(DATA, struct.pack(">LBB", len(part) + 2, context, control) + part)

    parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    last = len(parts) - 1
    return fragment(3, command) + b"".join(fragment(2 if i == last else 0, part) for i, part in enumerate(parts))


class Peer:
    """One connection to the node.

    Args:
        port: Of the node.
        patience: Seconds to wait for an answer.
        context: TLS, if any.
    """

    def __init__(self, port: int, patience: float = 30.0, context: ssl.SSLContext | None = None) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.accepted: dict[Context, int] = {}

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def associate(self, contexts: Sequence[Context], calling: str = CALLING, called: str = CALLED) -> Peer:
        """Ask for an association.

        Raises:
            Gone: With result, source and reason when it is rejected; empty when the connection closes.
        """
        self.send(associate_request(contexts, calling, called))
        kind, body = self.read()
        if kind == REJECT:
            raise Gone(tuple(body[1:4]))
        if kind != ACCEPT:
            raise Gone(f"answered with PDU {kind}")
        at, found = 68, {}
        while at + 4 <= len(body):
            item, length = struct.unpack(">BxH", body[at : at + 4])
            if item == 0x21 and body[at + 6] == 0:
                found[body[at + 4]] = True
            at += 4 + length
        self.accepted = {c: 2 * i + 1 for i, c in enumerate(contexts) if 2 * i + 1 in found}
        return self

    def send(self, data: bytes) -> None:
        """Put bytes on the wire.

        Raises:
            Gone: When nobody takes them.
        """
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(type(error).__name__) from None

    def read(self) -> tuple[int, bytes]:
        """The next PDU.

        Raises:
            Gone: When the connection ends.
        """
        kind, length = struct.unpack(">BxL", self._read(6))
        return kind, self._read(length)

    def store(self, sop_class: str, uid: str, data: bytes, context: Context | None = None) -> int:
        """Send an object with C-STORE; the DIMSE status.

        Raises:
            Gone: When the context isn't accepted or the association ends.
        """
        number = self.accepted.get(context or (sop_class, str(ExplicitVRLittleEndian)))
        if number is None:
            raise Gone("the presentation context is not accepted")
        self.send(data_pdus(number, store_command(sop_class, uid), data))
        return self.status()

    def status(self) -> int:
        """The status of the next response.

        Raises:
            Gone: When there is none.
        """
        while True:
            kind, body = self.read()
            if kind != DATA:
                raise Gone(f"answered with PDU {kind}")
            where = body.find(struct.pack("<HHL", 0, 0x0900, 2))
            if where >= 0:
                return int(struct.unpack("<H", body[where + 8 : where + 10])[0])

    def release(self) -> None:
        """End in order."""
        self.send(pdu(0x05, bytes(4)))
        kind, _ = self.read()
        if kind != RELEASED:
            raise Gone(f"answered with PDU {kind}")
        self.close()

    def abort(self) -> None:
        """End with an A-ABORT."""
        self.send(pdu(ABORT, bytes(4)))
        self.close()

    def closed_within(self, seconds: float) -> bool:
        """Whether the node ends the connection in so many seconds; what it says until then is thrown away."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End without a word."""
        self.socket.close()

    def _read(self, size: int) -> bytes:
        into = BytesIO()
        while into.tell() < size:
            try:
                part = self.socket.recv(size - into.tell())
            except OSError as error:
                raise Gone(type(error).__name__) from None
            if not part:
                raise Gone("closed")
            into.write(part)
        return into.getvalue()


def echo(port: int, patience: float = 10.0, context: ssl.SSLContext | None = None) -> bool:
    """Whether the node answers a C-ECHO."""
    whole = _command({0x0002: VERIFICATION, 0x0100: 0x30, 0x0110: 1, 0x0800: 0x0101})
    try:
        with Peer(port, patience, context) as peer:
            peer.associate([ECHO])
            peer.send(pdu(DATA, struct.pack(">LBB", len(whole) + 2, 1, 3) + whole))
            answer = peer.status()
            peer.release()
            return answer == 0
    except (Gone, OSError):
        return False


def store_files(port: int, paths: Sequence[Path], **titles: str) -> list[int | str]:
    """Send files on one association, byte by byte; a status each, or why there is none."""
    files = [part10(path) for path in paths]
    answers: list[int | str] = []
    try:
        with Peer(port) as peer:
            peer.associate(list(dict.fromkeys(file.context for file in files)), **titles)
            for file in files:
                if file.context not in peer.accepted:
                    answers.append("context refused")
                else:
                    answers.append(peer.store(file.sop_class, file.uid, file.data, file.context))
            peer.release()
    except Gone as error:
        answers.append(str(error))
    return answers
