"""The step of a diagnosis that looks at a server's certificate, and offers to trust exactly that one."""

from __future__ import annotations

from collections.abc import Callable

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import FerryError, TransportError, TransportFault
from core.wire.certificate import CertificateFacts
from core.wire.tls import TlsSettings, fetch_certificate

NAME = "Certificate trusted"


def certificate_step(
    ask: Callable[[], object],
    *,
    host: str,
    port: int,
    tls: TlsSettings,
    timeout: float,
    proxied: bool = False,
    name: str = NAME,
    field: str = "pinned_certificate",
    title: str = "Trusted certificate",
) -> DiagnosisStep:
    """Whether the server's certificate is trusted, and by whom; what it shows where it isn't.

    Parameters
    ----------
    ask : Callable[[], object]
        Any request to the server; its answer doesn't matter.
    host, port
        Of the server, for looking at its certificate.
    timeout
        Seconds for that look.
    proxied
        The way goes through a proxy: the certificate can't be looked at.
    field, title
        Of the node's field that names the one certificate to trust.

    Raises
    ------
    FerryError
        What `ask` raises for other reasons than the certificate.
    """
    try:
        ask()
    except TransportError as error:
        if error.fault is not TransportFault.TLS:
            raise
        shown = None if proxied else _shown(host, port, tls, timeout)
        return distrusted(name, error, shown, field=field, title=title)
    if tls.pinned_sha256:
        how = "it is exactly the certificate that was trusted for this node"
    elif tls.ca_file:
        how = f"signed by an authority in {tls.ca_file}"
    else:
        how = "signed by an authority that this computer knows"
    return DiagnosisStep(name, StepResult.OK, how)


def distrusted(
    name: str, error: TransportError, shown: CertificateFacts | None, *, field: str, title: str
) -> DiagnosisStep:
    """A failed step for a certificate that is not trusted; `shown` is what the server shows, where that can be had."""
    if shown is None:
        return DiagnosisStep(name, StepResult.FAILED, error.sentence, error.next_step, error.detail)
    return DiagnosisStep(
        name,
        StepResult.FAILED,
        f"{error.sentence} It shows: {shown.subject}, issued by {shown.issuer}, valid to {shown.not_after:%Y-%m-%d}.",
        f"{error.next_step} Its fingerprint (SHA-256), for “{title}” (--{field.replace('_', '-')}): {shown.sha256}",
        f"SHA-256 {shown.sha256}\n{error.detail}",
        fills=((field, shown.sha256),),
    )


def _shown(host: str, port: int, tls: TlsSettings, timeout: float) -> CertificateFacts | None:
    """What the server shows, for a person to look at; None where even that can't be had."""
    try:
        return fetch_certificate(host, port, settings=tls, timeout=timeout)
    except FerryError:
        return None
