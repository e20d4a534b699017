"""Sockets: what a peer says is bounded in size and time, and TLS lets nobody in without a certificate.

`guard` reaches into pynetdicom. These tests fail when another version no longer has what it touches.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time

import pynetdicom
import pytest
from pydicom import dcmread

from anomap.dicom.phantom import write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.service.settings import Tls
from anomap.service.sockets import client_context, secret, server_context
from tests.service.certificates import make_tls
from tests.service.clinic import eventually
from tests.service.listening import VERIFICATION, Listener, association, send

PATIENCE_S = 12.0  # far more than the listener's silence_s of 2 s


@pytest.fixture
def listener(state, tmp_path):
    with Listener(state, tmp_path, "max_object_mb = 1\nmax_associations = 2\n").listening() as made:
        yield made


def _open(listener):
    made = socket.create_connection(("127.0.0.1", listener.port))
    made.settimeout(PATIENCE_S)
    return made


def _seconds_until_closed(connection, every_s=None):
    """How long the listener keeps a connection, while a byte is said every so often."""
    start = time.monotonic()
    if every_s is not None:
        connection.settimeout(every_s)
    while time.monotonic() - start < PATIENCE_S:
        try:
            if not connection.recv(4096):
                return time.monotonic() - start
        except TimeoutError:
            try:
                connection.sendall(b"\0")
            except OSError:
                return time.monotonic() - start
        except OSError:
            return time.monotonic() - start
    raise AssertionError("the connection is still open")


def _echo(port, **more):
    with association(port, [(VERIFICATION, ["1.2.840.10008.1.2"])], **more) as made:
        return made.is_established and made.send_c_echo().get("Status") == 0


def test_the_pinned_version_is_the_one_that_was_read():
    assert pynetdicom.__version__ == "3.0.4", "read transport.py and dul.py anew, then change this line"


def test_a_pdu_that_says_it_is_huge_is_not_waited_for(listener):
    with _open(listener) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 2**32 - 1))
        assert _seconds_until_closed(connection) < 1.9, "only silence has ended it"


def test_a_peer_that_says_nothing_is_let_go(listener):
    with _open(listener) as connection:
        assert _seconds_until_closed(connection) < 6


def test_a_peer_that_trickles_is_let_go(listener):
    """Each byte comes in time; the PDU as a whole doesn't."""
    with _open(listener) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 1000))
        assert _seconds_until_closed(connection, every_s=0.3) < 6


def test_half_sent_pdus_do_not_keep_others_out_for_long(listener):
    """Two of them fill the two slots for associations."""
    with _open(listener) as one, _open(listener) as two:
        for connection in (one, two):
            connection.sendall(struct.pack(">BBL", 1, 0, 1000) + b"\0" * 10)
        eventually(lambda: _echo(listener.port), "an echo", 15)


def test_a_message_above_the_limit_is_cut_off_and_kept_nowhere(listener, tmp_path):
    (path,) = write_radiograph_phantom(tmp_path / "large", rows=900, columns=900)
    assert path.stat().st_size > 2**20
    assert send(listener.port, path) == [None]
    assert listener.files() == []
    (path,) = write_radiograph_phantom(tmp_path / "small", rows=96, columns=80)
    assert send(listener.port, path) == [0]


def test_many_small_messages_may_be_more_together(listener, tmp_path):
    """The limit is of one message: counting starts anew with each."""
    (path,) = write_radiograph_phantom(tmp_path / "x", rows=500, columns=500)
    images = [dcmread(path) for _ in range(4)]
    for k, item in enumerate(images):
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
    assert send(listener.port, *images) == [0] * 4
    assert len(listener.files()) == 4


@pytest.fixture
def keys(tmp_path):
    return make_tls(tmp_path / "keys", "node", "peer")


@pytest.fixture
def secured(state, tmp_path, keys):
    node = keys[0]
    words = f'tls = {{ certificate = "{node.certificate}", key = "{node.key}", authority = "{node.authority}" }}\n'
    with Listener(state, tmp_path, words).listening() as made:
        yield made


def test_over_tls_both_sides_know_each_other(secured, keys):
    context = client_context(keys[1])
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert _echo(secured.port, tls_args=(context, "localhost"))


def test_nobody_gets_in_without_a_certificate_of_ours(secured, keys, tmp_path):
    (stranger,) = make_tls(tmp_path / "elsewhere", "stranger")
    foreign = Tls(certificate=stranger.certificate, key=stranger.key, authority=keys[0].authority)
    bare = ssl.create_default_context(cafile=str(keys[0].authority))
    assert not _echo(secured.port)
    assert not _echo(secured.port, tls_args=(bare, "localhost"))
    assert not _echo(secured.port, tls_args=(client_context(foreign), "localhost"))
    assert not _echo(secured.port, tls_args=(client_context(stranger), "localhost")), "we must not trust it either"


def test_a_peer_that_begins_no_handshake_keeps_no_other_out(secured, keys):
    with _open(secured), _open(secured) as other:
        other.sendall(b"\x16\x03\x01")  # the beginning of one
        assert _echo(secured.port, tls_args=(client_context(keys[1]), "localhost"))


def test_keys_that_cannot_be_used_are_named_before_anything_starts(keys, tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    missing = Tls(certificate=tmp_path / "nowhere.pem", key=keys[0].key, authority=keys[0].authority)
    wrong = Tls(certificate=tmp_path / "no.pem", key=keys[0].key, authority=keys[0].authority)
    mixed = Tls(certificate=keys[0].certificate, key=keys[1].key, authority=keys[0].authority)
    for tls in (missing, wrong, mixed):
        for make in (server_context, client_context):
            with pytest.raises(AnomapError, match="E200 tls: certificate, key or authority"):
                make(tls)
    assert server_context(None) is client_context(None) is None


def test_a_secret_is_read_without_its_line_end_and_never_repeated(tmp_path):
    path = tmp_path / "token"
    path.write_text(" hunter 2 \r\n")
    assert secret(path) == " hunter 2 "
    path.write_bytes(b"hunter2\xff")
    for wrong in (path, tmp_path / "nowhere"):
        with pytest.raises(AnomapError, match="E200") as caught:
            secret(wrong)
        assert "hunter2" not in str(caught.value)
