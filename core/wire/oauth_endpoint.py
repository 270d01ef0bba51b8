"""One question to an OAuth2 token endpoint (RFC 6749 sections 4.4, 5), and what its refusal means in plain words."""

from __future__ import annotations

import base64
import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote_plus, urlsplit

from core.model.errors import AnswerError, ConfigurationError, FerryError, TransportError, TransportFault
from core.model.outcome import FailureClass
from core.wire.abort import Abort
from core.wire.http import Answer, HttpPool
from core.wire.retry_after import retry_after
from core.wire.status import answer_error, http_failure
from core.wire.tls import TlsSettings

_FORM = "application/x-www-form-urlencoded"
_LIMIT = 256 << 10  # bytes of an answer
_DETAIL = 1000  # characters of an answer that are shown
_UNTOLD = 600.0  # seconds a token is taken to live where the endpoint doesn't say (RFC 6749 section 5.1 lets it)
_LOOK = 0.05
_AADSTS = re.compile(r"AADSTS(\d{4,8})")

_TRANSPORT = {TransportFault.TLS: "oauth-tls", TransportFault.PROTOCOL: "oauth-not-the-server"}
_ERRORS = {  # RFC 6749 section 5.2, RFC 8707 section 2
    "invalid_client": "oauth-client",
    "unauthorized_client": "oauth-grant",
    "unsupported_grant_type": "oauth-grant",
    "invalid_grant": "oauth-grant",
    "invalid_scope": "oauth-scope",
    "invalid_target": "oauth-scope",
    "invalid_resource": "oauth-scope",
    "access_denied": "oauth-denied",
    "temporarily_unavailable": "oauth-unavailable",
    "server_error": "oauth-unavailable",
}
_MICROSOFT = {  # https://learn.microsoft.com/entra/identity-platform/reference-error-codes
    50105: "oauth-denied",
    53003: "oauth-denied",
    65001: "oauth-denied",
    70001: "oauth-client-unknown",
    700016: "oauth-client-unknown",
    7000112: "oauth-client-disabled",
    7000215: "oauth-client",
    7000216: "oauth-client",
    7000218: "oauth-client",
    7000222: "oauth-secret-expired",
    90002: "oauth-tenant",
    90019: "oauth-tenant",
    900021: "oauth-tenant",
    900023: "oauth-tenant",
    900382: "oauth-tenant",
    70011: "oauth-scope",
    90009: "oauth-scope",
    500011: "oauth-scope",
    501051: "oauth-denied",
    650057: "oauth-scope",
    900144: "oauth-scope",
    1002012: "oauth-scope",
    90033: "oauth-unavailable",
    90036: "oauth-unavailable",
}


class ClientLogin(StrEnum):
    """How the client proves who it is (RFC 6749 section 2.3.1; the names of OpenID Connect Core section 9)."""

    POST = "client_secret_post"  # client id and secret in the body
    BASIC = "client_secret_basic"  # in the header Authorization


@dataclass(frozen=True, slots=True)
class Granted:
    """A token as it was given, and the seconds for which it is valid."""

    value: str = field(repr=False)
    lifetime: float


class TokenEndpoint:
    """Asks one token endpoint for tokens of one client. Thread-safe.

    Parameters
    ----------
    url
        Of the endpoint; may have a query (RFC 6749 section 3.2), never a login.
    node : str
        Whose token it is, for sentences.
    scope, audience, resource
        What the token is for; each is sent where it isn't empty. Services differ in which one they want.
    proxy
        As for `HttpPool`.
    connect_timeout, idle_timeout
        Seconds; both together bound a whole question.

    Raises
    ------
    ConfigurationError
        The address can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        node: str,
        client_id: str,
        secret: str,
        scope: str = "",
        audience: str = "",
        resource: str = "",
        login: ClientLogin = ClientLogin.POST,
        tls: TlsSettings | None = None,
        proxy: str | None = None,
        connect_timeout: float = 10.0,
        idle_timeout: float = 30.0,
    ) -> None:
        parts = urlsplit(url.strip())
        if parts.fragment:
            raise ConfigurationError(
                "The address of the token endpoint has a # in it.", "Leave the part from # on away.", code="fields"
            )
        self.node = node
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._client_id = client_id
        self._secret = secret
        self._asked_for = {"scope": scope.strip(), "audience": audience.strip(), "resource": resource.strip()}
        self._login = login
        self._seconds = connect_timeout + idle_timeout
        self._pool = HttpPool(
            f"{parts.scheme}://{parts.netloc}",
            headers={"Accept": "application/json"},
            tls=tls,
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout,
            limit=1,
            proxy=proxy,
        )

    @property
    def where(self) -> str:
        """ "host:port", for sentences."""
        return self._pool.where

    def __repr__(self) -> str:
        return f"TokenEndpoint({self.where})"

    def close(self) -> None:
        self._pool.close()

    def ask(self, *, abort: Abort | None = None) -> Granted:
        """A new token.

        Raises
        ------
        AnswerError
            Code "oauth-…": none was given, or no answer came.
        TransportError
            ``ABORTED`` only.
        """
        if not self._secret:
            raise self._error("oauth-no-secret")
        body, headers = self._question()
        try:
            with _bounded(self._seconds, abort) as bound:
                answer = self._pool.fetch(
                    "POST",
                    self._path,
                    body=body,
                    content_type=_FORM,
                    headers=headers,
                    abort=bound,
                    idempotent=True,
                    limit=_LIMIT,
                )
        except TransportError as error:
            if abort is not None:
                abort.check()
            code = _TRANSPORT.get(error.fault, "oauth-unreachable")
            if error.fault is TransportFault.ABORTED:
                raise self._error(code, detail=f"{self.where} did not answer within {self._seconds:g} s.") from error
            raise self._error(code, detail=f"{error.sentence} {error.next_step} {error.detail}".strip()) from error
        return self._granted(answer)

    def reach(self) -> TransportError | None:
        """Why no connection comes about; None where one does. Asks without saying who asks."""
        try:
            self._pool.fetch("HEAD", "/", idempotent=True, limit=_LIMIT)
        except TransportError as error:
            # Once connected, whatever it answers to this odd question says nothing about the next one.
            return error if not error.request_sent else None
        return None

    def again(self, error: FerryError) -> FerryError:
        """A fresh error that says the same, for another thread."""
        status = error.status if isinstance(error, AnswerError) else 0
        wait = error.retry_after if isinstance(error, AnswerError) else None
        return self._error(error.code, status=status, detail=error.detail, retry_after=wait)

    def rest_after(self, error: FerryError, soon: float, later: float) -> float:
        """Seconds in which it is not asked again after a failure: what it asked for, but `later` at the most."""
        wait = error.retry_after if isinstance(error, AnswerError) else None
        person = http_failure(error, side="", node=self.node).cls is FailureClass.PERSON
        return min(max(wait or 0.0, later if person else soon), later)

    # ------------------------------------------------------------------------------------------------------

    def _question(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the request (RFC 6749 section 4.4.2)."""
        from oauthlib.oauth2 import BackendApplicationClient

        extra = {name: value for name, value in self._asked_for.items() if value and name != "scope"}
        scope = self._asked_for["scope"].split() or None
        client = BackendApplicationClient(self._client_id)
        if self._login is ClientLogin.BASIC:
            pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret)}".encode()
            login = {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}
            return str(client.prepare_request_body(scope=scope, **extra)).encode("ascii"), login
        body = client.prepare_request_body(scope=scope, include_client_id=True, client_secret=self._secret, **extra)
        return str(body).encode("ascii"), {}

    def _granted(self, answer: Answer) -> Granted:
        found = _json_object(answer.body)
        if 300 <= answer.status < 400:
            raise self._error(
                "oauth-redirect", answer.status, f"It names {_shown_address(answer.headers.get('location', ''))}."
            )
        if answer.status != 200 or found is None or "error" in found:
            raise self._refused(answer, found)
        return self._token_in(answer, found)

    def _token_in(self, answer: Answer, found: dict[str, Any]) -> Granted:
        from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error

        try:
            token = BackendApplicationClient(self._client_id).parse_request_body_response(
                answer.body.decode("utf-8", "replace")
            )
        except (OAuth2Error, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise self._error("oauth-unexpected", 200, f"It gave {_names(found)}: {type(error).__name__}.") from error
        value, kind = token.get("access_token"), token.get("token_type", "Bearer")
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
            raise self._error("oauth-unexpected", 200, f"It gave {_names(found)}, and no usable access_token.")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._error("oauth-unexpected", 200, "The token is not of the type Bearer.")
        lifetime = token.get("expires_in")
        lives = isinstance(lifetime, int) and lifetime > 0 and math.isfinite(lifetime)
        return Granted(value, float(lifetime) if lives else _UNTOLD)

    def _refused(self, answer: Answer, found: dict[str, Any] | None) -> AnswerError:
        """What an answer without a token means."""
        wait = retry_after(answer.headers)
        kind = answer.headers.get("content-type", "")
        start = answer.body[:_DETAIL].decode("utf-8", "replace").strip()
        if found is None:
            code = _without_words(answer.status)
            return self._error(code, answer.status, f"{answer.status} {start} ({kind or 'no content type'})", wait)
        word, told = str(found.get("error", "")), str(found.get("error_description", ""))
        number = _AADSTS.search(told)
        code = _MICROSOFT.get(int(number[1]), "") if number else ""
        code = code or _ERRORS.get(word) or _without_words(answer.status, "oauth-refused")
        if answer.status in (429, 503) and number is None:
            code = "oauth-unavailable"
        return self._error(code, answer.status, f"{answer.status} {word}: {told}"[:_DETAIL], wait)

    def _error(self, code: str, status: int = 0, detail: str = "", retry_after: float | None = None) -> AnswerError:
        """An error whose detail names the endpoint, and never a secret."""
        for secret in filter(None, (self._secret, quote_plus(self._secret))):
            detail = detail.replace(secret, "…")
        if self.where not in detail:
            detail = f"{self.where}: {detail}".removesuffix(": ")
        return answer_error(code, node=self.node, status=status, detail=detail, retry_after=retry_after)


def _without_words(status: int, other: str = "oauth-not-the-server") -> str:
    """The code for a status where no OAuth error came with it."""
    if status in (408, 425, 429) or status >= 500:
        return "oauth-unavailable"
    if status in (401, 403) and other == "oauth-refused":
        return "oauth-client"
    return other


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _names(found: dict[str, Any]) -> str:
    """The names of what came; never the values: one of them may be a token."""
    return ", ".join(sorted(str(name)[:40] for name in found)[:20]) or "nothing"


def _shown_address(location: str) -> str:
    """An address without its query, in which there may be secrets."""
    return location.partition("?")[0][:200] or "no address"


@contextmanager
def _bounded(seconds: float, abort: Abort | None) -> Iterator[Abort]:
    """A switch for one request that is thrown after `seconds`, and with the caller's own."""
    if abort is not None:
        abort.check()
    bound, done = Abort(), threading.Event()

    def watch() -> None:
        passed = 0.0
        while passed < seconds and not done.wait(_LOOK):
            passed += _LOOK
            if abort is not None and abort.aborted:
                break
        if not done.is_set():
            bound.abort()

    threading.Thread(target=watch, name="token-watch", daemon=True).start()
    try:
        yield bound
    finally:
        done.set()
