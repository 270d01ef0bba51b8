"""How the declared fields of a web server become encryption, login and a pool of connections."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from core.model.errors import ConfigurationError
from core.nodes.base import OpenContext
from core.nodes.web.fields import WebFields
from core.wire.host import is_loopback
from core.wire.http import HttpPool, system_proxy
from core.wire.tls import TlsSettings


def tls_settings(fields: WebFields, context: OpenContext) -> TlsSettings:
    """Whom to trust and who we say we are."""
    return TlsSettings(
        ca_file=_path(fields.ca_file),
        client_cert=_path(fields.client_cert),
        client_key=_path(fields.client_key),
        client_key_password=context.secret("client_key_password") if fields.client_cert else None,
        pinned_sha256=fields.pinned_certificate,
    )


def proxy_of(fields: WebFields) -> str | None:
    """The system's proxy for this server, where it is to be used and there is one."""
    return system_proxy(fields.url) if fields.trust_env else None


def open_pool(
    fields: WebFields,
    *,
    headers: Mapping[str, str],
    tls: TlsSettings,
    proxy: str | None,
    accept_gzip: bool = False,
) -> HttpPool:
    """Connections to the server; none is opened yet."""
    return HttpPool(
        fields.url,
        headers=headers,
        tls=tls,
        connect_timeout=fields.connect_timeout,
        idle_timeout=fields.idle_timeout,
        limit=fields.connections,
        proxy=proxy,
        accept_gzip=accept_gzip,
    )


def login_headers(fields: WebFields, context: OpenContext) -> dict[str, str]:
    """User name and password (RFC 7617), and the extra header.

    Raises
    ------
    ConfigurationError
        A user name that can't be sent, or a header's name without a value.
    """
    headers: dict[str, str] = {}
    if fields.username:
        if ":" in fields.username:
            raise ConfigurationError(
                "A user name can't have a colon in it.", "Correct the user name of the node.", code="fields"
            )
        login = f"{fields.username}:{context.secret('password') or ''}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
    if fields.header_name:
        value = context.secret("header_value")
        if not value:
            raise ConfigurationError(
                f"The header {fields.header_name} has no value.",
                "Enter the value of the extra header, or leave its name empty.",
                code="fields",
            )
        headers[fields.header_name] = value
    return headers


def plain_http_warnings(fields: WebFields, *, has_login: bool) -> list[str]:
    """What travels unencrypted to another computer."""
    if fields.is_https or is_loopback(fields.host):
        return []
    found = []
    if has_login:
        found.append(
            f"The login would travel unencrypted to {fields.host}: anybody in between can read it. "
            "Use https if the server offers it."
        )
    found.append(f"Images and patient data would travel unencrypted to {fields.host}.")
    return found


def _path(value: str) -> Path | None:
    return Path(value).expanduser() if value else None
