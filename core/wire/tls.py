"""TLS: whom we trust, who we say we are, and what a failed handshake means in plain words."""

from __future__ import annotations

import hmac
import re
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.model.errors import ConfigurationError, TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.certificate import CertificateFacts, certificate_facts, fingerprint
from core.wire.dial import dial
from core.wire.failures import TIMED_OUT, cut, place

__all__ = ["CertificateFacts", "TlsSettings", "context", "fetch_certificate", "handshake", "tls_failure"]

_LOOK = 0.5  # seconds for which a handshake waits before the abort switch is looked at
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How a node's TLS connections are secured. The server is always verified.

    Attributes
    ----------
    ca_file : Path | None
        Certificates of the authorities that may have signed the server's, PEM or DER; they replace this
        computer's own list. A server's own certificate can stand here too.
    client_cert, client_key : Path | None
        PEM files with which we prove who we are; without `client_key`, the key is in `client_cert`.
    pinned_sha256 : str
        Fingerprint (64 hexadecimal digits, colons allowed) of the one certificate that the server must show.
        Names, dates and authorities don't matter then.
    """

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    client_key_password: str | None = field(default=None, repr=False)
    pinned_sha256: str = ""


class _PinnedMismatch(ssl.SSLCertVerificationError):
    """The server shows another certificate than the one trusted."""


class _PinnedSocket(ssl.SSLSocket):
    """Compares the server's certificate before a byte of the application can travel."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        shown = fingerprint(self.getpeercert(binary_form=True) or b"")
        if not hmac.compare_digest(shown, getattr(self.context, "pinned_sha256", "")):
            raise _PinnedMismatch("the certificate is not the pinned one")


class _PinnedContext(ssl.SSLContext):
    pinned_sha256: str
    sslsocket_class = _PinnedSocket

    def wrap_bio(self, *_: Any, **__: Any) -> ssl.SSLObject:
        raise ValueError("a pinned certificate can be checked on sockets only")


def context(settings: TlsSettings | None = None) -> ssl.SSLContext:
    """A client's context: TLS 1.2 or newer, server verified by this computer's list, a CA file, or a pin.

    Raises
    ------
    ConfigurationError
        A file is missing, isn't what it should be, or its password is wrong.
    """
    settings = settings or TlsSettings()
    pinned = settings.pinned_sha256.replace(":", "").strip().lower()
    made: ssl.SSLContext
    if pinned:
        if _FINGERPRINT.fullmatch(pinned) is None:
            raise ConfigurationError(
                "The fingerprint of the trusted certificate is not a SHA-256 fingerprint.",
                "It has 64 hexadecimal digits; fetch the server's certificate again.",
            )
        made = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
        made.pinned_sha256 = pinned
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE  # the pinned socket verifies, and more strictly
    else:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
        if settings.ca_file is not None:
            _load_authorities(made, settings.ca_file)
        else:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_cert is not None:
        _load_identity(made, settings.client_cert, settings.client_key, settings.client_key_password)
    elif settings.client_key is not None:
        raise ConfigurationError(
            "A private key is given, but not the certificate that belongs to it.", "Choose the certificate's file too."
        )
    return made


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else "can't be read"
        raise ConfigurationError(
            f"The file of {what} {reason}: {path}", "Check the path and its permissions.", detail=str(error)
        ) from error


def _load_authorities(made: ssl.SSLContext, path: Path) -> None:
    content = _read(path, "trusted certificates")
    try:
        if b"-----BEGIN" in content:
            made.load_verify_locations(cadata=content.decode("ascii", "ignore"))
        else:
            made.load_verify_locations(cadata=content)
    except (ssl.SSLError, ValueError) as error:
        raise _no_certificates(path, error) from error
    if not made.cert_store_stats()["x509"]:
        raise _no_certificates(path, None)


def _no_certificates(path: Path, error: Exception | None) -> ConfigurationError:
    return ConfigurationError(
        f"There is no certificate in {path}.",
        "Choose a file in PEM form (it begins with -----BEGIN CERTIFICATE-----) or in DER form.",
        detail=str(error or ""),
    )


def _load_identity(made: ssl.SSLContext, cert: Path, key: Path | None, password: str | None) -> None:
    content = _read(cert, "the client certificate")
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise ConfigurationError(
            f"There is no certificate in PEM form in {cert}.",
            "Export it as PEM; the file then begins with -----BEGIN CERTIFICATE-----.",
        )
    key_path = key or cert
    secret = _read(key_path, "the client's private key")
    if b"PRIVATE KEY-----" not in secret:
        raise ConfigurationError(
            f"There is no private key in PEM form in {key_path}.",
            "Choose the file of the key that belongs to the client certificate.",
        )
    locked = b"ENCRYPTED" in secret
    if locked and not password:
        raise ConfigurationError(
            f"The private key {key_path} is protected by a password.", "Enter the password of the key."
        )
    try:
        # Always with a password: without one, OpenSSL would ask for it on the terminal.
        made.load_cert_chain(cert, key_path, password=password or "")
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            sentence = f"The private key {key_path} does not belong to the certificate {cert}."
            step = "Choose the key that the certificate was made with."
        elif locked:
            sentence = f"The private key {key_path} can't be opened with this password."
            step = "Enter the password again."
        else:
            sentence = f"The client certificate {cert} or its key {key_path} is damaged."
            step = "Export both again in PEM form."
        raise ConfigurationError(sentence, step, detail=str(error)) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The client certificate {cert} or its key {key_path} can't be used.",
            "Export both again in PEM form.",
            detail=str(error),
        ) from error


def handshake(
    sock: Any, host: str, port: int, made: ssl.SSLContext, *, timeout: float, abort: Abort | None = None
) -> ssl.SSLSocket:
    """Speak TLS over a connected socket from here on, which then belongs to the result.

    Parameters
    ----------
    timeout
        Seconds for the whole handshake.

    Raises
    ------
    TransportError
        ``TLS``, ``TIMEOUT``, ``CUT`` or ``ABORTED``; the socket is closed then, and no request was sent.
    """
    where = place(host, port)
    secured: ssl.SSLSocket | None = None
    try:
        sock.settimeout(min(_LOOK, timeout))
        # Ends that TLS did not announce stay errors: somebody may have cut the answer short.
        secured = made.wrap_socket(
            sock, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        if abort is not None:
            abort.register(secured)
        try:
            _shake(secured, time.monotonic() + timeout, abort)
        finally:
            if abort is not None:
                abort.unregister(secured)
    except BaseException as error:
        (secured or sock).close()
        if not isinstance(error, (OSError, ValueError)):
            raise
        if abort is not None:
            abort.check()
        raise _handshake_failure(where, timeout, error) from error
    return secured


def _shake(sock: ssl.SSLSocket, deadline: float, abort: Abort | None) -> None:
    """The handshake in slices: on Windows, a socket that is shut down doesn't wake whoever waits for it."""
    while True:
        try:
            sock.do_handshake()
        except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            if abort is not None:
                abort.check()
            left = deadline - time.monotonic()
            if left <= 0 or (isinstance(error, TimeoutError) and error.errno in TIMED_OUT):
                raise TimeoutError(str(error)) from error
            sock.settimeout(min(_LOOK, left))
        else:
            return


def _handshake_failure(where: str, timeout: float, error: Exception) -> TransportError:
    failure: TransportError
    if isinstance(error, TimeoutError):
        failure = TransportError(
            TransportFault.TIMEOUT,
            f"{where} took the connection but did not answer to TLS within {timeout:g} s.",
            "Check whether the port is the right one for https.",
            detail=str(error),
        )
    elif isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        failure = tls_failure(where, error)
    elif isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
        failure = _failure(where, "has a name that a certificate can't have", "Check the address.", error)
    else:
        failure = cut(where, "during the TLS handshake", error)
    failure.request_sent = False
    return failure


_VERIFY = {  # X509_V_ERR_… of OpenSSL's x509_vfy.h
    9: ("is not yet valid", "Check the clock of this computer and of the server."),
    10: ("has expired", "Ask the server's administrator to renew it, or trust this one certificate for this node."),
    18: ("is self-signed", "Compare its fingerprint with the server's administrator, then trust it for this node."),
    19: (
        "was issued by an authority that is unknown here",
        "Give the authority's certificate (CA file) for this node.",
    ),
    23: ("was revoked", "Tell the server's administrator."),
    62: (
        "is made out to another name",
        "Use the name that is in the certificate, or trust this one certificate for this node.",
    ),
}
_VERIFY |= {2: _VERIFY[19], 20: _VERIFY[19], 21: _VERIFY[19], 27: _VERIFY[19], 64: _VERIFY[62]}
_ALERTS = {
    "CERTIFICATE_REQUIRED": ("demands a client certificate", "Give a client certificate and its key for this node."),
    "UNKNOWN_CA": ("does not know the authority of our client certificate", "Ask its administrator to add it."),
    "CERTIFICATE_EXPIRED": ("says that our client certificate has expired", "Renew the client certificate."),
    "CERTIFICATE_REVOKED": ("says that our client certificate was revoked", "Use another client certificate."),
    "BAD_CERTIFICATE": ("does not accept our client certificate", "Check which certificate it expects."),
    "CERTIFICATE_UNKNOWN": ("does not accept our client certificate", "Check which certificate it expects."),
    "UNSUPPORTED_CERTIFICATE": ("does not accept our client certificate", "Check which certificate it expects."),
    "ACCESS_DENIED": ("does not accept our client certificate", "Check which certificate it expects."),
    "HANDSHAKE_FAILURE": (
        "refused the TLS handshake: it demands a client certificate, or shares no cipher with us",
        "Give a client certificate if the server needs one; ask its administrator.",
    ),
    "UNSUPPORTED_PROTOCOL": ("speaks only outdated TLS", "It must speak TLS 1.2 or newer; ask its administrator."),
    "PROTOCOL_VERSION": ("speaks no TLS version that we do", "It must speak TLS 1.2 or newer."),
    "WRONG_VERSION_NUMBER": ("does not speak TLS at this port", "Try http:// or another port."),
    "HTTP_REQUEST": ("does not speak TLS at this port", "Try http:// or another port."),
    "PACKET_LENGTH_TOO_LONG": ("does not speak TLS at this port", "Try http:// or another port."),
    "RECORD_LAYER_FAILURE": ("does not speak TLS at this port", "Try http:// or another port."),
    "UNRECOGNIZED_NAME": ("does not know the name we called it by", "Use the name that it is set up with."),
}


def tls_failure(where: str, error: ssl.SSLError) -> TransportError:
    """The plain sentence for an error of the TLS library (fault ``TLS``)."""
    if isinstance(error, _PinnedMismatch):
        return _failure(
            where,
            "shows another certificate than the one that was trusted for this node",
            "If the server got a new one, compare the fingerprints with its administrator and trust the new one.",
            error,
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        what, step = _VERIFY.get(error.verify_code, ("can't be verified", "Ask the server's administrator."))
        return _failure(f"The certificate of {where}", what, step, error)
    reason = error.reason or ""
    for ending, (what, step) in _ALERTS.items():
        if reason.endswith(ending):
            return _failure(where, what, step, error)
    return _failure(where, "broke off the TLS connection", "See the details, and ask its administrator.", error)


def _failure(subject: str, what: str, step: str, error: Exception) -> TransportError:
    return TransportError(TransportFault.TLS, f"{subject} {what}.", step, detail=str(error))


def fetch_certificate(
    host: str,
    port: int,
    *,
    settings: TlsSettings | None = None,
    timeout: float = 10.0,
    abort: Abort | None = None,
) -> CertificateFacts:
    """The certificate that a server shows, unverified, for a person to look at before it is trusted.

    Parameters
    ----------
    settings
        Its client certificate is shown to servers that won't go on without.

    Raises
    ------
    TransportError
        No connection, or the other side doesn't speak TLS.
    """
    looking = _unverified_context()
    if settings is not None and settings.client_cert is not None:
        _load_identity(looking, settings.client_cert, settings.client_key, settings.client_key_password)
    sock = dial(host, port, timeout=timeout, abort=abort)
    with handshake(sock, host, port, looking, timeout=timeout, abort=abort) as secured:
        der = secured.getpeercert(binary_form=True) or b""
    try:
        return certificate_facts(der)
    except ValueError as error:
        raise _failure(
            f"The certificate of {place(host, port)}", "is malformed", "Ask the server's administrator.", error
        ) from error


def _unverified_context() -> ssl.SSLContext:
    """Only for looking at a certificate: nothing is ever sent over it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made
