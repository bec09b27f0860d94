"""A certificate authority for one test cluster, in memory but for the files that its programs read."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates and writes them, with their keys, into its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = new_key()
        self._name = _subject("test-cluster-ca")
        self.certificate = folder / "ca.crt"
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        authority = (
            _lasting_a_day(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(authority.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str, *hosts: str) -> KeyPair:
        """Issue a serving certificate for names and addresses of 127.0.0.1's other forms."""
        alternatives = x509.SubjectAlternativeName(
            [*map(_alternative, ("127.0.0.1", "localhost", *hosts))],
        )
        return self._issue(name, _subject(name), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, name: str, *groups: str) -> KeyPair:
        """Issue a client certificate for a user of the API in some groups."""
        return self._issue(name.replace(":", "-"), _subject(name, *groups), ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self,
        file_name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> KeyPair:
        key = new_key()
        builder = (
            _lasting_a_day(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(alternatives, critical=False)
        pair = KeyPair(self.folder / f"{file_name}.crt", self.folder / f"{file_name}.key")
        certificate = builder.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_key(key, pair.key)
        return pair


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key; elliptic curves make one in no time."""
    return ec.generate_private_key(ec.SECP256R1())


def write_key(key: ec.EllipticCurvePrivateKey, file: Path) -> None:
    """Write a private key for its owner's eyes only."""
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def write_public_key(key: ec.EllipticCurvePrivateKey, file: Path) -> None:
    """Write a key's public half."""
    file.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _subject(name: str, *groups: str) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _lasting_a_day(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Some clocks are a little behind.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )
