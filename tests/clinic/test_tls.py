"""Row 32: TLS with certificates of both sides, and what others show instead. The silent ones keep nobody waiting."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anomap.dicom.phantom import write_ct_phantom
from anomap.errors import AnomapError
from anomap.service.archive import DicomArchive
from anomap.service.settings import Destination, Tls
from tests.clinic.moody import Moody
from tests.clinic.watch import counter
from tests.clinic.wire import Peer, echo
from tests.service.clinic import Node, eventually, running

SILENCE_S = 3.0


class Authority:
    """A certificate authority for an afternoon."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        ca = self._builder(self.name, self._key, -1, 1).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(ca.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, first_day: int = -1, last_day: int = 1) -> tuple[Path, Path]:
        """Certificate and key for this machine, valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
        built = self._builder(subject, key, first_day, last_day).add_extension(here, critical=False)
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        paths[0].write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, first: int, last: int):
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=first)).not_valid_after(now + timedelta(days=last))
        )  # fmt: skip


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "hospital")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "stranger")


@pytest.fixture(scope="module")
def node(toy_models, ours, tmp_path_factory) -> Iterator[Node]:
    certificate, key = ours.issue("node")
    tls = {"certificate": str(certificate), "key": str(key), "authority": str(ours.path)}
    lines = {"silence_s": SILENCE_S, "max_associations": 4}
    one = Node(tmp_path_factory.mktemp("node"), toy_models, listen=lines, work={"quiet_s": 600.0})
    table = "\n".join(f'{name} = "{value}"' for name, value in tls.items())
    one.settings.write_text(one.settings.read_text() + f"\n[listen.tls]\n{table}\n")
    with running(one):
        eventually(lambda: echo(one.port, context=client(ours, ours.issue("first"))), "the first C-ECHO")
        yield one


def client(authority: Authority, pair: tuple[Path, Path] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def dcmtk(node: Node, authority: Authority, pair: tuple[Path, Path] | None, path: Path) -> int:
    """storescu with TLS; its exit status."""
    words = ["+tla"] if pair is None else ["+tls", str(pair[1]), str(pair[0])]
    command = ["storescu", *words, "+cf", str(authority.path), "-aec", "ANOMAP", "-aet", "MODALITY", "-to", "5"]
    return subprocess.run(
        [*command, "127.0.0.1", str(node.port), str(path)], capture_output=True, check=False, timeout=60
    ).returncode


@pytest.mark.fault(32, "a certificate of our authority", "works")
def test_a_peer_with_a_certificate_gets_in(node, ours, tmp_path, seen):
    (path,) = write_ct_phantom(tmp_path, slices=1, rows=64, columns=64)
    pair = ours.issue("modality")
    assert dcmtk(node, ours, pair, path) == 0
    assert len(list((node.state / "images").glob("*/*.dcm"))) == 1
    with Peer(node.port, context=client(ours, pair)) as peer:
        version = peer.socket.version()
    old = client(ours, pair)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        Peer(node.port, context=old)
    seen(f"dcmtk stores, {version}; TLS 1.1 is refused")


STRANGERS = ("no certificate", "expired", "not yet valid", "wrong authority")


@pytest.mark.parametrize(
    "who", [pytest.param(w, marks=pytest.mark.fault(32, f"peer: {w}", "rejected in the handshake")) for w in STRANGERS]
)
def test_a_peer_without_a_right_certificate_does_not(who, node, ours, theirs, tmp_path, seen):
    (path,) = write_ct_phantom(tmp_path, slices=1, rows=64, columns=64, seed=9)
    pair = {
        "no certificate": lambda: None,
        "expired": lambda: ours.issue("old", -9, -2),
        "not yet valid": lambda: ours.issue("young", 2, 9),
        "wrong authority": lambda: theirs.issue("modality"),
    }[who]()
    before = counter(node, "anomap_associations_lost").get("tls", 0)
    assert not echo(node.port, context=client(ours, pair))
    assert dcmtk(node, ours, pair, path) != 0
    assert len(list((node.state / "images").glob("*/*.dcm"))) <= 1
    eventually(lambda: counter(node, "anomap_associations_lost").get("tls", 0) >= before + 2, "both counted")
    assert echo(node.port, context=client(ours, ours.issue("good")))
    assert "Traceback" not in node.log()
    seen("no association for dcmtk and for ours, counted; a good peer works right afterwards")


@pytest.mark.fault(32, "peers that connect and say nothing, half a hello, or no TLS", "others get in at once")
def test_a_silent_peer_holds_up_nobody(node, ours, seen):
    good = client(ours, ours.issue("patient"))
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.port)) for _ in range(6)]
        peers[0].send(b"\x16\x03\x01\x02\x00\x01")
        peers[1].send(b"\x01\x00\x00\x00\x00\xff not TLS at all")
        began = time.monotonic()
        assert echo(node.port, 2.0, good)
        waited = time.monotonic() - began
        for peer in peers:
            assert peer.closed_within(SILENCE_S + 2.0)
    assert echo(node.port, context=good)
    seen(f"6 such peers; a good one was served after {waited:.2f} s")


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(w, marks=pytest.mark.fault(32, f"archive: {w}", "nothing is sent to it"))
        for w in ("a good one", "expired", "wrong authority", "no TLS")
    ],
)
def test_an_archive_must_show_a_right_certificate(who, ours, theirs, seen):
    pair = {"expired": lambda: ours.issue("old-archive", -9, -2), "wrong authority": lambda: theirs.issue("archive")}
    context = None
    if who != "no TLS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair.get(who, lambda: ours.issue("archive"))())
    archive = Moody().start(tls=context)
    certificate, key = ours.issue("node-as-client")
    place = Destination(
        name="archive", host="127.0.0.1", port=archive.port, ae_title=archive.title, confirm="none", timeout_s=3.0,
        tls=Tls(certificate=certificate, key=key, authority=ours.path),
    )  # fmt: skip
    try:
        DicomArchive(place, "ANOMAP").echo()
        outcome = "answers"
    except AnomapError as error:
        outcome = error.code
    finally:
        archive.stop()
    seen(outcome)
    assert outcome == ("answers" if who == "a good one" else "E600")
