"""The certificate authority by which a worker ends TLS for the hosts that get secrets."""

import os
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=90)
_RENEWED = timedelta(days=30)
_CLOCKS = timedelta(days=1)
"""How far a sandbox's clock may be behind."""


class Authority:
    """Makes certificates that only this worker's sandboxes trust. Its key is never written anywhere.

    Args:
        folder: Where the file for the sandboxes goes; kept until the folder is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._make_own()
        folder.mkdir(parents=True, exist_ok=True)
        self.bundle = folder / "ca-bundle.pem"
        """The machine's certificates and this authority's: what sandboxes trust."""
        _write(self.bundle, system_bundle() + self._certificate.public_bytes(serialization.Encoding.PEM))
        self._contexts = lru_cache(512)(self._make_context)

    def context(self, host: str) -> ssl.SSLContext:
        """For a server that says it is this host."""
        return self._contexts(host, int(datetime.now(UTC).timestamp() // _RENEWED.total_seconds()))

    def _make_context(self, host: str, period: int) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        chain = self._make_leaf(host).public_bytes(serialization.Encoding.PEM)
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The ssl module reads from files only. This one is ours alone and gone at once.
        with tempfile.NamedTemporaryFile() as file:
            file.write(chain + key)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _make_own(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sojourn worker")])
        public = self._key.public_key()
        return (
            _builder(_LIFE)
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _make_leaf(self, host: str) -> x509.Certificate:
        public = self._leaf_key.public_key()
        return (
            _builder(_LEAF_LIFE)
            # A common name holds 64 characters at most; programs go by the alternative name.
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def system_bundle() -> bytes:
    """The certificates that this machine trusts, as OpenSSL (and ``SSL_CERT_FILE``) says; those of certifi if none."""
    paths = ssl.get_default_verify_paths()
    for found in (paths.cafile, paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if found and Path(found).is_file():
            return Path(found).read_bytes().rstrip() + b"\n"
    try:
        import certifi
    except ImportError:
        return b""
    return Path(certifi.where()).read_bytes().rstrip() + b"\n"


def _builder(life: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + life)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.chmod(0o644)
    fresh.replace(path)
