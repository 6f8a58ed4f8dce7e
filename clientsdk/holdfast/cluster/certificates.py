"""An authority for development, and certificates by it for the servers of one cluster and for clients.

For real use any authority will do that puts the names of ``holdfast.wire.tls`` into the certificates of servers.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.wire.tls import node_name, router_name

AUTHORITY: Final = "authority"
AUTHORITY_DAYS: Final = 3650
CLOCKS_DIFFER: Final = datetime.timedelta(minutes=5)
"""A certificate made here and now is good on a machine whose clock is behind."""


class AuthorityUnusable(Exception):
    """The directory holds files that are no authority and its key."""


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    directory: Path, cluster: str, nodes: Sequence[int], *, hosts: Sequence[str] = (), days: int = 365
) -> list[Path]:
    """Write ``authority.pem``, and certificate and key of each node, of ``router`` and of ``client``; keys are readable
    by their owner only. An authority that is there already is used again, everything else is replaced.

    ``hosts``: names and addresses under which clients reach routers, besides this machine's own. ``days``: how long
    certificates are valid. Raises ``OSError``, :class:`AuthorityUnusable`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = _authority(directory, cluster)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    local = ["localhost", "127.0.0.1", "::1"]
    made = [directory / f"{AUTHORITY}.pem"]
    for node in nodes:
        made += _issue(directory, f"node-{node}", signer, [node_name(node, cluster)], both, days)
    made += _issue(directory, "router", signer, [router_name(cluster), *local, *hosts], both, days)
    client = [ExtendedKeyUsageOID.CLIENT_AUTH]
    made += _issue(directory, "client", signer, [f"client.{cluster}.holdfast"], client, days)
    return made


def _authority(directory: Path, cluster: str) -> _Signer:
    certificate, key = directory / f"{AUTHORITY}.pem", directory / f"{AUTHORITY}-key.pem"
    if certificate.exists() or key.exists():
        return _read_authority(certificate, key)
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Holdfast development authority {cluster}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    signed = (
        _dated(x509.CertificateBuilder(), AUTHORITY_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(made.public_key()), critical=False)
        .sign(made, hashes.SHA256())
    )
    _write(key, _pem(made), 0o600)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)
    return _Signer(signed, made)


def _read_authority(certificate: Path, key: Path) -> _Signer:
    try:
        signed = x509.load_pem_x509_certificate(certificate.read_bytes())
        secret = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise AuthorityUnusable(
            f"{certificate} and {key} are no authority and its key: {error}; choose another directory"
        ) from None
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.public_key() != signed.public_key():
        raise AuthorityUnusable(f"{key} is not the key of {certificate}: choose another directory")
    return _Signer(signed, secret)


def _issue(
    directory: Path, name: str, signer: _Signer, hosts: Sequence[str], usage: list[x509.ObjectIdentifier], days: int
) -> list[Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    signed = (
        _dated(x509.CertificateBuilder(), days)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    certificate, secret = directory / f"{name}.pem", directory / f"{name}-key.pem"
    _write(secret, _pem(key), 0o600)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)
    return [certificate, secret]


def _dated(builder: x509.CertificateBuilder, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    ends = now + datetime.timedelta(days=days)
    return (
        builder.serial_number(x509.random_serial_number()).not_valid_before(now - CLOCKS_DIFFER).not_valid_after(ends)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all: a server may read it at any moment."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(data)
    part.replace(path)
