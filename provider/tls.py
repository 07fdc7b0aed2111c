"""A self-signed certificate; peers trust it by the hash that its provider registered."""

import datetime
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.keystore import write_secret
from protocol.stage_rpc import TLS_NAME


def ensure_certificate(folder: Path) -> tuple[Path, Path, bytes]:
    """(key file, certificate file, SHA-256 of the DER certificate); made on first use, the key with mode 0600."""
    key_file, cert_file = folder / "tls.key", folder / "tls.crt"
    if not cert_file.is_file():
        key_file.unlink(missing_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, TLS_NAME)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(TLS_NAME)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_secret(key_file, private.decode())
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    der = x509.load_pem_x509_certificate(cert_file.read_bytes()).public_bytes(serialization.Encoding.DER)
    return key_file, cert_file, hashlib.sha256(der).digest()
