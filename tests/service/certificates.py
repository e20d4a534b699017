"""Keys and certificates of a clinic that exists for one test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anomap.service.settings import Tls


def make_tls(folder: Path, *names: str) -> list[Tls]:
    """An authority, and for each name a key with a certificate for loopback that it has signed."""
    authority = Authority(folder)
    return [authority.tls(name) for name in names]


class Authority:
    """Who signs certificates.

    Args:
        folder: For its files and those of its clients.

    Attributes:
        path: Its own certificate.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / "authority.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"authority {folder.name}")
        self.path.write_bytes(_pem(self._sign(self._name, self._key, "127.0.0.1", 1, ca=True)))

    def tls(self, name: str, host: str = "127.0.0.1", days: int = 1) -> Tls:
        """Keys of a client, who trusts this authority.

        Args:
            name: Of the client and its files.
            host: Address that its certificate names.
            days: Until it expires; negative: it has.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        made = Tls(certificate=self.folder / f"{name}.pem", key=self.folder / f"{name}.key", authority=self.path)
        made.certificate.write_bytes(_pem(self._sign(_name(name), key, host, days, ca=False)))
        form = serialization.PrivateFormat.PKCS8
        made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return made

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, host: str, days: int, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        places: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(host))]
        if host == "127.0.0.1":
            places.append(x509.DNSName("localhost"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(places), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
