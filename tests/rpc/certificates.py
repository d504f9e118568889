"""Certificates for tests: an authority, and what it signs, as contexts for both ends.

The idea: each test of TLS has an authority of its own in a folder of its own; nothing is installed or trusted outside.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs; `directory` gets the files."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(self._name, self._key, [], is_authority=True, days=10)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        uris: Sequence[str] = (),
        hosts: Sequence[str] = (),
        addresses: Sequence[str] = (),
        days: int = 10,
    ) -> Path:
        """A file with a certificate and its key. `days` < 0: it has expired."""
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        alternatives += [x509.DNSName(host) for host in hosts]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, alternatives, is_authority=False, days=days)
        path = self._directory / f"{name}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def server(self, certificate: Path) -> ssl.SSLContext:
        """What a server listens with: TLS 1.3, and clients must show a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._completed(context, certificate)

    def client(self, certificate: Path | None) -> ssl.SSLContext:
        """What a client dials with; None: it has nothing to show."""
        return self._completed(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)

    def _completed(self, context: ssl.SSLContext, certificate: Path | None) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.path)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        alternatives: Sequence[x509.GeneralName],
        *,
        is_authority: bool,
        days: int,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 20 * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())
