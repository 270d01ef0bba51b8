"""The step of a diagnosis that looks whether the token service is reached, and at its certificate."""

from __future__ import annotations

from urllib.parse import urlsplit

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import FerryError
from core.nodes.web.checklist import failed_step
from core.nodes.web.trust import distrusted
from core.wire.oauth import TokenSource
from core.wire.tls import fetch_certificate

SIGN_IN_REACHED = "Sign-in reached"
FIELD = "oauth_pinned_certificate"


def sign_in_reached(tokens: TokenSource, url: str, *, title: str, timeout: float, proxied: bool) -> DiagnosisStep:
    """Whether the token endpoint is reached; one whose certificate isn't trusted can be trusted from here.

    Parameters
    ----------
    url : str
        Of the endpoint.
    title : str
        Of the field that names the one certificate of the endpoint to trust.
    timeout : float
        Seconds for looking at its certificate.
    proxied : bool
        The way goes through a proxy: the certificate can't be looked at.
    """
    where = urlsplit(url)
    error = tokens.reach()
    if error is None:
        return DiagnosisStep(SIGN_IN_REACHED, StepResult.OK, where.netloc)
    if error.code != "tls":
        return failed_step(SIGN_IN_REACHED, error)
    shown = None
    if not proxied:
        try:
            shown = fetch_certificate(where.hostname or "", where.port or 443, timeout=timeout)
        except FerryError:
            shown = None  # what was wrong is told all the same
    return distrusted(SIGN_IN_REACHED, error, shown, field=FIELD, title=title)
