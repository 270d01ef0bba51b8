"""TLS for those who call us: our certificate, and whose certificates we demand (PS3.15 Annex B)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from core.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How connections that others open are secured.

    Attributes
    ----------
    certificate, key : Path
        PEM files; without `key`, the key is in `certificate`.
    caller_ca_file : Path | None
        PEM file with the authorities that must have signed a caller's certificate; None where none is needed.
    """

    certificate: Path
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    caller_ca_file: Path | None = None


def server_context(settings: ServerTls) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer.

    Raises
    ------
    ConfigurationError
        A file is missing, isn't what it should be, or its password is wrong.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    key = settings.key or settings.certificate
    if b"-----BEGIN CERTIFICATE-----" not in _read(settings.certificate, "this computer's certificate"):
        raise ConfigurationError(
            f"There is no certificate in PEM form in {settings.certificate}.",
            "Export it as PEM; the file then begins with -----BEGIN CERTIFICATE-----.",
        )
    secret = _read(key, "the key of this computer's certificate")
    if b"PRIVATE KEY-----" not in secret:
        raise ConfigurationError(
            f"There is no private key in PEM form in {key}.",
            "Choose the file of the key that belongs to this computer's certificate.",
        )
    try:
        # Always with a password: without one, OpenSSL would ask for it on the terminal.
        made.load_cert_chain(settings.certificate, key, password=settings.key_password or "")
    except (ssl.SSLError, OSError, ValueError) as error:
        mismatch = getattr(error, "reason", "") in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
        locked = b"ENCRYPTED" in secret
        raise ConfigurationError(
            f"The private key {key} does not belong to the certificate {settings.certificate}."
            if mismatch
            else f"The private key {key} can't be opened with this password."
            if locked
            else f"The certificate {settings.certificate} or its key {key} is damaged.",
            "Choose the key that the certificate was made with."
            if mismatch
            else "Enter the password of the key again."
            if locked
            else "Export both again in PEM form.",
            detail=str(error),
        ) from error
    if settings.caller_ca_file is not None:
        content = _read(settings.caller_ca_file, "the callers' authorities")
        try:
            made.load_verify_locations(cadata=content.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise _no_authority(settings.caller_ca_file, str(error)) from error
        if not made.cert_store_stats()["x509"]:
            raise _no_authority(settings.caller_ca_file, "")
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else "can't be read"
        raise ConfigurationError(
            f"The file of {what} {reason}: {path}", "Check the path and its permissions.", detail=str(error)
        ) from error


def _no_authority(path: Path, detail: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no certificate of an authority in {path}.",
        "Choose a file in PEM form (it begins with -----BEGIN CERTIFICATE-----).",
        detail=detail,
    )
