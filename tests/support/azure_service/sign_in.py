"""The token endpoint of a tenant (OAuth2 client credentials, v2.0), and what its tokens are good for."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote_plus

from tests.support.azure_service.listener import Request

AUDIENCE = "https://dicom.healthcareapis.azure.com"
OWNER, READER = "DICOM Data Owner", "DICOM Data Reader"


@dataclass
class Client:
    """An application's registration.

    Attributes
    ----------
    secrets : dict[str, float | None]
        Its secrets, and when each expires by the clock (None: never).
    role : str
        On the DICOM service; empty for none.
    """

    client_id: str = "5d2c9f4e-0b7a-4a3e-9c61-7f0f3c1b2a10"
    secrets: dict[str, float | None] = field(default_factory=lambda: {"s3cr~t.Value": None})
    role: str = OWNER
    enabled: bool = True


@dataclass(frozen=True)
class Grant:
    """What a token is good for."""

    client_id: str
    audience: str
    ends: float


class SignIn:
    """Gives tokens, and knows those that it gave. Thread-safe.

    Attributes
    ----------
    lifetime : int
        Seconds for which a token is valid.
    given : int
        How many tokens were given.
    """

    def __init__(self, tenant: str, client: Client, clock: Callable[[], float]) -> None:
        self.tenant = tenant
        self.clients = {client.client_id: client}
        self.lifetime = 3599
        self.given = 0
        self.asked = 0
        self._clock = clock
        self._grants: dict[str, Grant] = {}
        self._lock = threading.Lock()

    def revoke_all(self) -> None:
        """Every token given so far has expired."""
        with self._lock:
            self._grants.clear()

    def role_of(self, authorization: str) -> str | None:
        """The role behind a header ``Authorization``; None when its token is not valid here now."""
        kind, _, token = authorization.partition(" ")
        with self._lock:
            grant = self._grants.get(token) if kind.lower() == "bearer" else None
        if grant is None or grant.audience != AUDIENCE or self._clock() >= grant.ends:
            return None
        return self.clients[grant.client_id].role

    def answer(self, request: Request) -> None:
        """``POST /{tenant}/oauth2/v2.0/token``."""
        self.asked += 1
        if len(request.parts) != 4 or request.parts[1:] != ["oauth2", "v2.0", "token"] or request.command != "POST":
            request.answer(404)
            return
        form = {name: values[0] for name, values in parse_qs(request.whole().decode()).items()}
        if request.parts[0] != self.tenant:
            told = f"AADSTS90002: Tenant '{request.parts[0]}' not found. Check the tenant ID."
            _refuse(request, 400, "invalid_request", told, 90002)
            return
        if form.get("grant_type") != "client_credentials":
            _refuse(
                request, 400, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant.", 70003
            )
            return
        client_id, secret = _login(request, form)
        client = self.clients.get(client_id)
        if client is None:
            told = f"AADSTS700016: Application with identifier '{client_id}' was not found in the directory."
            _refuse(request, 400, "unauthorized_client", told, 700016)
        elif not client.enabled:
            told = f"AADSTS7000112: Application '{client_id}' is disabled."
            _refuse(request, 401, "unauthorized_client", told, 7000112)
        elif secret not in client.secrets:
            told = "AADSTS7000215: Invalid client secret provided. Send the secret's value, not its ID."
            _refuse(request, 401, "invalid_client", told, 7000215)
        elif (ends := client.secrets[secret]) is not None and self._clock() >= ends:
            told = f"AADSTS7000222: The provided client secret keys for app '{client_id}' are expired."
            _refuse(request, 401, "invalid_client", told, 7000222)
        else:
            self._grant(request, client_id, form.get("scope", ""))

    def _grant(self, request: Request, client_id: str, scope: str) -> None:
        if not scope.endswith("/.default"):
            told = (
                f"AADSTS1002012: The provided value for scope {scope} is not valid; it must be suffixed with /.default."
            )
            _refuse(request, 400, "invalid_scope", told, 1002012)
            return
        audience = scope.removesuffix("/.default")
        if audience != AUDIENCE:
            told = f"AADSTS500011: The resource principal named {audience} was not found in the tenant."
            _refuse(request, 400, "invalid_resource", told, 500011)
            return
        token = "eyJ0." + secrets.token_urlsafe(48)
        with self._lock:
            self.given += 1
            self._grants[token] = Grant(client_id, audience, self._clock() + self.lifetime)
        found = {
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "ext_expires_in": self.lifetime,
            "access_token": token,
        }
        request.answer_json(200, found, headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})


def _login(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from the header or the body (RFC 6749 section 2.3.1)."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        name, _, secret = base64.b64decode(value).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def _refuse(request: Request, status: int, error: str, told: str, code: int) -> None:
    found = {"error": error, "error_description": told, "error_codes": [code], "trace_id": "0", "correlation_id": "0"}
    request.answer_json(status, found)
